//! A Node, reduced.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: Arc<str>,
    /// `status.addresses` of type InternalIP, in order.
    pub internal_ips: Vec<IpAddr>,
    pub pod_cidrs: Vec<IpNet>,
    pub zone: Option<Arc<str>>,
    pub ready: bool,
    /// Label `node.kubernetes.io/exclude-from-external-load-balancers`.
    pub excluded_from_load_balancers: bool,
    /// About to go: deleted, or tainted so by the cluster autoscaler (KEP-3836).
    pub leaving: bool,
}

impl Node {
    /// A ready node of which nothing but its name is known.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            internal_ips: Vec::new(),
            pod_cidrs: Vec::new(),
            zone: None,
            ready: true,
            excluded_from_load_balancers: false,
            leaving: false,
        }
    }
}
