//! The veth pair between a node and a pod, with the addresses, routes and neighbours of both sides.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use daymark_model::PerFamily;
use futures::TryStreamExt;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use sha2::{Digest, Sha256};

use crate::runtime::PodLink;

/// The pod's gateways: addresses that no interface has; static neighbour entries answer for them.
const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
/// Hardware address of the node side of every pod's link.
pub const NODE_MAC: [u8; 6] = [0xee; 6];

/// Name of the pod's interface on the node: the same for the same pod, different for others.
pub fn interface_name(uid: &str) -> String {
    format!("dm{}", &hex::encode(Sha256::digest(uid))[..11])
}

/// Hardware address of the pod side, made from its primary address.
pub fn pod_mac(ip: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => {
            let digest = Sha256::digest(ip.octets());
            [digest[0], digest[1], digest[2], digest[3]]
        }
    };
    [0x0a, 0x58, a, b, c, d]
}

fn gateway(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { GATEWAY_V4 } else { GATEWAY_V6 }
}

/// A network of this address alone.
fn alone(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Joins a pod's network namespace to the node's. `node` must be a handle in the node's namespace.
pub async fn create(
    node: &Handle,
    netns: &Path,
    uid: &str,
    ips: PerFamily<IpAddr>,
    mtu: u32,
) -> Result<PodLink, String> {
    let name = interface_name(uid);
    delete(node, &name).await?;
    let pod_ns = File::open(netns).map_err(|error| format!("{}: {error}", netns.display()))?;
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name("eth0")
        .mtu(mtu)
        .address(pod_mac(ips.primary()).to_vec())
        .setns_by_fd(pod_ns.as_raw_fd())
        .build();
    let pair = LinkVeth::new(&name, "eth0")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .mtu(mtu)
        .address(NODE_MAC.to_vec())
        .build();
    node.link().add(pair).execute().await.map_err(|error| format!("making the link {name}: {error}"))?;
    let configured = async {
        let ifindex = node_side(node, &name, ips).await?;
        pod_side(pod_ns, ips).await?;
        Ok(PodLink { name: name.clone(), ifindex, ips })
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

/// All neighbours of this link are known, so an interface on it needs no link-local address and asks nobody.
/// Must run in the interface's network namespace, before it is up.
fn quiet_ipv6(name: &str, ips: PerFamily<IpAddr>) -> Result<(), String> {
    let conf = format!("/proc/sys/net/ipv6/conf/{name}");
    if !ips.iter().any(|ip| ip.is_ipv6()) {
        let _ = std::fs::write(format!("{conf}/disable_ipv6"), "1");
        return Ok(());
    }
    for (key, value) in [("disable_ipv6", "0"), ("addr_gen_mode", "1"), ("accept_ra", "0")] {
        let path = format!("{conf}/{key}");
        std::fs::write(&path, value).map_err(|error| format!("setting {path} to {value}: {error}"))?;
    }
    Ok(())
}

async fn node_side(node: &Handle, name: &str, ips: PerFamily<IpAddr>) -> Result<u32, String> {
    quiet_ipv6(name, ips)?;
    let index = index_of(node, name).await?.ok_or_else(|| format!("the link {name} vanished"))?;
    let up = LinkUnspec::new_with_index(index).up().build();
    node.link().set(up).execute().await.map_err(|error| format!("bringing {name} up: {error}"))?;
    for ip in ips.iter() {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(ip, alone(ip))
            .map_err(|error| format!("a route to {ip}: {error}"))?
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        let added = node.route().add(route).replace().execute().await;
        added.map_err(|error| format!("adding the route to {ip}: {error}"))?;
        neighbour(node, index, ip, &pod_mac(ips.primary())).await?;
    }
    Ok(index)
}

async fn pod_side(netns: File, ips: PerFamily<IpAddr>) -> Result<(), String> {
    let (connection, pod) = connect_in(netns, ips)?;
    let driver = tokio::spawn(connection);
    let configured = async {
        let index = index_of(&pod, "eth0").await?.ok_or("the pod has no eth0")?;
        let up = LinkUnspec::new_with_index(index).up().build();
        pod.link().set(up).execute().await.map_err(|error| format!("bringing eth0 up: {error}"))?;
        for ip in ips.iter() {
            pod_address(&pod, index, ip).await?;
        }
        Ok(())
    };
    let result = configured.await;
    driver.abort();
    result
}

/// An address of the pod, and its family's way out.
async fn pod_address(pod: &Handle, index: u32, ip: IpAddr) -> Result<(), String> {
    let mut address = pod.address().add(index, ip, alone(ip));
    if ip.is_ipv6() {
        // Usable at once; nobody else is on this link.
        address.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    }
    address.execute().await.map_err(|error| format!("giving eth0 its address {ip}: {error}"))?;
    let gateway = gateway(ip);
    neighbour(pod, index, gateway, &NODE_MAC).await?;
    let failed =
        |error: &dyn std::fmt::Display| format!("adding the pod's default route by {gateway}: {error}");
    let anywhere = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let default = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(anywhere, 0)
        .and_then(|route| route.gateway(gateway))
        .map_err(|error| failed(&error))?
        .output_interface(index)
        .onlink()
        .build();
    pod.route().add(default).execute().await.map_err(|error| failed(&error))
}

async fn neighbour(handle: &Handle, index: u32, ip: IpAddr, mac: &[u8; 6]) -> Result<(), String> {
    let entry =
        handle.neighbours().add(index, ip).link_layer_address(mac).state(NeighbourState::Permanent).replace();
    entry.execute().await.map_err(|error| format!("adding the neighbour {ip}: {error}"))
}

type Driver = rtnetlink::proto::Connection<rtnetlink::packet_route::RouteNetlinkMessage>;

/// A netlink connection whose socket is in another network namespace. A thread of its own enters it
/// and ends, so that no thread of the pool is ever left in the wrong one.
fn connect_in(netns: File, ips: PerFamily<IpAddr>) -> Result<(Driver, Handle), String> {
    let runtime = tokio::runtime::Handle::current();
    let failed = |error: io::Error| format!("entering the pod's network: {error}");
    let connect = move || {
        let enter = nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET);
        enter.map_err(|errno| failed(errno.into()))?;
        if ips.iter().any(|ip| ip.is_ipv6()) {
            quiet_ipv6("eth0", ips)?;
        }
        let _entered = runtime.enter();
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        Ok((connection, handle))
    };
    let thread = std::thread::Builder::new().name("pod-netns".into()).spawn(connect).map_err(failed)?;
    thread.join().map_err(|_| failed(io::Error::other("the thread panicked")))?
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
        let mac = pod_mac(Ipv4Addr::new(10, 244, 1, 9).into());
        assert_eq!(mac, [0x0a, 0x58, 10, 244, 1, 9]);
        let six = ["fd00:10:244:1::2", "fd00:10:244:2::2"].map(|ip| pod_mac(ip.parse().expect("address")));
        assert_ne!(six[0], six[1], "pods of different nodes differ");
        assert!([mac, six[0]].iter().all(|mac| mac[0] & 0b11 == 0b10));
    }
}
