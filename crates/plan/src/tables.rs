//! The tables that a node's data plane should hold, and the operations that change them.
//!
//! A *service entry* is one port of one Service in one address family: all frontends of that port
//! (cluster IP, node port, LoadBalancer IP, external IP) point to the same entry, and so share its
//! backends, its affinity and its atomic update.

use std::collections::BTreeMap;
use std::net::IpAddr;

use daymark_model::Protocol;

/// Identifies a service entry for as long as it lives; never 0.
pub type ServiceId = u32;

/// What a client dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey {
    pub ip: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
}

/// Where a frontend comes from; it decides which policy holds and who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKind {
    ClusterIp,
    NodePort,
    LoadBalancerIp,
    ExternalIp,
    /// A pod's port on its node.
    HostPort,
}

/// What a frontend means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontend {
    pub service: ServiceId,
    pub kind: FrontendKind,
    /// Only backends of this node, for every client (`internalTrafficPolicy: Local` on a cluster IP)
    /// or for clients outside the cluster (`externalTrafficPolicy: Local` elsewhere).
    pub local_only: bool,
    /// `loadBalancerSourceRanges` restrict it.
    pub source_checked: bool,
}

/// One backend in its slot. Local ones (on this node) come first, so that policy Local is `0..n_local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub ip: IpAddr,
    /// In host byte order.
    pub port: u16,
    pub local: bool,
}

/// The backends of one port of one Service in one family, and how to choose among them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServiceEntry {
    /// Bumped at each change of `slots` or `draining`; its lowest bit is the parity under which slots are stored.
    pub generation: u32,
    /// Local backends first. Empty means: refuse at once.
    pub slots: Vec<Slot>,
    /// Backends that get no new clients but still serve: flows over UDP that have them keep them.
    pub draining: Vec<Slot>,
    /// How many of `slots`, from the first, clients bound to policy Local may use.
    pub n_local: u32,
    /// Where those of `slots` begin that all other clients may use: they choose in
    /// `cluster_from..slots.len()`. 0 unless some local backends serve policy Local alone (a local
    /// one that terminates while others are ready, or topology that prefers others).
    pub cluster_from: u32,
    /// Where `n_local` is 0 under policy Local: true if other nodes have backends (drop, not refuse).
    pub elsewhere: bool,
    /// Seconds; 0 is no affinity.
    pub affinity_seconds: u32,
    /// Whether external frontends lead here: a connection may arrive at any node, and all nodes must choose
    /// the same backend for it. The table is [`crate::maglev::table`] over the backends of policy Cluster,
    /// `slots[cluster_from..]`, whose order differs between nodes.
    pub maglev: bool,
}

/// Everything that a node's data plane should hold.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tables {
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    pub services: BTreeMap<ServiceId, ServiceEntry>,
    /// Addresses that are cluster IPs: a port on them that no frontend serves is refused.
    pub cluster_ips: std::collections::BTreeSet<IpAddr>,
    /// `loadBalancerSourceRanges` by service entry; only for frontends with `source_checked`.
    pub source_ranges: BTreeMap<ServiceId, Vec<ipnet::IpNet>>,
}

/// One step of a change. Applied in order; every prefix of a diff leaves the data plane safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write `entry.slots` under the parity of `entry.generation`, then flip the entry: atomic for
    /// every frontend of the service.
    PutService {
        id: ServiceId,
        entry: ServiceEntry,
    },
    PutSourceRanges {
        id: ServiceId,
        ranges: Vec<ipnet::IpNet>,
    },
    PutFrontend {
        key: FrontendKey,
        frontend: Frontend,
    },
    PutClusterIp {
        ip: IpAddr,
    },
    DeleteFrontend {
        key: FrontendKey,
    },
    DeleteClusterIp {
        ip: IpAddr,
    },
    DeleteSourceRanges {
        id: ServiceId,
    },
    /// Removes the entry and its slots of both parities.
    DeleteService {
        id: ServiceId,
    },
}
