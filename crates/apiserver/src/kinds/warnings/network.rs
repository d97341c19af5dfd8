//! Services, their endpoints, and whatever else carries addresses.

use serde_json::Value;

use super::address::{check_cidr, check_ip};
use crate::kinds::field::Path;
use crate::kinds::value::{list, present, strings, text};

pub fn service(svc: &Value, found: &mut Vec<String>) {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let spec = |field: &str| Path::new("spec").child(field);
    let kind = text(svc, "spec.type");
    let headless = kind == "ClusterIP" && text(svc, "spec.clusterIP") == "None";
    let external = strings(svc, "spec.externalIPs");
    if svc["metadata"]["annotations"].get(HINTS).is_some() {
        found.push(format!(
            "annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    if !matches!(text(svc, "spec.clusterIP"), "" | "None") {
        for (i, ip) in strings(svc, "spec.clusterIPs").iter().enumerate() {
            check_ip(&spec("clusterIPs").index(i), ip, found);
        }
    }
    if headless {
        for (set, field) in [
            (!text(svc, "spec.loadBalancerIP").is_empty(), "loadBalancerIP"),
            (!external.is_empty(), "externalIPs"),
            (text(svc, "spec.sessionAffinity") != "None", "SessionAffinity"),
        ] {
            if set {
                found.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    for (i, ip) in external.iter().enumerate() {
        check_ip(&spec("externalIPs").index(i), ip, found);
    }
    if !external.is_empty() && !headless && kind != "ExternalName" {
        found.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    check_ip(&spec("loadBalancerIP"), text(svc, "spec.loadBalancerIP"), found);
    for (i, range) in strings(svc, "spec.loadBalancerSourceRanges").iter().enumerate() {
        check_cidr(&spec("loadBalancerSourceRanges").index(i), range, found);
    }
    if kind == "ExternalName" && !external.is_empty() {
        found.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if kind != "ExternalName" && !text(svc, "spec.externalName").is_empty() {
        found.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(svc, "spec.trafficDistribution") == "PreferClose" {
        found.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
}

/// Of the `status` of Services and Ingresses.
pub fn load_balancer_status(obj: &Value, found: &mut Vec<String>) {
    let path = Path::new("status.loadBalancer.ingress");
    for (i, point) in list(obj, "status.loadBalancer.ingress").iter().enumerate() {
        check_ip(&path.index(i), text(point, "ip"), found);
    }
}

/// Whether a controller wrote it, which writes addresses in one form.
fn is_managed(obj: &Value, label: &str, controllers: &[&str]) -> bool {
    let by = obj["metadata"]["labels"].get(label).and_then(Value::as_str);
    by.is_some_and(|by| controllers.contains(&by))
}

pub fn endpoints(obj: &Value, found: &mut Vec<String>) {
    if is_managed(obj, "endpoints.kubernetes.io/managed-by", &["endpoint-controller"]) {
        return;
    }
    for (i, subset) in list(obj, "subsets").iter().enumerate() {
        for field in ["addresses", "notReadyAddresses"] {
            let path = Path::new("subsets").index(i).child(field);
            for (n, address) in list(subset, field).iter().enumerate() {
                check_ip(&path.index(n).child("ip"), text(address, "ip"), found);
            }
        }
    }
}

pub fn endpoint_slice(old: Option<&Value>, slice: &Value, found: &mut Vec<String>) {
    const CONTROLLERS: [&str; 2] =
        ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
    if old.is_none() && text(slice, "addressType") == "FQDN" {
        found.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    if is_managed(slice, "endpointslice.kubernetes.io/managed-by", &CONTROLLERS) {
        return;
    }
    for (i, endpoint) in list(slice, "endpoints").iter().enumerate() {
        let path = Path::new("endpoints").index(i).child("addresses");
        for (n, address) in strings(endpoint, "addresses").iter().enumerate() {
            check_ip(&path.index(n), address, found);
        }
    }
}

pub fn ingress(obj: &Value, found: &mut Vec<String>) {
    const CLASS: &str = "kubernetes.io/ingress.class";
    if obj["metadata"]["annotations"].get(CLASS).is_some() && !present(obj, "spec.ingressClassName") {
        found.push(format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"));
    }
}

pub fn policy(obj: &Value, found: &mut Vec<String>) {
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in list(&obj["spec"], rules).iter().enumerate() {
            for (j, peer) in list(rule, peers).iter().enumerate().filter(|(_, p)| present(p, "ipBlock")) {
                let path = Path::new("spec").child(rules).index(i).child(peers).index(j).child("ipBlock");
                check_cidr(&path.child("cidr"), text(peer, "ipBlock.cidr"), found);
                for (k, except) in strings(peer, "ipBlock.except").iter().enumerate() {
                    check_cidr(&path.child("except").index(k), except, found);
                }
            }
        }
    }
}

pub fn node(obj: &Value, found: &mut Vec<String>) {
    if present(obj, "spec.configSource") {
        found.push("spec.configSource: the feature is removed".to_owned());
    }
    if !text(obj, "spec.externalID").is_empty() {
        found.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    for (i, cidr) in strings(obj, "spec.podCIDRs").iter().enumerate() {
        check_cidr(&Path::new("spec.podCIDRs").index(i), cidr, found);
    }
}

pub fn pod_status(pod: &Value, found: &mut Vec<String>) {
    for field in ["podIPs", "hostIPs"] {
        for (i, address) in list(&pod["status"], field).iter().enumerate() {
            let path = Path::new("status").child(field).index(i).child("ip");
            check_ip(&path, text(address, "ip"), found);
        }
    }
}
