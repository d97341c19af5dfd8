//! Checks of pod specs, in pods and in templates.

use serde_json::{Value, json};

use super::{
    container::{self, PodContext},
    volumes,
};
use crate::{
    kinds::{
        common,
        field::{Errors, Path},
        format, ip, metadata,
        value::{at, int, list, present, strings, text, truth},
    },
    selector::{validate_labels, validate_selector},
};

pub const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A new Pod.
pub fn validate_create(pod: &Value, errors: &mut Errors) {
    check_pod(pod, errors);
    let path = Path::new("spec");
    if !list(pod, "spec.ephemeralContainers").is_empty() {
        errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
    }
    if !text(pod, "spec.nodeName").is_empty() && !list(pod, "spec.schedulingGates").is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&path.child("nodeName"), why);
    }
}

/// What holds for new and for changed Pods.
pub fn check_pod(pod: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    check_spec(&pod["spec"], &path, errors);
    for field in ["containers", "initContainers"] {
        for (i, container) in list(&pod["spec"], field).iter().enumerate() {
            let image = text(container, "image");
            if image.trim() != image {
                let path = path.child(field).index(i).child("image");
                errors.invalid(&path, image, "must not have leading or trailing whitespace");
            }
        }
    }
}

/// A pod template at `path`.
pub fn check_template(template: &Value, path: &Path, errors: &mut Errors) {
    let labels = &template["metadata"]["labels"];
    validate_labels(labels, &path.child("labels"), errors);
    metadata::check_annotations(template, &path.child("annotations"), errors);
    check_spec(&template["spec"], &path.child("spec"), errors);
    if !list(template, "spec.ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.forbidden(&path.child("spec").child("ephemeralContainers"), why);
    }
}

fn check_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    if !present(spec, "terminationGracePeriodSeconds") {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volumes::check(spec, path, errors);
    let context = PodContext { volumes, grace: int(spec, "terminationGracePeriodSeconds") };
    container::check_all(spec, &context, path, errors);
    check_host_network(spec, path, errors);
    let restart = ["Always", "OnFailure", "Never"];
    common::check_one_of(text(spec, "restartPolicy"), &restart, &path.child("restartPolicy"), errors);
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    common::check_one_of(text(spec, "dnsPolicy"), &dns, &path.child("dnsPolicy"), errors);
    validate_labels(&spec["nodeSelector"], &path.child("nodeSelector"), errors);
    check_security(spec, &path.child("securityContext"), errors);
    check_dns_config(spec, &path.child("dnsConfig"), errors);
    check_spreading(spec, &path.child("topologySpreadConstraints"), errors);
    check_names(spec, path, errors);
    if present(spec, "activeDeadlineSeconds") {
        let seconds = int(spec, "activeDeadlineSeconds");
        for complaint in format::in_range(seconds, 1, i64::from(i32::MAX)) {
            errors.invalid(&path.child("activeDeadlineSeconds"), seconds, &complaint);
        }
    }
    check_tolerations(spec, &path.child("tolerations"), errors);
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        let path = path.child("hostAliases").index(i);
        errors.invalid_each(&path.child("ip"), text(alias, "ip"), &ip::address(text(alias, "ip")));
        for (j, name) in strings(alias, "hostnames").into_iter().enumerate() {
            errors.invalid_each(&path.child("hostnames").index(j), name, &format::dns1123_subdomain(name));
        }
    }
    if present(spec, "preemptionPolicy") {
        let policies = ["PreemptLowerPriority", "Never"];
        let policy = text(spec, "preemptionPolicy");
        common::check_one_of(policy, &policies, &path.child("preemptionPolicy"), errors);
    }
}

/// Fields that name something: each optional, each with its format.
fn check_names(spec: &Value, path: &Path, errors: &mut Errors) {
    let subdomain: fn(&str) -> format::Complaints = format::dns1123_subdomain;
    let label: fn(&str) -> format::Complaints = format::dns1123_label;
    for (field, check) in [
        ("serviceAccountName", subdomain),
        ("nodeName", subdomain),
        ("hostname", label),
        ("subdomain", label),
        ("priorityClassName", subdomain),
        ("runtimeClassName", subdomain),
    ] {
        let name = text(spec, field);
        if !name.is_empty() {
            errors.invalid_each(&path.child(field), name, &check(name));
        }
    }
    for (field, key) in [("readinessGates", "conditionType"), ("schedulingGates", "name")] {
        for (i, gate) in list(spec, field).iter().enumerate() {
            let name = text(gate, key);
            errors.invalid_each(&path.child(field).index(i).child(key), name, &format::qualified_name(name));
        }
    }
}

fn check_host_network(spec: &Value, path: &Path, errors: &mut Errors) {
    if !truth(spec, "hostNetwork") {
        return;
    }
    for (i, container) in list(spec, "containers").iter().enumerate() {
        for (j, port) in list(container, "ports").iter().enumerate() {
            let host = int(port, "hostPort");
            if host != 0 && host != int(port, "containerPort") {
                let path = path.child("containers").index(i).child("ports").index(j).child("hostPort");
                errors.invalid(&path, host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn check_security(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(context) = at(spec, "securityContext") else { return };
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        container::check_id(context, field, path, errors);
    }
    for (i, group) in list(context, "supplementalGroups").iter().enumerate() {
        let group = group.as_i64().unwrap_or(-1);
        for complaint in format::in_range(group, 0, i64::from(i32::MAX)) {
            errors.invalid(&path.child("supplementalGroups").index(i), group, &complaint);
        }
    }
    if truth(spec, "shareProcessNamespace") && truth(spec, "hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, why);
    }
}

fn check_dns_config(spec: &Value, path: &Path, errors: &mut Errors) {
    let config = at(spec, "dnsConfig");
    let nameservers = strings(spec, "dnsConfig.nameservers");
    if text(spec, "dnsPolicy") == "None" {
        if config.is_none() {
            return errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if nameservers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return errors.required(&path.child("nameservers"), why);
        }
    }
    if nameservers.len() > 3 {
        let path = path.child("nameservers");
        errors.invalid(&path, json!(nameservers), "must not have more than 3 nameservers");
    }
    for (i, server) in nameservers.into_iter().enumerate() {
        errors.invalid_each(&path.child("nameservers").index(i), server, &ip::address(server));
    }
    let searches = strings(spec, "dnsConfig.searches");
    if searches.len() > 32 {
        let path = path.child("searches");
        errors.invalid(&path, json!(searches), "must not have more than 32 search paths");
    }
    if searches.join(" ").len() > 2048 {
        let why = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&path.child("searches"), json!(searches), why);
    }
    for (i, search) in searches.into_iter().enumerate().filter(|(_, s)| *s != ".") {
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "");
        errors.invalid_each(&path.child("searches").index(i), search, &format::dns1123_subdomain(&name));
    }
    for (i, option) in list(spec, "dnsConfig.options").iter().enumerate() {
        if text(option, "name").is_empty() {
            errors.required(&path.child("options").index(i), "must not be empty");
        }
    }
}

fn check_spreading(spec: &Value, path: &Path, errors: &mut Errors) {
    for (i, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = path.index(i);
        let skew = int(constraint, "maxSkew");
        common::check_positive(skew, &path.child("maxSkew"), errors);
        let key = text(constraint, "topologyKey");
        if key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        let action = text(constraint, "whenUnsatisfiable");
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errors.not_supported(&path.child("whenUnsatisfiable"), action, &actions);
        }
        if present(constraint, "labelSelector") {
            validate_selector(&constraint["labelSelector"], &path.child("labelSelector"), errors);
        }
    }
}

/// Checks all tolerations.
pub fn check_tolerations(spec: &Value, path: &Path, errors: &mut Errors) {
    for (i, toleration) in list(spec, "tolerations").iter().enumerate() {
        let path = path.index(i);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
        if !key.is_empty() {
            errors.invalid_each(&path.child("key"), key, &format::qualified_name(key));
        } else if operator != "Exists" {
            let why =
                r#"operator must be Exists when `key` is empty, which means "match all values and all keys""#;
            errors.invalid(&path.child("operator"), operator, why);
        }
        if present(toleration, "tolerationSeconds") && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect, why);
        }
        let path_operator = path.child("operator");
        match operator {
            "" | "Equal" => {
                let complaints = format::label_value(value);
                if !complaints.is_empty() {
                    errors.invalid(&path_operator, value, &complaints.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(&path_operator, value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            other => errors.not_supported(&path_operator, other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !TAINT_EFFECTS.contains(&effect) {
            errors.not_supported(&path.child("effect"), effect, TAINT_EFFECTS);
        }
    }
}
