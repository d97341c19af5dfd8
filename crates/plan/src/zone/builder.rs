//! Keeps a [`Zone`] up to date with the world, Service by Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::{ObjectName, Service, ServiceType, Touched, World};

use super::{HostPort, NamedPort, ServiceRecords, Zone, dashed};

/// Owns the zone that is being changed; hands out snapshots.
#[derive(Clone, Debug)]
pub struct ZoneBuilder {
    zone: Zone,
}

impl ZoneBuilder {
    /// Starts with an unsynced zone without names.
    pub fn new(domain: &str) -> Self {
        Self { zone: Zone::unsynced(domain) }
    }

    /// Says that the world is complete.
    pub fn synced(&mut self) {
        self.zone.synced = true;
    }

    /// Brings the names of the touched Services up to date. True if any changed.
    pub fn update(&mut self, world: &World, touched: &Touched) -> bool {
        let mut changed = false;
        for name in &touched.services {
            changed |= self.update_service(world, name);
        }
        if changed {
            self.zone.serial = self.zone.serial.wrapping_add(1);
        }
        changed
    }

    /// The zone as it is now. Costs a few reference counts.
    pub fn snapshot(&self) -> Arc<Zone> {
        Arc::new(self.zone.clone())
    }

    fn update_service(&mut self, world: &World, name: &ObjectName) -> bool {
        let owner = format!("{}.{}", name.name, name.namespace);
        let after = world.service(name).map(|service| records(world, service));
        let before = self.zone.services.get(&owner).cloned();
        if before.as_deref() == after.as_ref() {
            return false;
        }
        let stale = before.as_deref().map(|records| self.pointers(records, &owner)).unwrap_or_default();
        let fresh = after.as_ref().map(|records| self.pointers(records, &owner)).unwrap_or_default();
        for (ip, name) in stale.difference(&fresh) {
            self.remove_pointer(*ip, name);
        }
        for (ip, name) in fresh.difference(&stale) {
            self.add_pointer(*ip, name);
        }
        match (before.is_some(), after) {
            (false, Some(records)) => {
                *Arc::make_mut(&mut self.zone.namespaces).entry(name.namespace.clone()).or_insert(0) += 1;
                self.zone.services.insert(&owner, Arc::new(records));
            }
            (true, Some(records)) => drop(self.zone.services.insert(&owner, Arc::new(records))),
            (_, None) => {
                self.zone.services.remove(&owner);
                self.leave_namespace(&name.namespace);
            }
        }
        true
    }

    fn leave_namespace(&mut self, namespace: &str) {
        let namespaces = Arc::make_mut(&mut self.zone.namespaces);
        if let Some(services) = namespaces.get_mut(namespace) {
            *services -= 1;
            if *services == 0 {
                namespaces.remove(namespace);
            }
        }
    }

    /// The addresses that names of a Service stand for, with these names.
    fn pointers(&self, records: &ServiceRecords, owner: &str) -> BTreeSet<(IpAddr, String)> {
        match records {
            ServiceRecords::ClusterIp { ips, .. } => {
                ips.iter().map(|ip| (*ip, self.zone.absolute(&format!("{owner}.svc")))).collect()
            }
            ServiceRecords::Headless { hosts, .. } => hosts
                .iter()
                .flat_map(|(host, ips)| {
                    let name = self.zone.absolute(&format!("{host}.{owner}.svc"));
                    ips.iter().map(move |ip| (*ip, name.clone()))
                })
                .collect(),
            ServiceRecords::ExternalName(_) => BTreeSet::new(),
        }
    }

    fn add_pointer(&mut self, ip: IpAddr, name: &str) {
        let key = ip.to_string();
        let mut names = self.zone.reverse.get(&key).map(|names| (**names).clone()).unwrap_or_default();
        names.insert(name.into());
        self.zone.reverse.insert(&key, Arc::new(names));
    }

    fn remove_pointer(&mut self, ip: IpAddr, name: &str) {
        let key = ip.to_string();
        let Some(names) = self.zone.reverse.get(&key) else { return };
        let mut names = (**names).clone();
        names.remove(name);
        if names.is_empty() {
            self.zone.reverse.remove(&key);
        } else {
            self.zone.reverse.insert(&key, Arc::new(names));
        }
    }
}

fn records(world: &World, service: &Service) -> ServiceRecords {
    if let ServiceType::ExternalName(target) = &service.service_type {
        return ServiceRecords::ExternalName(target.trim_end_matches('.').into());
    }
    if service.headless {
        return headless(world, service);
    }
    let ports = service.ports.iter().map(|port| NamedPort {
        name: port.name.clone(),
        protocol: port.protocol,
        port: port.port,
    });
    ServiceRecords::ClusterIp { ips: service.cluster_ips.clone(), ports: ports.collect() }
}

/// A headless Service names its ready endpoints; their ports are those of the slices.
fn headless(world: &World, service: &Service) -> ServiceRecords {
    let mut hosts: BTreeMap<Box<str>, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut ports = BTreeSet::new();
    for slice in world.slices(&service.name) {
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready || service.publish_not_ready)
        {
            let host: Box<str> = match &endpoint.hostname {
                Some(hostname) => hostname.to_ascii_lowercase().into(),
                None => dashed(endpoint.address).into(),
            };
            hosts.entry(host.clone()).or_default().insert(endpoint.address);
            ports.extend(slice.ports.iter().filter(|port| !port.name.is_empty()).map(|port| HostPort {
                name: port.name.clone(),
                protocol: port.protocol,
                port: port.port,
                host: host.clone(),
            }));
        }
    }
    ServiceRecords::Headless { hosts, ports }
}
