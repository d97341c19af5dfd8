//! Which node announces a Service's LoadBalancer addresses on the LAN.
//!
//! 1. Nodes that are ready and not excluded from load balancers may; under `externalTrafficPolicy: Local`
//!    only those with a usable endpoint of the Service.
//! 2. Of these the one of highest rendezvous weight: each Service draws its own order of nodes, so Services
//!    spread evenly, and a node that fails moves only what it announced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use daymark_model::{Endpoint, Node, ObjectName, Service, Touched, World};

use crate::hash::{fnv1a, mix};

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

/// The IPv4 LoadBalancer addresses that one node announces, kept up to date with the world. An address that
/// several Services share follows the first of them by name.
#[derive(Clone, Debug)]
pub struct Announcer {
    node: Arc<str>,
    /// Every LoadBalancer address, with the Services that have it.
    services: BTreeMap<Ipv4Addr, BTreeSet<ObjectName>>,
    /// The addresses of each Service that has any.
    addresses: BTreeMap<ObjectName, BTreeSet<Ipv4Addr>>,
    announced: BTreeSet<Ipv4Addr>,
}

impl Announcer {
    pub fn new(node: impl Into<Arc<str>>) -> Self {
        Self {
            node: node.into(),
            services: BTreeMap::new(),
            addresses: BTreeMap::new(),
            announced: BTreeSet::new(),
        }
    }

    /// The addresses that this node announces at present.
    pub fn announced(&self) -> &BTreeSet<Ipv4Addr> {
        &self.announced
    }

    /// Elects anew for the addresses of the touched Services, or for all if a node was touched. True if this
    /// node's announcements changed.
    pub fn update(&mut self, world: &World, touched: &Touched) -> bool {
        let mut concerned = BTreeSet::new();
        for name in &touched.services {
            let after = world.service(name).map(load_balancer_addresses).unwrap_or_default();
            concerned.extend(self.set_addresses(name, after));
        }
        if !touched.nodes.is_empty() {
            concerned.extend(self.services.keys().copied());
        }
        // Whoever gives Services the addresses of nodes relies on those to answer for them.
        let is_a_nodes = |ip: &Ipv4Addr| world.nodes().any(|node| node.internal_ips.contains(&(*ip).into()));
        let mut changed = false;
        for ip in concerned {
            let owner = self.services.get(&ip).and_then(BTreeSet::first);
            let owner = owner.filter(|_| !is_a_nodes(&ip));
            let ours = owner.and_then(|owner| elect(world, owner)).as_ref() == Some(&self.node);
            changed |= if ours { self.announced.insert(ip) } else { self.announced.remove(&ip) };
        }
        changed
    }

    /// Returns the addresses that the Service had or has.
    fn set_addresses(&mut self, name: &ObjectName, after: BTreeSet<Ipv4Addr>) -> BTreeSet<Ipv4Addr> {
        let before = self.addresses.remove(name).unwrap_or_default();
        for ip in before.difference(&after) {
            if let Some(sharing) = self.services.get_mut(ip) {
                sharing.remove(name);
                if sharing.is_empty() {
                    self.services.remove(ip);
                }
            }
        }
        for ip in &after {
            self.services.entry(*ip).or_default().insert(name.clone());
        }
        let concerned = before.union(&after).copied().collect();
        if !after.is_empty() {
            self.addresses.insert(name.clone(), after);
        }
        concerned
    }
}

/// The IPv4 LoadBalancer addresses that `node` announces, with the Services that they belong to. Looks at the
/// whole world; an [`Announcer`] does not.
pub fn announced_v4(world: &World, node: &str) -> BTreeMap<Ipv4Addr, ObjectName> {
    let services = world.services().map(|service| service.name.clone()).collect();
    let mut announcer = Announcer::new(node);
    announcer.update(world, &Touched { services, ..Touched::default() });
    let owner = |ip: &Ipv4Addr| Some((*ip, announcer.services.get(ip)?.first()?.clone()));
    announcer.announced.iter().filter_map(owner).collect()
}

fn load_balancer_addresses(service: &Service) -> BTreeSet<Ipv4Addr> {
    let served = service.load_balancer_ips.iter().filter(|ingress| !ingress.proxy && !service.excluded);
    let v4 = served.filter_map(|ingress| match ingress.ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    });
    v4.collect()
}

fn nodes_with_endpoints(world: &World, service: &Service) -> BTreeSet<Arc<str>> {
    let endpoints: Vec<Endpoint> = world.slices(&service.name).flat_map(|slice| slice.endpoints).collect();
    let endpoints = || endpoints.iter();
    let ready = endpoints().filter(|endpoint| endpoint.ready || service.publish_not_ready);
    let draining = endpoints().filter(|endpoint| endpoint.serving && endpoint.terminating);
    let ready: BTreeSet<Arc<str>> = ready.filter_map(|endpoint| endpoint.node.clone()).collect();
    if ready.is_empty() { draining.filter_map(|endpoint| endpoint.node.clone()).collect() } else { ready }
}

fn weight(service: &ObjectName, node: &str) -> u64 {
    let parts = [service.namespace.as_bytes(), b"/", service.name.as_bytes(), b"@", node.as_bytes()];
    mix(fnv1a(parts.into_iter().flatten().copied()))
}

#[cfg(test)]
mod tests;
