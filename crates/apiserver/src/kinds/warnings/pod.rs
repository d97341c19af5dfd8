//! Pods and templates of pods.

use serde_json::Value;

use super::address::check_ip;
use super::{labels, ports, volumes};
use crate::kinds::field::Path;
use crate::kinds::value::{int, list, members, present, strings, text};
use crate::schema::quantity::Quantity;

const DEPRECATED_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const APP_ARMOR: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
const MATCHES_NONE: &str = "a null labelSelector results in matching no pod";

/// Of a pod, or of a template at `path`.
pub fn check(path: &Path, pod: &Value, found: &mut Vec<String>) {
    let (spec, annotations) = (&pod["spec"], &path.child("metadata").child("annotations"));
    let path = &path.child("spec");
    check_nodes(path, spec, found);
    for (key, why) in DEPRECATED_ANNOTATIONS {
        if annotated(pod, key) {
            found.push(format!("{}: {why}", annotations.key(key)));
        }
    }
    volumes::check(path, spec, found);
    check_repeats(path, spec, found);
    for resource in ["memory", "ephemeral-storage"] {
        check_bytes(&path.child("overhead"), &spec["overhead"], resource, found);
    }
    const OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    if !present(spec, "securityContext.seccompProfile") && annotated(pod, OF_POD) {
        found.push(format!("{}: {SECCOMP}", annotations.key(OF_POD)));
    }
    for (path, container) in containers(path, spec) {
        check_container(&path, container, pod, annotations, found);
    }
    ports::check(path, spec, found);
    if int(spec, "terminationGracePeriodSeconds") < 0 {
        found.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            path.child("terminationGracePeriodSeconds")
        ));
    }
    check_affinity(path, spec, found);
    for (i, server) in strings(spec, "dnsConfig.nameservers").iter().enumerate() {
        check_ip(&path.child("dnsConfig").child("nameservers").index(i), server, found);
    }
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        check_ip(&path.child("hostAliases").index(i).child("ip"), text(alias, "ip"), found);
    }
}

/// All containers with their places: those before, the pod's own, and those added later.
pub fn containers<'a>(path: &Path, spec: &'a Value) -> Vec<(Path, &'a Value)> {
    let mut all = Vec::new();
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        let of_list = list(spec, field).iter().enumerate();
        all.extend(of_list.map(|(i, container)| (path.child(field).index(i), container)));
    }
    all
}

fn annotated(pod: &Value, key: &str) -> bool {
    pod["metadata"]["annotations"].get(key).is_some()
}

/// Labels of nodes with newer names, and constraints that match nothing.
fn check_nodes(path: &Path, spec: &Value, found: &mut Vec<String>) {
    for (key, _) in members(spec, "nodeSelector") {
        if let Some(why) = labels::deprecated(key) {
            found.push(format!("{}: {why}", path.child("nodeSelector").key(key)));
        }
    }
    let (required, preferred) =
        ("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution");
    let (affinity, of) = (path.child("affinity").child("nodeAffinity"), &spec["affinity"]["nodeAffinity"]);
    for (i, term) in list(&of[required], "nodeSelectorTerms").iter().enumerate() {
        let path = affinity.child(required).child("nodeSelectorTerms").index(i);
        labels::check_term(&path, term, false, found);
    }
    for (i, term) in list(of, preferred).iter().enumerate() {
        let path = affinity.child(preferred).index(i).child("preference");
        labels::check_term(&path, &term["preference"], true, found);
    }
    for (i, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let (path, key) = (path.child("topologySpreadConstraints").index(i), text(constraint, "topologyKey"));
        if let Some(why) = labels::deprecated(key) {
            found.push(format!("{}: {key} is {why}", path.child("topologyKey")));
        }
        if !present(constraint, "labelSelector") {
            found.push(format!("{}: {MATCHES_NONE}", path.child("labelSelector")));
        }
    }
}

/// Lists whose items are merged by a key that occurs twice in them.
fn check_repeats(path: &Path, spec: &Value, found: &mut Vec<String>) {
    for (field, key) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = Vec::new();
        let items: Vec<&str> = list(spec, field).iter().map(|item| text(item, key)).collect();
        for (i, value) in items.iter().enumerate() {
            if seen.contains(value) {
                found.push(format!("{}: duplicate {key} {value:?}", path.child(field).index(i).child(key)));
            }
            seen.push(*value);
        }
        for (i, _) in items.iter().enumerate().filter(|(_, v)| field == "imagePullSecrets" && v.is_empty()) {
            found.push(format!("{}: invalid empty name \"\"", path.child(field).index(i).child(key)));
        }
    }
}

/// Bytes come in whole numbers.
pub fn check_bytes(path: &Path, amounts: &Value, resource: &str, found: &mut Vec<String>) {
    let Some(amount) = amounts.get(resource).and_then(Value::as_str).and_then(Quantity::parse) else {
        return;
    };
    if amount.millis() % 1000 != 0 {
        found.push(format!(
            "{}: fractional byte value {:?} is invalid, must be an integer",
            path.key(resource),
            amount.canonical()
        ));
    }
}

fn check_container(path: &Path, container: &Value, pod: &Value, annotations: &Path, found: &mut Vec<String>) {
    let name = text(container, "name");
    for (prefix, field, why) in [
        ("container.seccomp.security.alpha.kubernetes.io/", "seccompProfile", SECCOMP),
        ("container.apparmor.security.beta.kubernetes.io/", "appArmorProfile", APP_ARMOR),
    ] {
        let key = format!("{prefix}{name}");
        let of_pod = field == "appArmorProfile" && present(&pod["spec"]["securityContext"], field);
        if annotated(pod, &key) && !present(&container["securityContext"], field) && !of_pod {
            found.push(format!("{}: {why}", annotations.key(&key)));
        }
    }
    for resource in ["memory", "ephemeral-storage"] {
        for field in ["limits", "requests"] {
            check_bytes(
                &path.child("resources").child(field),
                &container["resources"][field],
                resource,
                found,
            );
        }
    }
    let mut seen = Vec::new();
    for (i, variable) in list(container, "env").iter().enumerate() {
        let (name, value) = (text(variable, "name"), text(variable, "value"));
        let refers = format!("$({name})");
        let replaces = present(variable, "valueFrom") || value == refers || !value.contains(&refers);
        if seen.contains(&name) && replaces {
            found.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                path.child("env").index(i)
            ));
        }
        seen.push(name);
    }
}

fn check_affinity(path: &Path, spec: &Value, found: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (path, of) = (path.child("affinity").child(kind), &spec["affinity"][kind]);
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in list(of, required).iter().enumerate() {
            if !present(term, "labelSelector") {
                found.push(format!(
                    "{}: {MATCHES_NONE}",
                    path.child(required).index(i).child("labelSelector")
                ));
            }
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in list(of, preferred).iter().enumerate() {
            if !present(term, "podAffinityTerm.labelSelector") {
                let path = path.child(preferred).index(i).child("podAffinityTerm").child("labelSelector");
                found.push(format!("{path}: {MATCHES_NONE}"));
            }
        }
    }
}
