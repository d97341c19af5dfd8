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

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::{AddressFamily, Endpoint, Hints, Protocol, Service, ServicePort, Slice, World};

use crate::tables::{ServiceEntry, Slot};
use crate::view::NodeView;

/// The entry for one port of `service` in `family`, of generation 0, as if for cluster IPs alone.
pub fn entry(
    world: &World,
    view: &NodeView,
    service: &Service,
    port: &ServicePort,
    family: AddressFamily,
) -> ServiceEntry {
    let slices: Vec<Slice> = world.slices(&service.name).filter(|slice| slice.family == family).collect();
    let candidates = candidates(&slices, view, service, port);
    let topology = Topology::of(&candidates);
    let any_ready = candidates.values().any(|c| c.ready);
    let any_local_ready = candidates.values().any(|c| c.ready && c.local);
    let policy_local = service.internal_local || service.external_local;

    let mut local_only = Vec::new();
    let mut both = Vec::new();
    let mut cluster_only = Vec::new();
    let mut draining = Vec::new();
    for ((ip, number), candidate) in &candidates {
        let cluster =
            if any_ready { candidate.ready && topology.admit(candidate) } else { candidate.fallback };
        let own = if any_local_ready { candidate.ready } else { candidate.fallback };
        let local = candidate.local && if policy_local { own } else { cluster };
        let slot = Slot { ip: *ip, port: *number, local: candidate.local };
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
    let slots: Vec<Slot> = local_only.into_iter().chain(both).chain(cluster_only).collect();
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
    endpoint: &'a Endpoint,
    ready: bool,
    /// Serves although it terminates.
    fallback: bool,
    local: bool,
    same_node: bool,
    same_zone: bool,
}

impl Candidate<'_> {
    fn liveness(&self) -> (bool, bool, bool) {
        (self.ready, self.endpoint.serving, !self.endpoint.terminating)
    }
}

fn candidates<'a>(
    slices: &'a [Slice],
    view: &NodeView,
    service: &Service,
    port: &ServicePort,
) -> BTreeMap<(IpAddr, u16), Candidate<'a>> {
    let mut found: BTreeMap<(IpAddr, u16), Candidate> = BTreeMap::new();
    for slice in slices {
        for slice_port in slice.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol) {
            let usable = slice.endpoints.iter().filter(|e| view.refuses_endpoint(&e.address).is_none());
            for endpoint in usable {
                let hints = endpoint.hints.as_deref();
                let candidate = Candidate {
                    endpoint,
                    ready: endpoint.ready || service.publish_not_ready,
                    fallback: endpoint.serving && endpoint.terminating,
                    local: endpoint.node.as_ref() == Some(&view.name),
                    same_node: hints.is_some_and(|hints| hints.nodes.contains(&view.name)),
                    same_zone: hints
                        .zip(view.zone.as_ref())
                        .is_some_and(|(hints, zone)| hints.zones.contains(zone)),
                };
                let key = (endpoint.address, slice_port.port);
                if found.get(&key).is_none_or(|known| known.liveness() < candidate.liveness()) {
                    found.insert(key, candidate);
                }
            }
        }
    }
    found
}

/// Which hints hold for policy Cluster.
enum Topology {
    SameNode,
    SameZone,
    Ignored,
}

impl Topology {
    fn of(candidates: &BTreeMap<(IpAddr, u16), Candidate>) -> Self {
        let ready = || candidates.values().filter(|c| c.ready);
        let all_have = |which: fn(&Hints) -> &Vec<Arc<str>>| {
            ready().all(|c| c.endpoint.hints.as_deref().is_some_and(|hints| !which(hints).is_empty()))
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
