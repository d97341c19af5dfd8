//! What this node answers on health check node ports (`spec.healthCheckNodePort`): by it, load balancers
//! outside the cluster learn which nodes have endpoints of a Service with `externalTrafficPolicy: Local`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use daymark_model::{AddressFamily, ObjectName, Service, ServiceType, Touched, World};

use crate::compile::is_served;
use crate::view::NodeView;

/// What one port answers: healthy if this node has a ready endpoint of the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub service: ObjectName,
    /// Ready endpoints on this node, in the family that has more of them: a dual-stack pod counts once.
    pub local_endpoints: u32,
}

/// The health check node ports of one node, kept up to date with the world. A port that several Services
/// have (no API server admits that) answers for the first of them by name.
#[derive(Clone, Debug)]
pub struct HealthChecks {
    view: NodeView,
    /// The port and local endpoints of each Service that has a health check.
    services: BTreeMap<ObjectName, (u16, u32)>,
    /// The Services that have each port.
    ports: BTreeMap<u16, BTreeSet<ObjectName>>,
    checks: BTreeMap<u16, HealthCheck>,
}

impl HealthChecks {
    pub fn new(view: &NodeView) -> Self {
        Self {
            view: view.clone(),
            services: BTreeMap::new(),
            ports: BTreeMap::new(),
            checks: BTreeMap::new(),
        }
    }

    /// What each port answers at present.
    pub fn checks(&self) -> &BTreeMap<u16, HealthCheck> {
        &self.checks
    }

    /// Looks at the touched Services anew. True if any answer changed.
    pub fn update(&mut self, world: &World, touched: &Touched) -> bool {
        let mut concerned = BTreeSet::new();
        for name in &touched.services {
            let before = self.services.remove(name);
            let after = world.service(name).and_then(|service| self.check(world, service));
            if let Some((port, _)) = before
                && let Some(sharing) = self.ports.get_mut(&port)
            {
                sharing.remove(name);
                if sharing.is_empty() {
                    self.ports.remove(&port);
                }
            }
            if let Some((port, local_endpoints)) = after {
                self.ports.entry(port).or_default().insert(name.clone());
                self.services.insert(name.clone(), (port, local_endpoints));
            }
            concerned.extend([before, after].into_iter().flatten().map(|(port, _)| port));
        }
        let mut changed = false;
        for port in concerned {
            let after = self.answer(port);
            changed |= self.checks.get(&port) != after.as_ref();
            match after {
                Some(check) => drop(self.checks.insert(port, check)),
                None => drop(self.checks.remove(&port)),
            }
        }
        changed
    }

    fn answer(&self, port: u16) -> Option<HealthCheck> {
        let service = self.ports.get(&port)?.first()?;
        let (_, local_endpoints) = *self.services.get(service)?;
        Some(HealthCheck { service: service.clone(), local_endpoints })
    }

    /// The health check node port of a Service that has one, and the Service's ready endpoints here.
    fn check(&self, world: &World, service: &Service) -> Option<(u16, u32)> {
        let has = service.service_type == ServiceType::LoadBalancer && service.external_local;
        let port = service.health_check_node_port.filter(|_| has && is_served(service))?;
        let counts = AddressFamily::BOTH.map(|family| self.local_ready(world, service, family).len());
        Some((port, counts.into_iter().max().unwrap_or_default() as u32))
    }

    fn local_ready(&self, world: &World, service: &Service, family: AddressFamily) -> BTreeSet<IpAddr> {
        let slices = world.slices(&service.name).filter(|slice| slice.family == family);
        let here = slices.flat_map(|slice| slice.endpoints).filter(|endpoint| {
            endpoint.node.as_ref() == Some(&self.view.name)
                && self.view.refuses_endpoint(&endpoint.address).is_none()
        });
        here.filter(|e| e.ready || service.publish_not_ready).map(|endpoint| endpoint.address).collect()
    }
}

#[cfg(test)]
mod tests;
