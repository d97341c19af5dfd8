//! Services: defaults, validation, update strategy and the allocation of cluster IPs and node ports.

mod alloc;
mod defaults;
mod families;
mod pool;
mod ports;
mod ranges;
mod strategy;
#[cfg(test)]
mod tests;
mod validate;

pub use alloc::{Allocator, AllocatorConfig, Reservation};
pub use defaults::default;
pub use ports::PROTOCOLS;
pub use strategy::{prepare_create, prepare_update};
pub use validate::{validate_create, validate_status, validate_update};

use std::net::IpAddr;

use serde_json::Value;

use super::value::{list, text, truth};

const NONE: &str = "None";

fn kind(svc: &Value) -> &str {
    text(svc, "spec.type")
}

fn needs_cluster_ip(svc: &Value) -> bool {
    kind(svc) != "ExternalName"
}

fn is_load_balancer(svc: &Value) -> bool {
    kind(svc) == "LoadBalancer"
}

/// `clusterIPs` says `None`.
fn is_headless(svc: &Value) -> bool {
    matches!(list(svc, "spec.clusterIPs"), [only] if only.as_str() == Some(NONE))
}

fn externally_accessible(svc: &Value) -> bool {
    match kind(svc) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !list(svc, "spec.externalIPs").is_empty(),
        _ => false,
    }
}

fn needs_health_check(svc: &Value) -> bool {
    is_load_balancer(svc) && text(svc, "spec.externalTrafficPolicy") == "Local"
}

fn has_node_ports(svc: &Value) -> bool {
    matches!(kind(svc), "NodePort" | "LoadBalancer")
}

/// Whether ports without a node port get one.
fn allocates_node_ports(svc: &Value) -> bool {
    match kind(svc) {
        "NodePort" => true,
        "LoadBalancer" => {
            !super::value::present(svc, "spec.allocateLoadBalancerNodePorts")
                || truth(svc, "spec.allocateLoadBalancerNodePorts")
        }
        _ => false,
    }
}

fn family_of(ip: &str) -> Option<&'static str> {
    ip.parse::<IpAddr>().ok().map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" })
}
