//! What a cluster is made of: chosen once by `up`, kept in `cluster.json`, never guessed again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use ipnet::Ipv4Net;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::{Deserialize, Serialize};

/// Where the nodes' addresses start on the LAN: node 1 is `.11`.
const FIRST_NODE: u32 = 11;
/// LoadBalancer addresses are `.200`–`.250` of the LAN.
const POOL: (u32, u32) = (200, 250);
/// The most nodes one cluster can have; their addresses must stay below the pool.
pub const MAX_NODES: u8 = 100;

/// A cluster's settings; everything else about its shape follows from them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSpec {
    pub name: String,
    pub nodes: u8,
    /// The network that the nodes and the host (the "laptop") share.
    pub lan: Ipv4Net,
    pub pod_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    pub domain: String,
    pub api_port: u16,
    /// Pods reach the outside through the host.
    pub egress: bool,
}

/// One node's place in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// From 1.
    pub index: u8,
    pub name: String,
    pub ip: Ipv4Addr,
    pub pod_cidr: Ipv4Net,
}

impl ClusterSpec {
    /// The host's own address on the LAN.
    pub fn gateway(&self) -> Ipv4Addr {
        nth(self.lan, 1)
    }

    /// The cluster IP of Service `default/kubernetes`.
    pub fn kubernetes_ip(&self) -> Ipv4Addr {
        nth(self.service_cidr, 1)
    }

    /// The cluster IP of Service `kube-system/kube-dns`.
    pub fn dns_ip(&self) -> Ipv4Addr {
        nth(self.service_cidr, 10)
    }

    /// First and last address of the LoadBalancer pool.
    pub fn pool(&self) -> (IpAddr, IpAddr) {
        (nth(self.lan, POOL.0).into(), nth(self.lan, POOL.1).into())
    }

    /// Where the API server listens: loopback and the LAN, nowhere else.
    pub fn api_listen(&self) -> Vec<SocketAddr> {
        vec![(Ipv4Addr::LOCALHOST, self.api_port).into(), self.api_advertise()]
    }

    /// The address that nodes and pods use.
    pub fn api_advertise(&self) -> SocketAddr {
        (self.gateway(), self.api_port).into()
    }

    pub fn node(&self, index: u8) -> NodeSpec {
        let slot = u32::from(index);
        let pods = nth(self.pod_cidr, slot << 8);
        NodeSpec {
            index,
            name: format!("node{index}"),
            ip: nth(self.lan, FIRST_NODE - 1 + slot),
            pod_cidr: Ipv4Net::new_assert(pods, 24),
        }
    }

    pub fn all_nodes(&self) -> Vec<NodeSpec> {
        (1..=self.nodes).map(|i| self.node(i)).collect()
    }

    pub fn node_named(&self, name: &str) -> Result<NodeSpec> {
        self.all_nodes().into_iter().find(|n| n.name == name).ok_or_else(|| {
            miette!(
                help = format!("the nodes are node1 to node{}", self.nodes),
                "cluster \"{}\" has no node \"{name}\"",
                self.name
            )
        })
    }

    /// Name of the LAN bridge on the host: `dm-NAME`, hashed where the name is too long for an interface.
    pub fn bridge(&self) -> String {
        format!("dm-{}", self.short_name())
    }

    /// Name of the host's end of a node's cable.
    pub fn cable(&self, node: &NodeSpec) -> String {
        format!("dm-{}-{}", self.short_name(), node.index)
    }

    /// At most 8 characters, so that `dm-SHORT-100` fits the 15 that Linux allows.
    fn short_name(&self) -> String {
        if self.name.len() <= 8 {
            return self.name.clone();
        }
        let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, self.name.as_bytes());
        format!("{}{}", &self.name[..3], &id.simple().to_string()[..5])
    }

    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read(path)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).map_err(|e| {
            miette!(
                help = "restore the file, or remove the cluster with `daymark down` and start again",
                "{} is not a cluster description: {e}",
                path.display()
            )
        })
    }
}

/// Cluster names become file names, interface names and kubeconfig contexts.
pub fn check_name(name: &str) -> Result<()> {
    let ok = !name.is_empty()
        && name.len() <= 40
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if ok {
        return Ok(());
    }
    Err(miette!(
        help = "use at most 40 lower-case letters, digits and hyphens, e.g. `--name demo`",
        "cluster name \"{name}\" is not valid"
    ))
}

fn nth(net: Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).wrapping_add(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> ClusterSpec {
        ClusterSpec {
            name: name.into(),
            nodes: 2,
            lan: "172.30.4.0/24".parse().unwrap(),
            pod_cidr: "10.244.0.0/16".parse().unwrap(),
            service_cidr: "10.96.0.0/16".parse().unwrap(),
            domain: "cluster.local".into(),
            api_port: 6443,
            egress: false,
        }
    }

    #[test]
    fn addresses_follow_from_the_subnets() {
        let s = spec("default");
        assert_eq!(s.gateway().to_string(), "172.30.4.1");
        assert_eq!(s.node(2).ip.to_string(), "172.30.4.12");
        assert_eq!(s.node(2).pod_cidr.to_string(), "10.244.2.0/24");
        assert_eq!(s.dns_ip().to_string(), "10.96.0.10");
        assert!(u32::from(s.node(MAX_NODES).ip) < u32::from(nth(s.lan, POOL.0)));
    }

    #[test]
    fn interface_names_fit_and_differ_for_long_cluster_names() {
        let (a, b) = (spec("a-very-long-cluster-name-1"), spec("a-very-long-cluster-name-2"));
        assert_ne!(a.bridge(), b.bridge());
        assert!(a.cable(&a.node(MAX_NODES)).len() <= 15);
    }

    #[test]
    fn names_that_cannot_be_file_names_are_refused() {
        for bad in ["", "../x", "A", "-a", "a-", "a b"] {
            assert!(check_name(bad).is_err(), "{bad:?} was taken");
        }
        assert!(check_name("demo-2").is_ok());
    }
}
