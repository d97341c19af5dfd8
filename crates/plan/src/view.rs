//! The node that tables are compiled for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
