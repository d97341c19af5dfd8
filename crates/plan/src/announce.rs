//! Which node announces a Service's LoadBalancer addresses on the LAN.
//!
//! 1. Nodes that are ready and not excluded from load balancers may; under `externalTrafficPolicy: Local`
//!    only those with a usable endpoint of the Service.
//! 2. Of these the one of highest rendezvous weight: each Service draws its own order of nodes, so Services
//!    spread evenly, and a node that fails moves only what it announced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use daymark_model::{Node, ObjectName, Service, World};

/// The node that announces the LoadBalancer addresses of `service`; `None` if none may.
pub fn elect(world: &World, service: &ObjectName) -> Option<Arc<str>> {
    let service = world.service(service)?;
    let local = service.external_local.then(|| nodes_with_endpoints(world, service));
    let may = |node: &&Node| {
        node.ready
            && !node.excluded_from_load_balancers
            && local.as_ref().is_none_or(|nodes| nodes.contains(&node.name))
    };
    let best =
        world.nodes().filter(may).max_by_key(|node| (weight(&service.name, &node.name), node.name.clone()));
    best.map(|node| node.name.clone())
}

/// The IPv4 LoadBalancer addresses that `node` announces, with the Services that they belong to; of
/// Services that share an address the first by name.
pub fn announced_v4(world: &World, node: &str) -> BTreeMap<Ipv4Addr, ObjectName> {
    let mut owners: BTreeMap<Ipv4Addr, &ObjectName> = BTreeMap::new();
    for service in world.services().filter(|service| !service.excluded) {
        for ingress in service.load_balancer_ips.iter().filter(|ingress| !ingress.proxy) {
            if let IpAddr::V4(ip) = ingress.ip {
                owners.entry(ip).or_insert(&service.name);
            }
        }
    }
    let announced = owners.into_iter().filter(|(_, service)| elect(world, service).as_deref() == Some(node));
    announced.map(|(ip, service)| (ip, service.clone())).collect()
}

fn nodes_with_endpoints(world: &World, service: &Service) -> BTreeSet<Arc<str>> {
    let endpoints = || world.slices(&service.name).flat_map(|slice| &slice.endpoints);
    let ready = endpoints().filter(|endpoint| endpoint.ready || service.publish_not_ready);
    let draining = endpoints().filter(|endpoint| endpoint.serving && endpoint.terminating);
    let ready: BTreeSet<Arc<str>> = ready.filter_map(|endpoint| endpoint.node.clone()).collect();
    if ready.is_empty() { draining.filter_map(|endpoint| endpoint.node.clone()).collect() } else { ready }
}

/// FNV-1a over both names, then mixed so that every bit counts.
fn weight(service: &ObjectName, node: &str) -> u64 {
    let parts = [service.namespace.as_bytes(), b"/", service.name.as_bytes(), b"@", node.as_bytes()];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.into_iter().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests;
