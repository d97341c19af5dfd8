//! What a cluster is made of: chosen once by `up`, kept in `cluster.json`, never guessed again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use clap::ValueEnum;
use daymark_model::{AddressFamily, PerFamily};
use daymark_plan::NodePortAddresses;
use ipnet::IpNet;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::{Deserialize, Serialize};

/// Where the nodes' addresses start on the LAN: node 1 is `.11` and `::11`.
const FIRST_NODE: u8 = 11;
/// LoadBalancer addresses are `.200`–`.250` of the LAN.
const POOL: (u8, u8) = (200, 250);
/// Prefix lengths of a node's share of the pods' networks.
const NODE_PREFIX_V4: u8 = 24;
const NODE_PREFIX_V6: u8 = 64;
/// The most nodes one cluster can have; their addresses must stay below the pool.
pub const MAX_NODES: u8 = 100;

/// A cluster's settings; everything else about its shape follows from them. Its IP families are those of its
/// networks, each written as one CIDR or as two with a comma between, the primary family's first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSpec {
    pub name: String,
    pub nodes: u8,
    /// The network that the nodes and the host (the "laptop") share.
    #[serde(with = "cidr_list")]
    pub lan: PerFamily<IpNet>,
    #[serde(with = "cidr_list")]
    pub pod_cidr: PerFamily<IpNet>,
    #[serde(with = "cidr_list")]
    pub service_cidr: PerFamily<IpNet>,
    pub domain: String,
    pub api_port: u16,
    /// Pods reach the outside through the host.
    pub egress: bool,
    #[serde(default)]
    pub controllers: Controllers,
    /// Which of a node's addresses serve node ports.
    #[serde(with = "as_text", default, skip_serializing_if = "is_default")]
    pub nodeport_addresses: NodePortAddresses,
}

/// Who does what Kubernetes' kube-controller-manager and kube-scheduler do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Controllers {
    /// The daemon
    #[default]
    All,
    /// Programs that you run yourself; LoadBalancer addresses and cluster DNS stay Daymark's
    None,
}

/// One node's place in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// From 1.
    pub index: u8,
    pub name: String,
    pub ips: PerFamily<IpAddr>,
    pub pod_cidrs: PerFamily<IpNet>,
}

impl NodeSpec {
    /// The address of the cluster's primary family.
    pub fn ip(&self) -> IpAddr {
        self.ips.primary()
    }
}

impl ClusterSpec {
    pub fn has(&self, family: AddressFamily) -> bool {
        self.lan.of(family).is_some()
    }

    /// The host's own addresses on the LAN.
    pub fn gateways(&self) -> PerFamily<IpAddr> {
        self.lan.map(|lan| nth(lan, 1))
    }

    /// The cluster IP of Service `default/kubernetes`.
    pub fn kubernetes_ip(&self) -> IpAddr {
        nth(self.service_cidr.primary(), 1)
    }

    /// The cluster IP of Service `kube-system/kube-dns`.
    pub fn dns_ip(&self) -> IpAddr {
        nth(self.service_cidr.primary(), 10)
    }

    /// First and last address of the LoadBalancer pool. There is none of IPv6 addresses: nobody would
    /// announce them on the LAN.
    pub fn pool(&self) -> Option<(IpAddr, IpAddr)> {
        self.lan.of(AddressFamily::Ipv4).map(|lan| (nth(lan, POOL.0.into()), nth(lan, POOL.1.into())))
    }

    /// Where the API server listens: loopback and the LAN, nowhere else.
    pub fn api_listen(&self) -> Vec<SocketAddr> {
        let loopback = std::iter::once(Ipv4Addr::LOCALHOST.into());
        loopback.chain(self.gateways().iter()).map(|ip| (ip, self.api_port).into()).collect()
    }

    /// The address that nodes and pods use.
    pub fn api_advertise(&self) -> SocketAddr {
        (self.gateways().primary(), self.api_port).into()
    }

    pub fn node(&self, index: u8) -> NodeSpec {
        let host = FIRST_NODE - 1 + index;
        NodeSpec {
            index,
            name: format!("node{index}"),
            ips: self.lan.map(|lan| match lan {
                IpNet::V4(_) => nth(lan, host.into()),
                IpNet::V6(_) => nth(lan, digits_as_hex(host).into()),
            }),
            pod_cidrs: self.pod_cidr.map(|pods| node_share(pods, index)),
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

fn nth(net: IpNet, n: u128) -> IpAddr {
    match net.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits().wrapping_add(n as u32)).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits().wrapping_add(n)).into(),
    }
}

/// The `index`-th subnet of the pods' network.
fn node_share(pods: IpNet, index: u8) -> IpNet {
    let length = if pods.addr().is_ipv4() { NODE_PREFIX_V4 } else { NODE_PREFIX_V6 };
    IpNet::new_assert(nth(pods, u128::from(index) << (pods.max_prefix_len() - length)), length)
}

/// 172 as `0x172`: IPv6 addresses then show the same digits as IPv4 addresses.
pub fn digits_as_hex(number: u8) -> u16 {
    let number = u16::from(number);
    ((number / 100) << 8) | ((number / 10 % 10) << 4) | (number % 10)
}

/// `10.96.0.0/16` or `10.96.0.0/16,fd00:10:96::/112`.
pub fn parse_cidrs(text: &str) -> Result<PerFamily<IpNet>, String> {
    let parse = |part: &str| part.trim().parse::<IpNet>().map_err(|_| format!("\"{part}\" is not a CIDR"));
    let list = text.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
    PerFamily::from_list(list.iter().copied())
        .ok_or_else(|| "give one CIDR, or one of each IP family with a comma between".to_owned())
}

/// As `parse_cidrs` reads it.
pub fn show<T: daymark_model::HasFamily + Copy + ToString>(values: PerFamily<T>, between: &str) -> String {
    values.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(between)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

mod as_text {
    use super::*;
    use serde::de::Error;

    pub fn serialize<S: serde::Serializer>(value: &NodePortAddresses, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<NodePortAddresses, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

mod cidr_list {
    use super::*;
    use serde::de::Error;

    pub fn serialize<S: serde::Serializer>(cidrs: &PerFamily<IpNet>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&show(*cidrs, ","))
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<PerFamily<IpNet>, D::Error> {
        parse_cidrs(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> ClusterSpec {
        ClusterSpec {
            name: name.into(),
            nodes: 2,
            lan: parse_cidrs("172.30.4.0/24,fd00:172:30:4::/64").unwrap(),
            pod_cidr: parse_cidrs("10.244.0.0/16,fd00:10:244::/56").unwrap(),
            service_cidr: parse_cidrs("10.96.0.0/16,fd00:10:96::/112").unwrap(),
            domain: "cluster.local".into(),
            api_port: 6443,
            egress: false,
            controllers: Controllers::All,
            nodeport_addresses: NodePortAddresses::All,
        }
    }

    #[test]
    fn addresses_follow_from_the_subnets() {
        let s = spec("default");
        assert_eq!(show(s.gateways(), ","), "172.30.4.1,fd00:172:30:4::1");
        assert_eq!(show(s.node(2).ips, ","), "172.30.4.12,fd00:172:30:4::12");
        assert_eq!(show(s.node(2).pod_cidrs, ","), "10.244.2.0/24,fd00:10:244:2::/64");
        assert_eq!(show(s.node(100).ips, ","), "172.30.4.110,fd00:172:30:4::110");
        assert_eq!(s.dns_ip().to_string(), "10.96.0.10");
        assert!(s.node(MAX_NODES).ip() < s.pool().unwrap().0);
    }

    #[test]
    fn a_description_from_before_ipv6_is_an_ipv4_cluster() {
        let text = r#"{"name": "default", "nodes": 2, "lan": "172.30.0.0/24", "podCidr": "10.244.0.0/16",
            "serviceCidr": "10.96.0.0/16", "domain": "cluster.local", "apiPort": 6443, "egress": true}"#;
        let old: ClusterSpec = serde_json::from_str(text).unwrap();
        assert!(old.has(AddressFamily::Ipv4) && !old.has(AddressFamily::Ipv6));
        assert_eq!(old.controllers, Controllers::All);
        assert_eq!(serde_json::to_value(&old).unwrap()["podCidr"], "10.244.0.0/16");
        assert_eq!(old.nodeport_addresses, NodePortAddresses::All);
        let both = ClusterSpec { nodeport_addresses: NodePortAddresses::Primary, ..spec("dual") };
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(serde_json::from_str::<ClusterSpec>(&text).unwrap(), both);
    }

    #[test]
    fn two_networks_of_one_family_are_no_list() {
        for bad in ["", "10.0.0.0", "10.0.0.0/8,10.1.0.0/16", "10.0.0.0/8,fd00::/64,fd01::/64", "10.0.0.0/8,"]
        {
            assert!(parse_cidrs(bad).is_err(), "{bad:?} was taken");
        }
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
