//! The veth pair between a node and a pod, with the addresses, routes and neighbours of both sides.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use sha2::{Digest, Sha256};

use crate::runtime::PodLink;

/// The pod's gateway: an address that no interface has; a static neighbour entry answers for it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Hardware address of the node side of every pod's link.
pub const NODE_MAC: [u8; 6] = [0xee; 6];

/// Name of the pod's interface on the node: the same for the same pod, different for others.
pub fn interface_name(uid: &str) -> String {
    format!("dm{}", &hex::encode(Sha256::digest(uid))[..11])
}

/// Hardware address of the pod side, made from its address.
pub fn pod_mac(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// Joins a pod's network namespace to the node's. `node` must be a handle in the node's namespace.
pub async fn create(
    node: &Handle,
    netns: &Path,
    uid: &str,
    ip: Ipv4Addr,
    mtu: u32,
) -> Result<PodLink, String> {
    let name = interface_name(uid);
    delete(node, &name).await?;
    let pod_ns = File::open(netns).map_err(|error| format!("{}: {error}", netns.display()))?;
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name("eth0")
        .mtu(mtu)
        .address(pod_mac(ip).to_vec())
        .setns_by_fd(pod_ns.as_raw_fd())
        .build();
    let pair = LinkVeth::new(&name, "eth0")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .mtu(mtu)
        .address(NODE_MAC.to_vec())
        .build();
    node.link().add(pair).execute().await.map_err(|error| format!("making the link {name}: {error}"))?;
    let configured = async {
        let ifindex = node_side(node, &name, ip).await?;
        pod_side(pod_ns, ip).await?;
        Ok(PodLink { name: name.clone(), ifindex, ip: IpAddr::V4(ip) })
    };
    let result: Result<PodLink, String> = configured.await;
    if result.is_err() {
        let _ = delete(node, &name).await;
    }
    result
}

/// Removes a link; one that isn't there is fine.
pub async fn delete(node: &Handle, name: &str) -> Result<(), String> {
    let Some(index) = index_of(node, name).await? else { return Ok(()) };
    match node.link().del(index).execute().await {
        Ok(()) => Ok(()),
        Err(error) if gone(&error) => Ok(()),
        Err(error) => Err(format!("removing the link {name}: {error}")),
    }
}

/// Index of an interface of the node.
pub async fn index_of(node: &Handle, name: &str) -> Result<Option<u32>, String> {
    let mut found = node.link().get().match_name(name.to_owned()).execute();
    match found.try_next().await {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(format!("looking for the link {name}: {error}")),
    }
}

fn gone(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -libc::ENODEV)
}

async fn node_side(node: &Handle, name: &str, ip: Ipv4Addr) -> Result<u32, String> {
    // Nobody speaks IPv6 on this link: no router solicitations, no link-local address.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
    let index = index_of(node, name).await?.ok_or_else(|| format!("the link {name} vanished"))?;
    let up = LinkUnspec::new_with_index(index).up().build();
    node.link().set(up).execute().await.map_err(|error| format!("bringing {name} up: {error}"))?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(ip, 32)
        .output_interface(index)
        .scope(RouteScope::Link)
        .build();
    let added = node.route().add(route).replace().execute().await;
    added.map_err(|error| format!("adding the route to {ip}: {error}"))?;
    neighbour(node, index, ip, &pod_mac(ip)).await?;
    Ok(index)
}

async fn pod_side(netns: File, ip: Ipv4Addr) -> Result<(), String> {
    let (connection, pod) =
        connect_in(netns).map_err(|error| format!("entering the pod's network: {error}"))?;
    let driver = tokio::spawn(connection);
    let configured = async {
        let index = index_of(&pod, "eth0").await?.ok_or("the pod has no eth0")?;
        let up = LinkUnspec::new_with_index(index).up().build();
        pod.link().set(up).execute().await.map_err(|error| format!("bringing eth0 up: {error}"))?;
        let address = pod.address().add(index, IpAddr::V4(ip), 32).execute().await;
        address.map_err(|error| format!("giving eth0 its address: {error}"))?;
        neighbour(&pod, index, GATEWAY, &NODE_MAC).await?;
        let default = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
            .gateway(GATEWAY)
            .output_interface(index)
            .onlink()
            .build();
        pod.route()
            .add(default)
            .execute()
            .await
            .map_err(|error| format!("adding the pod's default route: {error}"))
    };
    let result = configured.await;
    driver.abort();
    result
}

async fn neighbour(handle: &Handle, index: u32, ip: Ipv4Addr, mac: &[u8; 6]) -> Result<(), String> {
    let entry = handle
        .neighbours()
        .add(index, IpAddr::V4(ip))
        .link_layer_address(mac)
        .state(NeighbourState::Permanent)
        .replace();
    entry.execute().await.map_err(|error| format!("adding the neighbour {ip}: {error}"))
}

type Driver = rtnetlink::proto::Connection<rtnetlink::packet_route::RouteNetlinkMessage>;

/// A netlink connection whose socket is in another network namespace. A thread of its own enters it
/// and ends, so that no thread of the pool is ever left in the wrong one.
fn connect_in(netns: File) -> io::Result<(Driver, Handle)> {
    let runtime = tokio::runtime::Handle::current();
    let connect = move || {
        nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
        let _entered = runtime.enter();
        let (connection, handle, _) = rtnetlink::new_connection()?;
        io::Result::Ok((connection, handle))
    };
    let thread = std::thread::Builder::new().name("pod-netns".into()).spawn(connect)?;
    thread.join().map_err(|_| io::Error::other("the thread panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_and_differ() {
        let (one, two) = (interface_name("uid-1"), interface_name("uid-2"));
        assert!(one.starts_with("dm") && one.len() <= 15);
        assert_ne!(one, two);
    }

    #[test]
    fn hardware_addresses_are_unicast_and_local() {
        let mac = pod_mac(Ipv4Addr::new(10, 244, 1, 9));
        assert_eq!(mac, [0x0a, 0x58, 10, 244, 1, 9]);
        assert_eq!(mac[0] & 0b11, 0b10);
    }
}
