//! What the data plane must know beside the tables.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use daymark_model::AddressFamily;
use ipnet::IpNet;

use crate::error::Error;
use crate::{abi, networks};

/// Configuration of a node's data plane.
#[derive(Clone, Debug)]
pub struct Config {
    /// A directory of our own for pins. A BPF file system is mounted there if it is not on one; it must
    /// outlive the process, so not in a mount namespace that ends with it.
    pub bpffs: PathBuf,
    /// This node's addresses. Connections that must come back through this node get the
    /// first one of their family.
    pub node_ips: Vec<IpAddr>,
    /// The pods of the whole cluster: not reachable from outside, and not masqueraded among themselves.
    pub pod_cidrs: Vec<IpNet>,
    /// Addresses of Services: packets for them never leave the node.
    pub service_cidrs: Vec<IpNet>,
    /// Who else belongs to the cluster: the addresses of all nodes. Empty while the API has not told: those
    /// that an earlier process knew.
    pub cluster_sources: Vec<IpNet>,
    /// Source ports of connections that this node translates, in its own network namespace. Must not
    /// overlap the range of node ports.
    pub snat_ports: RangeInclusive<u16>,
    /// Used when the maps are made; existing maps keep theirs.
    pub sizes: Sizes,
}

impl Config {
    /// A configuration with the usual ports and sizes.
    pub fn new(bpffs: impl Into<PathBuf>) -> Self {
        Self {
            bpffs: bpffs.into(),
            node_ips: Vec::new(),
            pod_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            cluster_sources: Vec::new(),
            snat_ports: 10_000..=29_999,
            sizes: Sizes::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.node_ips.is_empty() {
            return Err(Error::Config("the node has no address, so nothing can come back to it".into()));
        }
        if self.snat_ports.is_empty() || *self.snat_ports.start() < 1024 {
            return Err(Error::Config(format!(
                "snat_ports {:?} must be a range of ports from 1024 up",
                self.snat_ports
            )));
        }
        Ok(())
    }

    /// What connections of a family are called from when they must come back here; `None` leaves the
    /// family untranslated.
    pub(crate) fn node_ip_of(&self, family: AddressFamily) -> Option<IpAddr> {
        self.node_ips.iter().copied().find(|ip| AddressFamily::of(ip) == family)
    }

    pub(crate) fn networks(&self) -> Vec<(IpNet, u32)> {
        let flagged = |nets: &[IpNet], flag: u32| nets.iter().map(|n| (*n, flag)).collect::<Vec<_>>();
        let mut all = flagged(&self.pod_cidrs, abi::NETWORK_POD);
        all.extend(flagged(&self.cluster_sources, abi::NETWORK_CLUSTER));
        all.extend(flagged(&self.service_cidrs, abi::NETWORK_SERVICE));
        all.extend(self.node_ips.iter().map(|ip| (networks::host(*ip), abi::NETWORK_THIS_NODE)));
        all
    }

    /// The pods' networks, if nothing else of ours is within them or around them.
    pub(crate) fn pods_alone(&self) -> Vec<IpNet> {
        let others: Vec<IpNet> = self
            .service_cidrs
            .iter()
            .copied()
            .chain(self.node_ips.iter().map(|ip| IpNet::from(*ip)))
            .collect();
        let overlaps = |pods: &IpNet| others.iter().any(|net| net.contains(pods) || pods.contains(net));
        self.pod_cidrs.iter().copied().filter(|pods| !overlaps(pods)).take(4).collect()
    }
}

/// How many entries each map may hold. Control maps take 16 bytes an entry at once and the rest as they fill,
/// state maps everything from the start (about 150 bytes an entry).
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub frontends: u32,
    pub services: u32,
    pub slots: u32,
    /// Pieces of Maglev tables: twice 16 for a Service with ten backends.
    pub maglev: u32,
    /// Two for each translated connection.
    pub flows: u32,
    /// Conversations of unconnected UDP sockets.
    pub udp_flows: u32,
    pub affinity: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            frontends: 32_768,
            services: 16_384,
            slots: 131_072,
            maglev: 65_536,
            flows: 65_536,
            udp_flows: 16_384,
            affinity: 16_384,
        }
    }
}

impl Sizes {
    /// For 50,000 Services of ten backends, all of which may change. Empty, they take 25 MB.
    pub fn large() -> Self {
        Self { frontends: 131_072, services: 131_072, slots: 1_048_576, maglev: 131_072, ..Self::default() }
    }

    /// `None` for maps whose size is not a matter of taste.
    pub(crate) fn entries(&self, map: &str) -> Option<u32> {
        match map {
            "frontends" => Some(self.frontends),
            "services" | "service_ips" | "service_stats" => Some(self.services),
            "slots" => Some(self.slots),
            "backend_stats" => Some(self.frontends),
            "maglev" => Some(self.maglev),
            "flows" => Some(self.flows),
            "udp_flows" | "udp_replies" | "udp_connected" => Some(self.udp_flows),
            "affinity" => Some(self.affinity),
            _ => None,
        }
    }
}
