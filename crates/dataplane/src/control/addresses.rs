//! Which addresses belong to Services alone, and as what: one mark an address, whoever else uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use daymark_model::Protocol;
use daymark_plan::tables::{FrontendKey, FrontendKind, Tables};

/// What is known of the addresses of Services.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    cluster: BTreeSet<IpAddr>,
    /// Frontends on LoadBalancer and external addresses.
    external: BTreeMap<FrontendKey, FrontendKind>,
}

pub(crate) fn is_external(kind: FrontendKind) -> bool {
    matches!(kind, FrontendKind::LoadBalancerIp | FrontendKind::ExternalIp)
}

impl Addresses {
    pub fn of(tables: &Tables) -> Self {
        let external = tables.frontends.iter().filter(|(_, frontend)| is_external(frontend.kind));
        Self {
            cluster: tables.cluster_ips.clone(),
            external: external.map(|(key, frontend)| (*key, frontend.kind)).collect(),
        }
    }

    pub fn add_cluster_ip(&mut self, ip: IpAddr) {
        self.cluster.insert(ip);
    }

    pub fn remove_cluster_ip(&mut self, ip: IpAddr) {
        self.cluster.remove(&ip);
    }

    /// True if the address's mark may be another now.
    pub fn put(&mut self, key: &FrontendKey, kind: FrontendKind) -> bool {
        if !is_external(kind) {
            return self.delete(key);
        }
        self.external.insert(*key, kind) != Some(kind)
    }

    /// True if the address's mark may be another now.
    pub fn delete(&mut self, key: &FrontendKey) -> bool {
        self.external.remove(key).is_some()
    }

    /// A cluster IP is one whoever claims it as an external address; the last frontend of another gives it up.
    pub fn mark(&self, ip: IpAddr) -> Option<FrontendKind> {
        if self.cluster.contains(&ip) {
            return Some(FrontendKind::ClusterIp);
        }
        let first = FrontendKey { ip, port: 0, protocol: Protocol::Tcp };
        self.external.range(first..).next().filter(|(key, _)| key.ip == ip).map(|(_, kind)| *kind)
    }
}
