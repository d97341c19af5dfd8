//! Building the LAN and taking it down again. Every step is idempotent, so that a half-built one can be
//! finished or removed.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use daymark_model::AddressFamily;
use futures::TryStreamExt;
use ipnet::IpNet;
use miette::{IntoDiagnostic, Result, WrapErr};
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::{RouteMessage, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{egress, netns, sysctl};
use crate::cluster::paths::Paths;
use crate::cluster::spec::{ClusterSpec, NodeSpec};

/// Name of a node's interface on the LAN, inside the node.
pub const UPLINK: &str = "eth0";

/// A netlink handle in the calling thread's network namespace.
pub fn netlink() -> Result<Handle> {
    let (connection, handle, _) =
        rtnetlink::new_connection().into_diagnostic().wrap_err("cannot open netlink")?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Makes bridge, namespaces, cables, addresses and routes.
pub async fn build(spec: &ClusterSpec, paths: &Paths) -> Result<()> {
    let host = netlink()?;
    build_host(&host, spec).await?;
    let ways_out = egress::families(spec);
    for node in spec.all_nodes() {
        let namespace = paths.netns(&node.name);
        if netns::exists(&namespace) {
            continue;
        }
        netns::create(&namespace)?;
        lay_cable(&host, spec, &node, &File::open(&namespace).into_diagnostic()?).await?;
        netns::inside(&namespace, || build_node(spec, &node, &ways_out))?;
    }
    if spec.egress { egress::enable(spec) } else { Ok(()) }
}

async fn build_host(host: &Handle, spec: &ClusterSpec) -> Result<()> {
    let bridge = spec.bridge();
    if index(host, &bridge).await?.is_none() {
        // A fixed address: a bridge's own changes with its ports, and nodes cache it.
        let link = LinkBridge::new(&bridge).address(bridge_mac(spec)).build();
        host.link().add(link).execute().await.into_diagnostic().wrap_err("cannot make the LAN bridge")?;
        let at = must_index(host, &bridge).await?;
        sysctl::bridge(&bridge, spec)?;
        set_up(host, at).await?;
        for (ip, lan) in spec.gateways().iter().zip(spec.lan.iter()) {
            add_address(host, at, ip, lan.prefix_len()).await?;
        }
    }
    // Without these, a packet for a pod or a cluster IP would leave by the default route.
    for net in inner_networks(spec) {
        add_unreachable(host, net).await?;
    }
    Ok(())
}

fn bridge_mac(spec: &ClusterSpec) -> Vec<u8> {
    let of_lan = match spec.gateways().primary() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => {
            let [_, _, _, _, _, b, c, d, ..] = ip.octets();
            [6, b, c, d]
        }
    };
    [&[0x02, 0xda], &of_lan[..]].concat()
}

/// What only the nodes reach.
fn inner_networks(spec: &ClusterSpec) -> impl Iterator<Item = IpNet> + use<> {
    spec.pod_cidr.iter().chain(spec.service_cidr.iter())
}

/// A veth pair whose far end is born inside the node's namespace: moving it there would cost an RCU
/// grace period.
async fn lay_cable(host: &Handle, spec: &ClusterSpec, node: &NodeSpec, namespace: &File) -> Result<()> {
    let bridge = must_index(host, &spec.bridge()).await?;
    let far = LinkMessageBuilder::<LinkUnspec>::new()
        .name(UPLINK.to_owned())
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    let near = LinkMessageBuilder::<LinkVeth>::new(&spec.cable(node), UPLINK)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
        .controller(bridge)
        .up()
        .build();
    host.link()
        .add(near)
        .execute()
        .await
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot connect {}", node.name))
}

async fn build_node(spec: &ClusterSpec, node: &NodeSpec, ways_out: &[AddressFamily]) -> Result<()> {
    let inside = netlink()?;
    let (lo, uplink) = (must_index(&inside, "lo").await?, must_index(&inside, UPLINK).await?);
    sysctl::node(spec)?;
    set_up(&inside, lo).await?;
    set_up(&inside, uplink).await?;
    for (ip, lan) in node.ips.iter().zip(spec.lan.iter()) {
        add_address(&inside, uplink, ip, lan.prefix_len()).await?;
    }
    for other in spec.all_nodes().into_iter().filter(|n| n.index != node.index) {
        for pods in other.pod_cidrs.iter() {
            add_via(&inside, pods, other.ips.of(AddressFamily::of(&pods.addr()))).await?;
        }
    }
    for net in node.pod_cidrs.iter().chain(spec.service_cidr.iter()) {
        add_unreachable(&inside, net).await?;
    }
    for family in ways_out {
        let anywhere = match family {
            AddressFamily::Ipv4 => IpNet::V4(Default::default()),
            AddressFamily::Ipv6 => IpNet::V6(Default::default()),
        };
        add_via(&inside, anywhere, spec.gateways().of(*family)).await?;
    }
    Ok(())
}

/// Removes everything that [`build`] made; what is missing is fine.
pub async fn remove(spec: &ClusterSpec, paths: &Paths) -> Result<()> {
    let host = netlink()?;
    if spec.egress {
        egress::disable(spec);
    }
    for node in spec.all_nodes() {
        remove_link(&host, &spec.cable(&node)).await?;
        netns::remove(&paths.netns(&node.name));
    }
    remove_link(&host, &spec.bridge()).await?;
    for net in inner_networks(spec) {
        let _ = host.route().del(unreachable(net)?).execute().await;
    }
    Ok(())
}

/// A missing interface is fine; a cable also goes by itself, when the kernel gets to its node's namespace.
async fn remove_link(handle: &Handle, name: &str) -> Result<()> {
    let Some(at) = index(handle, name).await? else { return Ok(()) };
    match handle.link().del(at).execute().await {
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::ENODEV => Ok(()),
        done => done.into_diagnostic().wrap_err_with(|| format!("cannot remove interface {name}")),
    }
}

/// The index of an interface, if it exists.
pub async fn index(handle: &Handle, name: &str) -> Result<Option<u32>> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|l| l.header.index)),
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::ENODEV => Ok(None),
        Err(e) => Err(e).into_diagnostic().wrap_err_with(|| format!("cannot look up interface {name}")),
    }
}

async fn must_index(handle: &Handle, name: &str) -> Result<u32> {
    index(handle, name).await?.ok_or_else(|| miette::miette!("interface {name} is missing"))
}

/// The hardware address of an interface.
pub async fn mac(handle: &Handle, index: u32) -> Result<[u8; 6]> {
    let mut links = handle.link().get().match_index(index).execute();
    let link = links.try_next().await.into_diagnostic()?;
    link.and_then(|l| {
        l.attributes.iter().find_map(|a| match a {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => None,
        })
    })
    .ok_or_else(|| miette::miette!("interface {index} has no hardware address"))
}

/// The name of an interface, if it exists.
pub async fn name(handle: &Handle, index: u32) -> Result<Option<String>> {
    let mut links = handle.link().get().match_index(index).execute();
    let link = links.try_next().await.into_diagnostic()?;
    Ok(link.and_then(|l| {
        l.attributes.into_iter().find_map(|a| match a {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        })
    }))
}

async fn set_up(handle: &Handle, index: u32) -> Result<()> {
    let change = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(change).execute().await.into_diagnostic().wrap_err("cannot set an interface up")
}

async fn add_address(handle: &Handle, index: u32, ip: IpAddr, prefix: u8) -> Result<()> {
    let mut address = handle.address().add(index, ip, prefix);
    if ip.is_ipv6() {
        // Usable at once: we gave the addresses out, so nobody else has them.
        address.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    }
    exists_is_fine(address.execute().await).wrap_err_with(|| format!("cannot add address {ip}/{prefix}"))
}

async fn add_via(handle: &Handle, net: IpNet, gateway: Option<IpAddr>) -> Result<()> {
    let Some(gateway) = gateway else { return Ok(()) };
    let route = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(net.network(), net.prefix_len())
        .and_then(|route| route.gateway(gateway))
        .into_diagnostic()?
        .build();
    exists_is_fine(handle.route().add(route).execute().await)
        .wrap_err_with(|| format!("cannot add the route to {net} by {gateway}"))
}

async fn add_unreachable(handle: &Handle, net: IpNet) -> Result<()> {
    exists_is_fine(handle.route().add(unreachable(net)?).execute().await)
        .wrap_err_with(|| format!("cannot add the unreachable route for {net}"))
}

fn unreachable(net: IpNet) -> Result<RouteMessage> {
    let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(net.network(), net.prefix_len());
    Ok(route.into_diagnostic()?.kind(RouteType::Unreachable).build())
}

fn exists_is_fine(done: Result<(), rtnetlink::Error>) -> Result<()> {
    match done {
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::EEXIST => Ok(()),
        other => other.into_diagnostic(),
    }
}
