//! Network sysctls of the nodes and of the host's end of the LAN.

use daymark_model::AddressFamily;
use miette::{IntoDiagnostic, Result, WrapErr};

use super::build::UPLINK;
use crate::cluster::spec::ClusterSpec;

/// On the host, before the bridge is up. Other interfaces of the host are left alone.
pub fn bridge(name: &str, spec: &ClusterSpec) -> Result<()> {
    if !spec.has(AddressFamily::Ipv6) {
        let _ = write(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
        return Ok(());
    }
    // Nothing on this LAN may change the host's routes, and nobody needs to wait for its address.
    for (key, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")] {
        write(&format!("ipv6/conf/{name}/{key}"), value)?;
    }
    Ok(())
}

/// Of the calling thread's network namespace, a node's, before its interfaces are up.
pub fn node(spec: &ClusterSpec) -> Result<()> {
    let always = [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        // The data plane's own source ports for masquerading; they are those of IPv6, too.
        ("ipv4/ip_local_reserved_ports", "10000-32767"),
        // A node's sockets may send from addresses that move, such as LoadBalancer addresses.
        ("ipv4/ip_nonlocal_bind", "1"),
        ("ipv4/conf/all/arp_ignore", "1"),
    ];
    for (key, value) in always {
        write(key, value)?;
    }
    if !spec.has(AddressFamily::Ipv6) {
        for which in ["all", "default"] {
            let _ = write(&format!("ipv6/conf/{which}/disable_ipv6"), "1");
        }
        return Ok(());
    }
    write("ipv6/ip_nonlocal_bind", "1")?;
    for which in ["all", "default", UPLINK] {
        for (key, value) in
            [("disable_ipv6", "0"), ("forwarding", "1"), ("accept_ra", "0"), ("accept_dad", "0")]
        {
            write(&format!("ipv6/conf/{which}/{key}"), value)?;
        }
    }
    Ok(())
}

fn write(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{key}");
    std::fs::write(&path, value).into_diagnostic().wrap_err_with(|| format!("cannot set {path} to {value}"))
}
