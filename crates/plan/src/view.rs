//! The node that tables are compiled for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::issue::SpecialAddress;

/// Which of a node's addresses serve node ports (`--nodeport-addresses`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Every address of the node; 127.0.0.1 and ::1 too, for processes of the node itself.
    #[default]
    All,
    /// The node's first address of each family.
    Primary,
    /// Those within these CIDRs, be they the node's or 127.0.0.1 and ::1.
    Within(Vec<IpNet>),
}

/// As kube-proxy reads the flag of that name: `primary`, or CIDRs with commas between.
impl FromStr for NodePortAddresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "primary" {
            return Ok(Self::Primary);
        }
        let parse = |cidr: &str| {
            let wrong = |_| format!("{cidr:?} is no CIDR such as 192.0.2.0/24, nor is the whole \"primary\"");
            cidr.trim().parse::<IpNet>().map(|net| net.trunc()).map_err(wrong)
        };
        text.split(',').map(parse).collect::<Result<_, _>>().map(Self::Within)
    }
}

/// What [`FromStr`] reads; nothing for all.
impl fmt::Display for NodePortAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Primary => f.write_str("primary"),
            Self::Within(cidrs) => {
                let cidrs: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
                f.write_str(&cidrs.join(","))
            }
        }
    }
}

/// What compiling must know of the node that it compiles for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    pub name: Arc<str>,
    /// The addresses of the node's primary interfaces, the node's InternalIPs first.
    pub addresses: Vec<IpAddr>,
    /// Label `topology.kubernetes.io/zone`; [`crate::Planner`] keeps it up to date from the Node.
    pub zone: Option<Arc<str>>,
    pub nodeport_addresses: NodePortAddresses,
    /// Whether endpoints may have loopback, link-local, multicast and other special addresses.
    pub allow_special_endpoints: bool,
    /// External IPs are served within these CIDRs only; `None`: all are.
    pub external_ip_cidrs: Option<Vec<IpNet>>,
}

impl NodeView {
    /// A node with these addresses that serves node ports on all of them.
    pub fn new(name: impl Into<Arc<str>>, addresses: Vec<IpAddr>) -> Self {
        Self {
            name: name.into(),
            addresses,
            zone: None,
            nodeport_addresses: NodePortAddresses::All,
            allow_special_endpoints: false,
            external_ip_cidrs: None,
        }
    }

    /// What forbids an address to be an endpoint's here, if anything.
    pub fn refuses_endpoint(&self, address: &IpAddr) -> Option<SpecialAddress> {
        if self.allow_special_endpoints { None } else { SpecialAddress::of(address) }
    }

    pub fn allows_external_ip(&self, ip: &IpAddr) -> bool {
        self.external_ip_cidrs.as_ref().is_none_or(|cidrs| cidrs.iter().any(|cidr| cidr.contains(ip)))
    }

    /// Every address of the node, loopback last.
    pub fn own_ips(&self) -> Vec<IpAddr> {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let usable = self.addresses.iter().copied().filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
        usable.chain(loopback).collect()
    }

    /// The addresses on which node ports are served. The data plane serves those on loopback to sockets of
    /// the node's own network namespace alone: they are every pod's own, and no packet is ever meant for them.
    pub fn nodeport_ips(&self) -> Vec<IpAddr> {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let usable = self.addresses.iter().copied().filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
        match &self.nodeport_addresses {
            NodePortAddresses::All => self.own_ips(),
            NodePortAddresses::Within(cidrs) => {
                usable.chain(loopback).filter(|ip| cidrs.iter().any(|cidr| cidr.contains(ip))).collect()
            }
            NodePortAddresses::Primary => {
                let v4 = usable.clone().find(IpAddr::is_ipv4);
                let v6 = usable.clone().find(IpAddr::is_ipv6);
                v4.into_iter().chain(v6).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_port_addresses_are_primary_or_cidrs() {
        let read = |text: &str| text.parse::<NodePortAddresses>();
        assert_eq!(read("primary"), Ok(NodePortAddresses::Primary));
        let nets = ["192.0.2.0/24", "2001:db8::/64"].map(|net| net.parse().expect("CIDR"));
        let within = NodePortAddresses::Within(nets.to_vec());
        assert_eq!(read("192.0.2.9/24, 2001:db8::/64"), Ok(within.clone()));
        assert_eq!(read(&within.to_string()), Ok(within));
        assert_eq!(read(&NodePortAddresses::Primary.to_string()), Ok(NodePortAddresses::Primary));
        assert!(read("primary,192.0.2.0/24").unwrap_err().contains("primary"));
        assert!(read("").is_err());
    }
}
