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
}
