//! Defaults of Services that don't depend on the cluster; families and addresses come with allocation.

use serde_json::{Value, json};

use super::{externally_accessible, is_load_balancer, kind};
use crate::kinds::value::{at, drop_key, fill, items_mut, present, text};

const DEFAULT_AFFINITY_SECONDS: i64 = 10800;

/// Fills in the defaults.
pub fn default(svc: &mut Value) {
    let Some(spec) = svc.get_mut("spec").filter(|s| s.is_object()) else { return };
    fill(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => drop_key(spec, "sessionAffinityConfig"),
        "ClientIP" if !present(spec, "sessionAffinityConfig.clientIP.timeoutSeconds") => {
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": DEFAULT_AFFINITY_SECONDS}});
        }
        _ => {}
    }
    fill(spec, "type", "ClusterIP");
    for port in items_mut(spec, "ports") {
        fill(port, "protocol", "TCP");
        let unset = at(port, "targetPort").is_none_or(|t| t.as_i64() == Some(0) || t.as_str() == Some(""));
        if let (true, Some(number)) = (unset, at(port, "port").cloned()) {
            port["targetPort"] = number;
        }
    }
    let (external, balanced) = (externally_accessible(svc), is_load_balancer(svc));
    let internal = matches!(kind(svc), "ClusterIP" | "NodePort" | "LoadBalancer");
    let spec = &mut svc["spec"];
    if external {
        fill(spec, "externalTrafficPolicy", "Cluster");
    }
    if internal {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if balanced {
        fill(spec, "allocateLoadBalancerNodePorts", true);
        for ingress in items_mut(svc, "status.loadBalancer.ingress") {
            if !text(ingress, "ip").is_empty() {
                fill(ingress, "ipMode", "VIP");
            }
        }
    }
}
