//! The node that tables are compiled for.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// Which of a node's addresses serve node ports (`--nodeport-addresses`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Every address of the node.
    #[default]
    All,
    /// The node's first address of each family.
    Primary,
    /// Those within these CIDRs.
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
}

impl NodeView {
    /// A node with these addresses that serves node ports on all of them.
    pub fn new(name: impl Into<Arc<str>>, addresses: Vec<IpAddr>) -> Self {
        Self { name: name.into(), addresses, zone: None, nodeport_addresses: NodePortAddresses::All }
    }

    /// The addresses on which node ports are served. Never loopback: those are every pod's own.
    pub fn nodeport_ips(&self) -> Vec<IpAddr> {
        let usable = self.addresses.iter().copied().filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
        match &self.nodeport_addresses {
            NodePortAddresses::All => usable.collect(),
            NodePortAddresses::Within(cidrs) => {
                usable.filter(|ip| cidrs.iter().any(|cidr| cidr.contains(ip))).collect()
            }
            NodePortAddresses::Primary => {
                let v4 = usable.clone().find(IpAddr::is_ipv4);
                let v6 = usable.clone().find(IpAddr::is_ipv6);
                v4.into_iter().chain(v6).collect()
            }
        }
    }
}
