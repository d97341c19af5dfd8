//! What a write may leave out or carry along: allocated values are kept for clients that don't send them,
//! and fields that a new `type` has no use for are dropped if the client didn't touch them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    NONE, allocates_node_ports, externally_accessible, has_node_ports, is_load_balancer, needs_cluster_ip,
    needs_health_check,
};
use crate::kinds::value::{at, drop_key, int, is_empty, items_mut, list, set, text};

/// `clusterIPs` follows `clusterIP` for clients that only know the latter.
pub fn prepare_create(svc: &mut Value) {
    let ip = text(svc, "spec.clusterIP").to_owned();
    if !ip.is_empty() && list(svc, "spec.clusterIPs").is_empty() {
        svc["spec"]["clusterIPs"] = json!([ip]);
    }
}

/// Keeps allocated values and drops what the new type doesn't use.
pub fn prepare_update(old: &Value, new: &mut Value) {
    if !new["spec"].is_object() {
        return;
    }
    keep_allocated(old, new);
    normalise_cluster_ips(old, new);
    drop_unused(old, new);
}

/// Lets a client resubmit what it sent first, without the values that were allocated for it.
pub fn keep_allocated(old: &Value, new: &mut Value) {
    if !new["spec"].is_object() {
        return;
    }
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if text(new, "spec.clusterIP").is_empty() && !text(old, "spec.clusterIP").is_empty() {
            new["spec"]["clusterIP"] = old["spec"]["clusterIP"].clone();
        }
        if list(new, "spec.clusterIPs").is_empty() && !list(old, "spec.clusterIPs").is_empty() {
            new["spec"]["clusterIPs"] = old["spec"]["clusterIPs"].clone();
        }
    }
    if allocates_node_ports(old) && allocates_node_ports(new) {
        let new_ports = node_ports(new);
        for port in items_mut(new, "spec.ports") {
            if int(port, "nodePort") != 0 {
                continue;
            }
            let same = list(old, "spec.ports").iter().rfind(|p| text(p, "name") == text(port, "name"));
            let number = same.map_or(0, |p| int(p, "nodePort"));
            if number != 0 && !new_ports.contains(&number) {
                set(port, "nodePort", number);
            }
        }
    }
    let check = int(old, "spec.healthCheckNodePort");
    if needs_health_check(old)
        && needs_health_check(new)
        && int(new, "spec.healthCheckNodePort") == 0
        && check != 0
    {
        new["spec"]["healthCheckNodePort"] = json!(check);
    }
}

/// Guesses what a client meant that changed only one of `clusterIP` and `clusterIPs`.
pub fn normalise_cluster_ips(old: &Value, new: &mut Value) {
    let (was, is) = (text(old, "spec.clusterIP"), text(new, "spec.clusterIP").to_owned());
    let (all_was, all_is) = (list(old, "spec.clusterIPs"), list(new, "spec.clusterIPs"));
    if !all_was.is_empty() && all_is.is_empty() && was == is {
        new["spec"]["clusterIPs"] = json!(all_was);
    } else if was != is && all_was == all_is {
        if is.is_empty() {
            drop_key(&mut new["spec"], "clusterIPs");
        } else {
            new["spec"]["clusterIPs"] = json!([is]);
        }
    }
}

fn same(old: &Value, new: &Value, path: &str) -> bool {
    let (a, b) = (at(old, path), at(new, path));
    a == b || (is_empty(a) && is_empty(b))
}

fn drop_unused(old: &Value, new: &mut Value) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if same(old, new, "spec.clusterIP") && same(old, new, "spec.clusterIPs") {
            drop_key(&mut new["spec"], "clusterIP");
            drop_key(&mut new["spec"], "clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if same(old, new, &format!("spec.{key}")) {
                drop_key(&mut new["spec"], key);
            }
        }
    }
    if has_node_ports(old) && !has_node_ports(new) && node_ports(new).is_subset(&node_ports(old)) {
        for port in items_mut(new, "spec.ports") {
            drop_key(port, "nodePort");
        }
    }
    let unused = [
        ("healthCheckNodePort", needs_health_check(old) && !needs_health_check(new)),
        ("allocateLoadBalancerNodePorts", is_load_balancer(old) && !is_load_balancer(new)),
        ("loadBalancerClass", is_load_balancer(old) && !is_load_balancer(new)),
        ("externalTrafficPolicy", externally_accessible(old) && !externally_accessible(new)),
    ];
    for (key, gone) in unused {
        if gone && same(old, new, &format!("spec.{key}")) {
            drop_key(&mut new["spec"], key);
        }
    }
    if !is_load_balancer(new) && at(new, "status.loadBalancer").is_some() {
        new["status"]["loadBalancer"] = json!({});
    }
}

/// The node ports an object names.
pub fn node_ports(svc: &Value) -> BTreeSet<i64> {
    list(svc, "spec.ports").iter().map(|p| int(p, "nodePort")).filter(|n| *n != 0).collect()
}

/// Headless and without selector: such Services may name any family.
pub fn is_free_headless(svc: &Value) -> bool {
    text(svc, "spec.clusterIP") == NONE && is_empty(at(svc, "spec.selector"))
}
