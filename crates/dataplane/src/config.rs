//! What the data plane must know beside the tables.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use daymark_model::AddressFamily;
use daymark_plan::tables::Tables;
use ipnet::IpNet;

use crate::error::Error;
use crate::{abi, control, encode, maglev, networks};

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
    /// At least so much: existing maps that are larger stay so, and the sizes of flows are those of their beginning.
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

    /// What programs know of the node.
    pub(crate) fn settings(&self, uplink: u32, netns_cookie: u64) -> abi::Settings {
        let pods = self.pods_alone();
        let mut settings = abi::Settings {
            node_ipv4: self.node_ip_of(AddressFamily::Ipv4).map(abi::ip_words).unwrap_or_default(),
            node_ipv6: self.node_ip_of(AddressFamily::Ipv6).map(abi::ip_words).unwrap_or_default(),
            first_port: *self.snat_ports.start(),
            last_port: *self.snat_ports.end(),
            uplink,
            netns_cookie,
            pod_networks: Default::default(),
            pod_networks_count: pods.len() as u32,
            pad_at_end: 0,
        };
        for (words, network) in settings.pod_networks.chunks_mut(8).zip(pods) {
            words.copy_from_slice(&abi::masked_words(network));
        }
        settings
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub frontends: u32,
    pub services: u32,
    /// Of Services with more than seven backends, all but the first seven, twice.
    pub slots: u32,
    /// Pieces of Maglev tables: twice 16 for a Service with ten backends.
    pub maglev: u32,
    /// Backends that something is counted for.
    pub backends: u32,
    /// Two for each translated connection.
    pub flows: u32,
    /// Conversations of unconnected UDP sockets.
    pub udp_flows: u32,
    pub affinity: u32,
}

/// For small clusters; see [`Sizes::with_room_for`].
impl Default for Sizes {
    fn default() -> Self {
        Self {
            frontends: 4096,
            services: 2048,
            slots: 4096,
            maglev: 4096,
            backends: 4096,
            flows: 65_536,
            udp_flows: 16_384,
            affinity: 16_384,
        }
    }
}

/// Maps that are made anew when they become too small.
pub(crate) const GROWING: [&str; 7] =
    ["frontends", "services", "service_ips", "service_stats", "slots", "maglev", "backend_stats"];

impl Sizes {
    /// For some 50,000 Services: programs need not be loaded again as a cluster grows, for 6 MiB of maps.
    pub const SPACIOUS: Self =
        Self { frontends: 65_536, services: 65_536, slots: 4096, maglev: 4096, ..Self::MOST };

    /// The most that tables are given room for: should the API tell of more, the kernel's memory stays bounded.
    pub const MOST: Self = Self {
        frontends: 262_144,
        services: 131_072,
        slots: 1_048_576,
        maglev: 262_144,
        backends: 131_072,
        flows: 65_536,
        udp_flows: 16_384,
        affinity: 16_384,
    };

    /// With room for these tables, while every entry changes at once. Nothing gets smaller.
    #[must_use]
    pub fn with_room_for(self, tables: &Tables) -> Self {
        let (mut backends, mut slots, mut maglev) = (0, 0, 0);
        for entry in tables.services.values() {
            let members = entry.slots.len() + entry.draining.len();
            backends += members;
            slots += 2 * encode::count_apart(entry);
            maglev += 2 * maglev::chunks_of(maglev::size(entry)) as usize;
        }
        let external = tables.frontends.values().filter(|frontend| control::is_external(frontend.kind));
        let services = tables.services.len().max(tables.cluster_ips.len() + external.count());
        let raised = |have: u32, needed: usize, most: u32| {
            if needed <= have as usize { have } else { have.max(rounded(needed, most)) }
        };
        Self {
            frontends: raised(self.frontends, tables.frontends.len(), Self::MOST.frontends),
            services: raised(self.services, services, Self::MOST.services),
            slots: raised(self.slots, slots, Self::MOST.slots),
            maglev: raised(self.maglev, maglev, Self::MOST.maglev),
            backends: raised(self.backends, backends, Self::MOST.backends),
            ..self
        }
    }

    /// `None` for maps whose size is not a matter of taste.
    pub(crate) fn entries(&self, map: &str) -> Option<u32> {
        let mut copy = *self;
        copy.entries_mut(map).copied()
    }

    pub(crate) fn entries_mut(&mut self, map: &str) -> Option<&mut u32> {
        match map {
            "frontends" => Some(&mut self.frontends),
            "services" | "service_ips" | "service_stats" => Some(&mut self.services),
            "slots" => Some(&mut self.slots),
            "backend_stats" => Some(&mut self.backends),
            "maglev" => Some(&mut self.maglev),
            "flows" => Some(&mut self.flows),
            "udp_flows" | "udp_replies" | "udp_connected" => Some(&mut self.udp_flows),
            "affinity" => Some(&mut self.affinity),
            _ => None,
        }
    }
}

/// An eighth more, since Services come one by one; a power of two, as the kernel has it anyway.
fn rounded(needed: usize, most: u32) -> u32 {
    u32::try_from((needed + needed / 8).next_power_of_two()).unwrap_or(most).min(most)
}

#[cfg(test)]
mod tests {
    use daymark_plan::tables::{ServiceEntry, Slot};

    use super::*;

    #[test]
    fn room_grows_with_the_tables_up_to_a_bound_and_never_shrinks() {
        let slot = Slot { ip: [10, 0, 0, 1].into(), port: 80, local: false };
        let tables = |services: u32, backends: usize| {
            let entry = ServiceEntry { slots: vec![slot; backends], ..ServiceEntry::default() };
            let services = (1..=services).map(|id| (id, entry.clone())).collect();
            Tables { services, ..Tables::default() }
        };
        let small = Sizes::default();
        assert_eq!(small.with_room_for(&tables(100, 10)), small);
        let large = small.with_room_for(&tables(10_000, 16));
        assert_eq!((large.services, large.slots, large.backends), (16_384, 65_536, 131_072));
        assert_eq!(large.with_room_for(&tables(1, 1)), large);
        let bounded = small.with_room_for(&tables(150_000, 19));
        assert_eq!((bounded.services, bounded.slots), (Sizes::MOST.services, Sizes::MOST.slots));
    }
}
