//! Which backends a port of a Service has in one family, as clients of policy Cluster and of policy Local
//! see them from one node.
//!
//! The rules, in order:
//! 1. An address:port that several slices name counts once; the live one wins.
//! 2. Ready endpoints are usable (all are, with `publishNotReadyAddresses`). Where none is, those that serve
//!    although they terminate (KEP-1669): for Cluster and Local each on its own.
//! 3. Cluster: if every ready endpoint has a node hint and one names this node, those; else the same by zone
//!    (KEP-2433, KEP-3015, KEP-4444); else all.
//! 4. Local: those on this node, whatever the hints.
//! 5. Others that still serve keep the UDP flows that they have. (TCP connections need no leave to stay.)

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::{AddressFamily, EndpointView, Hints, Protocol, Service, ServicePort, Slices};

use crate::tables::{ServiceEntry, Slot};
use crate::view::NodeView;

/// The entry for one port of `service` in `family`, of generation 0, as if for cluster IPs alone.
pub fn entry(
    slices: Slices<'_>,
    view: &NodeView,
    service: &Service,
    port: &ServicePort,
    family: AddressFamily,
) -> ServiceEntry {
    let candidates = candidates(slices, view, service, port, family);
    let topology = Topology::of(&candidates);
    let any_ready = candidates.iter().any(|c| c.ready);
    let any_local_ready = candidates.iter().any(|c| c.ready && c.local);
    let policy_local = service.internal_local || service.external_local;

    let mut local_only = Vec::new();
    let mut both = Vec::new();
    let mut cluster_only = Vec::with_capacity(candidates.len());
    let mut draining = Vec::new();
    for candidate in &candidates {
        let cluster =
            if any_ready { candidate.ready && topology.admit(candidate) } else { candidate.fallback };
        let own = if any_local_ready { candidate.ready } else { candidate.fallback };
        let local = candidate.local && if policy_local { own } else { cluster };
        let slot = Slot { ip: candidate.endpoint.address, port: candidate.port, local: candidate.local };
        match (local, cluster) {
            (true, true) => both.push(slot),
            (true, false) => local_only.push(slot),
            (false, true) => cluster_only.push(slot),
            (false, false) if port.protocol == Protocol::Udp && candidate.endpoint.serving => {
                draining.push(slot);
            }
            (false, false) => {}
        }
    }
    let n_local = (local_only.len() + both.len()) as u32;
    let cluster_from = local_only.len() as u32;
    let slots = if n_local == 0 {
        cluster_only.shrink_to_fit();
        cluster_only
    } else {
        let mut slots = local_only;
        slots.reserve_exact(both.len() + cluster_only.len());
        slots.extend(both.into_iter().chain(cluster_only));
        slots
    };
    ServiceEntry {
        generation: 0,
        elsewhere: n_local == 0 && !slots.is_empty(),
        affinity_seconds: service.affinity_seconds.unwrap_or(0),
        slots,
        draining,
        n_local,
        cluster_from,
        maglev: false,
    }
}

struct Candidate<'a> {
    endpoint: EndpointView<'a>,
    port: u16,
    ready: bool,
    /// Serves although it terminates.
    fallback: bool,
    local: bool,
    same_node: bool,
    same_zone: bool,
}

impl Candidate<'_> {
    fn key(&self) -> (IpAddr, u16) {
        (self.endpoint.address, self.port)
    }

    fn liveness(&self) -> (bool, bool, bool) {
        (self.ready, self.endpoint.serving, !self.endpoint.terminating)
    }
}

/// In order of address and port, each once; of those that are equally live the one told first.
fn candidates<'a>(
    slices: Slices<'a>,
    view: &NodeView,
    service: &Service,
    port: &ServicePort,
    family: AddressFamily,
) -> Vec<Candidate<'a>> {
    let mut found = Vec::new();
    for slice in slices.iter().filter(|slice| slice.family() == family) {
        for slice_port in slice.ports().iter().filter(|p| p.name == port.name && p.protocol == port.protocol)
        {
            found.reserve(slice.room());
            let usable = slice.endpoints().filter(|e| view.refuses_endpoint(&e.address).is_none());
            found.extend(usable.map(|endpoint| {
                Candidate {
                    endpoint,
                    port: slice_port.port,
                    ready: endpoint.ready || service.publish_not_ready,
                    fallback: endpoint.serving && endpoint.terminating,
                    local: endpoint.node == Some(&view.name),
                    same_node: endpoint.hints.is_some_and(|hints| hints.nodes.contains(&view.name)),
                    same_zone: endpoint
                        .hints
                        .zip(view.zone.as_ref())
                        .is_some_and(|(hints, zone)| hints.zones.contains(zone)),
                }
            }));
        }
    }
    found.sort_by_key(|candidate| (candidate.key(), Reverse(candidate.liveness())));
    found.dedup_by_key(|candidate| candidate.key());
    found
}

/// Which hints hold for policy Cluster.
enum Topology {
    SameNode,
    SameZone,
    Ignored,
}

impl Topology {
    fn of(candidates: &[Candidate]) -> Self {
        let ready = || candidates.iter().filter(|c| c.ready);
        let all_have = |which: fn(&Hints) -> &Vec<Arc<str>>| {
            ready().all(|c| c.endpoint.hints.is_some_and(|hints| !which(hints).is_empty()))
        };
        if ready().any(|c| c.same_node) && all_have(|hints| &hints.nodes) {
            Topology::SameNode
        } else if ready().any(|c| c.same_zone) && all_have(|hints| &hints.zones) {
            Topology::SameZone
        } else {
            Topology::Ignored
        }
    }

    fn admit(&self, candidate: &Candidate) -> bool {
        match self {
            Topology::SameNode => candidate.same_node,
            Topology::SameZone => candidate.same_zone,
            Topology::Ignored => true,
        }
    }
}
