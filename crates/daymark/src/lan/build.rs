//! Building the LAN and taking it down again. Every step is idempotent, so that a half-built one can be
//! finished or removed.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use miette::{IntoDiagnostic, Result, WrapErr};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{egress, netns};
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
    for node in spec.all_nodes() {
        let namespace = paths.netns(&node.name);
        if netns::exists(&namespace) {
            continue;
        }
        netns::create(&namespace)?;
        lay_cable(&host, spec, &node, &File::open(&namespace).into_diagnostic()?).await?;
        netns::inside(&namespace, || build_node(spec, &node))?;
    }
    if spec.egress { egress::enable(spec) } else { Ok(()) }
}

async fn build_host(host: &Handle, spec: &ClusterSpec) -> Result<()> {
    let bridge = spec.bridge();
    if index(host, &bridge).await?.is_none() {
        // A fixed address: a bridge's own changes with its ports, and nodes cache it.
        let octets = spec.gateway().octets();
        let mac = vec![0x02, 0xda, octets[0], octets[1], octets[2], octets[3]];
        let link = LinkBridge::new(&bridge).address(mac).up().build();
        host.link().add(link).execute().await.into_diagnostic().wrap_err("cannot make the LAN bridge")?;
        let at = must_index(host, &bridge).await?;
        add_address(host, at, spec.gateway(), spec.lan.prefix_len()).await?;
    }
    // Without these, a packet for a pod or a cluster IP would leave by the default route.
    for net in [spec.pod_cidr, spec.service_cidr] {
        add_unreachable(host, net).await?;
    }
    Ok(())
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

async fn build_node(spec: &ClusterSpec, node: &NodeSpec) -> Result<()> {
    let inside = netlink()?;
    let (lo, uplink) = (must_index(&inside, "lo").await?, must_index(&inside, UPLINK).await?);
    set_up(&inside, lo).await?;
    add_address(&inside, uplink, node.ip, spec.lan.prefix_len()).await?;
    set_up(&inside, uplink).await?;
    for other in spec.all_nodes().into_iter().filter(|n| n.index != node.index) {
        add_via(&inside, other.pod_cidr, other.ip).await?;
    }
    for net in [node.pod_cidr, spec.service_cidr] {
        add_unreachable(&inside, net).await?;
    }
    if spec.egress {
        add_via(&inside, Ipv4Net::default(), spec.gateway()).await?;
    }
    set_sysctls()
}

/// Sysctls of the calling thread's network namespace alone.
fn set_sysctls() -> Result<()> {
    let settings = [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        // The data plane's own source ports for masquerading.
        ("ipv4/ip_local_reserved_ports", "10000-32767"),
        // A node's sockets may send from addresses that move, such as LoadBalancer addresses.
        ("ipv4/ip_nonlocal_bind", "1"),
        ("ipv4/conf/all/arp_ignore", "1"),
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
    ];
    for (key, value) in settings {
        let path = format!("/proc/sys/net/{key}");
        match std::fs::write(&path, value) {
            Err(e) if key.starts_with("ipv4") => {
                return Err(e).into_diagnostic().wrap_err_with(|| format!("cannot set {path} to {value}"));
            }
            _ => {}
        }
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
    for net in [spec.pod_cidr, spec.service_cidr] {
        let _ = host.route().del(unreachable(net)).execute().await;
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

async fn add_address(handle: &Handle, index: u32, ip: Ipv4Addr, prefix: u8) -> Result<()> {
    let added = handle.address().add(index, ip.into(), prefix).execute().await;
    exists_is_fine(added).wrap_err_with(|| format!("cannot add address {ip}/{prefix}"))
}

async fn add_via(handle: &Handle, net: Ipv4Net, gateway: Ipv4Addr) -> Result<()> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(net.network(), net.prefix_len())
        .gateway(gateway)
        .build();
    exists_is_fine(handle.route().add(route).execute().await)
        .wrap_err_with(|| format!("cannot add the route to {net} by {gateway}"))
}

async fn add_unreachable(handle: &Handle, net: Ipv4Net) -> Result<()> {
    exists_is_fine(handle.route().add(unreachable(net)).execute().await)
        .wrap_err_with(|| format!("cannot add the unreachable route for {net}"))
}

fn unreachable(net: Ipv4Net) -> rtnetlink::packet_route::route::RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(net.network(), net.prefix_len())
        .kind(RouteType::Unreachable)
        .build()
}

fn exists_is_fine(done: Result<(), rtnetlink::Error>) -> Result<()> {
    match done {
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::EEXIST => Ok(()),
        other => other.into_diagnostic(),
    }
}
