//! What the controllers can be told.

use std::net::IpAddr;
use std::time::Duration;

use crate::account_secrets::TokenSigner;

/// An inclusive range of addresses that LoadBalancer Services draw from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    pub first: IpAddr,
    pub last: IpAddr,
}

impl AddressRange {
    /// Whether `ip` lies in the range (and is of the range's family).
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.first, self.last, ip) {
            (IpAddr::V4(a), IpAddr::V4(b), IpAddr::V4(ip)) => a <= ip && ip <= b,
            (IpAddr::V6(a), IpAddr::V6(b), IpAddr::V6(ip)) => a <= ip && ip <= b,
            _ => false,
        }
    }

    /// The addresses of the range in ascending order.
    pub fn addresses(&self) -> Box<dyn Iterator<Item = IpAddr>> {
        match (self.first, self.last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                Box::new((u32::from(a)..=u32::from(b)).map(|n| IpAddr::V4(n.into())))
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                Box::new((u128::from(a)..=u128::from(b)).map(|n| IpAddr::V6(n.into())))
            }
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// Settings of all controllers. The default suits an embedded cluster.
#[derive(Clone, Debug)]
pub struct ControllersConfig {
    /// Leaves to others what kube-controller-manager and kube-scheduler do: only LoadBalancer Services are
    /// looked after.
    pub load_balancers_only: bool,
    /// How long a node's Lease may go without renewal before the node counts as unreachable.
    pub node_monitor_grace: Duration,
    /// How long pods without an explicit toleration stay on a node that is not ready or unreachable.
    /// It replaces the API's default of 300 s.
    pub pod_eviction: Duration,
    /// Pools of LoadBalancer addresses; empty leaves LoadBalancer Services alone.
    pub load_balancer_pools: Vec<AddressRange>,
    /// Content of the ConfigMap `kube-root-ca.crt` in every namespace (PEM). Empty: none is written.
    pub root_ca: String,
    /// Signs the tokens in Secrets of ServiceAccounts; without one they are left alone.
    pub signer: Option<TokenSigner>,
    /// How many terminated pods are kept before the oldest are deleted.
    pub terminated_pods: usize,
    /// How many keys are worked on at once.
    pub concurrency: usize,
}

impl Default for ControllersConfig {
    fn default() -> Self {
        Self {
            load_balancers_only: false,
            node_monitor_grace: Duration::from_secs(5),
            pod_eviction: Duration::from_secs(10),
            load_balancer_pools: Vec::new(),
            root_ca: String::new(),
            signer: None,
            terminated_pods: 12500,
            concurrency: 48,
        }
    }
}
