//! Checks of Services, in the order in which Kubernetes reports them.

use serde_json::Value;

use super::{
    externally_accessible, families, is_headless, is_load_balancer, kind, needs_health_check, ports,
};
use crate::{
    kinds::{
        common,
        field::{Errors, Path},
        format, ip,
        value::{int, list, members, present, strings, text},
    },
    selector::validate_labels,
};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const POLICIES: &[&str] = &["Cluster", "Local"];
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameZone", "PreferSameNode"];
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const MAX_AFFINITY_SECONDS: i64 = 86400;

fn spec(field: &str) -> Path {
    Path::new("spec").child(field)
}

/// A new Service, after allocation.
pub fn validate_create(svc: &Value, errors: &mut Errors) {
    check(svc, None, errors);
}

/// A changed Service.
pub fn validate_update(old: &Value, new: &Value, errors: &mut Errors) {
    families::check_changes(old, new, errors);
    if is_load_balancer(old)
        && is_load_balancer(new)
        && text(old, "spec.loadBalancerClass") != text(new, "spec.loadBalancerClass")
    {
        let class = new["spec"]["loadBalancerClass"].clone();
        errors.invalid(&spec("loadBalancerClass"), class, "may not change once set");
    }
    families::check_health_port_change(old, new, errors);
    check(new, Some(old), errors);
}

fn check(svc: &Value, old: Option<&Value>, errors: &mut Errors) {
    check_type_dependent(svc, errors);
    ports::check(svc, errors);
    validate_labels(&svc["spec"]["selector"], &spec("selector"), errors);
    check_affinity(svc, errors);
    families::check_cluster_ips(svc, old, errors);
    check_external_ips(svc, old, errors);
    common::check_one_of(kind(svc), TYPES, &spec("type"), errors);
    ports::check_uniqueness(svc, errors);
    check_source_ranges(svc, old, errors);
    check_load_balancer_fields(svc, errors);
    check_external_traffic(svc, errors);
    check_internal_traffic(svc, errors);
}

fn check_type_dependent(svc: &Value, errors: &mut Errors) {
    let headless = is_headless(svc);
    if list(svc, "spec.ports").is_empty() && !headless && kind(svc) != "ExternalName" {
        errors.required(&spec("ports"), "");
    }
    match kind(svc) {
        of_type @ ("LoadBalancer" | "NodePort") if headless => {
            let why = format!("may not be set to 'None' for {of_type} services");
            errors.invalid(&spec("clusterIPs").index(0), "None", &why);
        }
        "ExternalName" => {
            for (field, set) in [
                ("clusterIPs", !list(svc, "spec.clusterIPs").is_empty()),
                ("ipFamilies", !list(svc, "spec.ipFamilies").is_empty()),
                ("ipFamilyPolicy", present(svc, "spec.ipFamilyPolicy")),
            ] {
                if set {
                    errors.forbidden(&spec(field), "may not be set for ExternalName services");
                }
            }
            let name = text(svc, "spec.externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errors.required(&spec("externalName"), "");
            } else {
                errors.invalid_each(&spec("externalName"), name, &format::dns1123_subdomain(name));
            }
        }
        _ => {}
    }
}

fn check_affinity(svc: &Value, errors: &mut Errors) {
    let affinity = text(svc, "spec.sessionAffinity");
    common::check_one_of(affinity, &["ClientIP", "None"], &spec("sessionAffinity"), errors);
    let config = spec("sessionAffinityConfig");
    let required = "when session affinity type is ClientIP";
    match affinity {
        "ClientIP" => {
            let timeout = config.child("clientIP").child("timeoutSeconds");
            if !present(svc, "spec.sessionAffinityConfig") {
                errors.required(&config, required);
            } else if !present(svc, "spec.sessionAffinityConfig.clientIP") {
                errors.required(&config.child("clientIP"), required);
            } else if !present(svc, "spec.sessionAffinityConfig.clientIP.timeoutSeconds") {
                errors.required(&timeout, required);
            } else {
                let seconds = int(svc, "spec.sessionAffinityConfig.clientIP.timeoutSeconds");
                if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) {
                    let why = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                    errors.invalid(&timeout, seconds, &why);
                }
            }
        }
        "None" if present(svc, "spec.sessionAffinityConfig") => {
            errors.forbidden(&config, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn check_external_ips(svc: &Value, old: Option<&Value>, errors: &mut Errors) {
    let known = old.map(|o| strings(o, "spec.externalIPs")).unwrap_or_default();
    for (i, address) in strings(svc, "spec.externalIPs").into_iter().enumerate() {
        let path = spec("externalIPs").index(i);
        let complaints = if known.contains(&address) { Vec::new() } else { ip::address(address) };
        let complaints = if complaints.is_empty() { ip::endpoint_address(address) } else { complaints };
        errors.invalid_each(&path, address, &complaints);
    }
}

fn check_source_ranges(svc: &Value, old: Option<&Value>, errors: &mut Errors) {
    let known = |range: &str| {
        old.is_some_and(|o| strings(o, "spec.loadBalancerSourceRanges").iter().any(|r| r.trim() == range))
    };
    let ranges = strings(svc, "spec.loadBalancerSourceRanges");
    let annotation = members(svc, "metadata.annotations").find(|(key, _)| *key == SOURCE_RANGES);
    let only_balanced = "may only be used when `type` is 'LoadBalancer'";
    if !ranges.is_empty() {
        let path = spec("LoadBalancerSourceRanges");
        if !is_load_balancer(svc) {
            errors.forbidden(&path, only_balanced);
        }
        for (i, range) in ranges.into_iter().map(str::trim).enumerate().filter(|(_, r)| !known(r)) {
            errors.invalid_each(&path.index(i), range, &ip::cidr(range));
        }
    } else if let Some((_, value)) = annotation {
        let path = Path::new("metadata.annotations").key(SOURCE_RANGES);
        if !is_load_balancer(svc) {
            errors.forbidden(&path, only_balanced);
        }
        let value = value.as_str().unwrap_or_default().trim();
        for range in value.split(',').map(str::trim).filter(|_| !value.is_empty()) {
            errors.invalid_each(&path, range, &ip::cidr(range));
        }
    }
}

fn check_load_balancer_fields(svc: &Value, errors: &mut Errors) {
    let only_balanced = "may only be used when `type` is 'LoadBalancer'";
    let allocates = present(svc, "spec.allocateLoadBalancerNodePorts");
    if allocates && !is_load_balancer(svc) {
        errors.forbidden(&spec("allocateLoadBalancerNodePorts"), only_balanced);
    } else if !allocates && is_load_balancer(svc) {
        errors.required(&Path::new("allocateLoadBalancerNodePorts"), "");
    }
    if present(svc, "spec.loadBalancerClass") {
        let class = text(svc, "spec.loadBalancerClass");
        if is_load_balancer(svc) {
            errors.invalid_each(&spec("loadBalancerClass"), class, &format::qualified_name(class));
        } else {
            errors.forbidden(&spec("loadBalancerClass"), only_balanced);
        }
    }
}

fn check_external_traffic(svc: &Value, errors: &mut Errors) {
    let (policy, path) = (text(svc, "spec.externalTrafficPolicy"), spec("externalTrafficPolicy"));
    if externally_accessible(svc) {
        common::check_one_of(policy, POLICIES, &path, errors);
    } else if !policy.is_empty() {
        errors.invalid(&path, policy, "may only be set for externally-accessible services");
    }
    let (port, path) = (int(svc, "spec.healthCheckNodePort"), spec("healthCheckNodePort"));
    match (needs_health_check(svc), port) {
        (false, 0) => {}
        (false, _) => errors.invalid(
            &path,
            port,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
        (true, 0) => errors.required(&path, ""),
        (true, _) => common::check_port_number(port, &path, errors),
    }
}

fn check_internal_traffic(svc: &Value, errors: &mut Errors) {
    let path = spec("internalTrafficPolicy");
    if present(svc, "spec.internalTrafficPolicy") {
        let policy = text(svc, "spec.internalTrafficPolicy");
        if !POLICIES.contains(&policy) {
            errors.not_supported(&path, policy, POLICIES);
        }
    } else if matches!(kind(svc), "NodePort" | "LoadBalancer" | "ClusterIP") {
        errors.required(&path, "");
    }
    if present(svc, "spec.trafficDistribution") {
        let wanted = text(svc, "spec.trafficDistribution");
        if !DISTRIBUTIONS.contains(&wanted) {
            errors.not_supported(&spec("trafficDistribution"), wanted, DISTRIBUTIONS);
        }
    }
}

/// A write of `status`.
pub fn validate_status(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("status.loadBalancer.ingress");
    let ingress = list(new, "status.loadBalancer.ingress");
    if !ingress.is_empty() && !is_load_balancer(new) {
        errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    let known: Vec<&str> = list(old, "status.loadBalancer.ingress").iter().map(|i| text(i, "ip")).collect();
    for (i, point) in ingress.iter().enumerate() {
        let path = path.index(i);
        let (address, hostname) = (text(point, "ip"), text(point, "hostname"));
        if !address.is_empty() && !known.contains(&address) {
            errors.invalid_each(&path.child("ip"), address, &ip::address(address));
        }
        let (mode, path_mode) = (text(point, "ipMode"), path.child("ipMode"));
        match (address.is_empty(), present(point, "ipMode")) {
            (false, false) => errors.required(&path_mode, "must be specified when `ip` is set"),
            (true, true) => errors.forbidden(&path_mode, "may not be specified when `ip` is not set"),
            (false, true) if !["Proxy", "VIP"].contains(&mode) => {
                errors.not_supported(&path_mode, mode, &["Proxy", "VIP"]);
            }
            _ => {}
        }
        if !hostname.is_empty() {
            let path = path.child("hostname");
            errors.invalid_each(&path, hostname, &format::dns1123_subdomain(hostname));
            if ip::address(hostname).is_empty() {
                errors.invalid(&path, hostname, "must be a DNS name, not an IP address");
            }
        }
    }
}
