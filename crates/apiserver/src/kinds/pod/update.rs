//! What may change in a Pod, and what a new one starts with.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{resources, spec};
use crate::kinds::{
    field::{Errors, Path},
    format,
    strategy::same,
    value::{at, copy_key, int, items_mut, list, present, set, text},
};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A new Pod is Pending.
pub fn prepare_create(pod: &mut Value) {
    let class = resources::qos_class(pod);
    set(pod, "status", json!({"phase": "Pending", "qosClass": class}));
}

/// What its class gave a Pod stays when a client leaves it out.
pub fn prepare_update(old: &Value, pod: &mut Value) {
    for key in ["priority", "preemptionPolicy"] {
        if pod["spec"].is_object() && !present(&pod["spec"], key) {
            copy_key(&old["spec"], &mut pod["spec"], key);
        }
    }
}

/// A changed Pod: images, deadlines, tolerations and gates, nothing else.
pub fn validate_update(old: &Value, new: &Value, errors: &mut Errors) {
    spec::check_pod(new, errors);
    let path = Path::new("spec");
    for field in ["containers", "initContainers"] {
        if list(&old["spec"], field).len() != list(&new["spec"], field).len() {
            return errors.forbidden(&path.child(field), "pod updates may not add or remove containers");
        }
    }
    check_deadline(old, new, &path.child("activeDeadlineSeconds"), errors);
    check_tolerations(old, new, &path.child("tolerations"), errors);
    for (i, gate) in list(new, "spec.schedulingGates").iter().enumerate() {
        if !list(old, "spec.schedulingGates").contains(gate) {
            let name = text(gate, "name");
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.child("schedulingGates").index(i).child("name"), &why);
        }
    }
    let changed = changed_fields(&old["spec"], new["spec"].clone());
    if !changed.is_empty() {
        let listed = changed.join(", ");
        let why = format!("pod updates may not change fields other than {UPDATABLE}\nchanged: {listed}");
        errors.forbidden(&path, &why);
    }
}

/// Ephemeral containers are only added, and see the processes of a container that exists.
pub fn validate_ephemeral(old: &Value, new: &Value, errors: &mut Errors) {
    spec::check_pod(new, errors);
    let path = Path::new("spec").child("ephemeralContainers");
    let now = list(new, "spec.ephemeralContainers");
    let named = |all: &[Value], name: &str| all.iter().find(|c| text(c, "name") == name).cloned();
    for before in list(old, "spec.ephemeralContainers") {
        let name = text(before, "name");
        match named(now, name) {
            None => errors
                .forbidden(&path, &format!("existing ephemeral containers \"{name}\" may not be removed\n")),
            Some(after) if !same(Some(before), Some(&after)) => {
                errors.forbidden(
                    &path,
                    &format!("existing ephemeral containers \"{name}\" may not be changed\n"),
                );
            }
            Some(_) => {}
        }
    }
    for (i, container) in now.iter().enumerate() {
        let target = text(container, "targetContainerName");
        let known =
            ["spec.containers", "spec.initContainers"].iter().any(|f| named(list(new, f), target).is_some());
        if !target.is_empty() && !known {
            errors.not_found(&path.index(i).child("targetContainerName"), target);
        }
    }
}

fn check_deadline(old: &Value, new: &Value, path: &Path, errors: &mut Errors) {
    let field = "spec.activeDeadlineSeconds";
    let (before, now) = (int(old, field), int(new, field));
    if present(new, field) {
        let complaints = format::in_range(now, 0, i64::from(i32::MAX));
        if complaints.is_empty() && present(old, field) && before < now {
            errors.invalid(path, now, "must be less than or equal to previous value");
        }
        complaints.iter().for_each(|complaint| errors.invalid(path, now, complaint));
    } else if present(old, field) {
        errors.invalid(path, Value::Null, "must not update from a positive integer to nil value");
    }
}

fn check_tolerations(old: &Value, new: &Value, path: &Path, errors: &mut Errors) {
    let without_seconds = |toleration: &Value| {
        let mut copy = toleration.clone();
        crate::kinds::value::drop_key(&mut copy, "tolerationSeconds");
        copy
    };
    let now: Vec<Value> = list(new, "spec.tolerations").iter().map(without_seconds).collect();
    if !list(old, "spec.tolerations").iter().all(|t| now.contains(&without_seconds(t))) {
        errors.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
    }
}

/// The top-level fields of the spec that differ once everything that may differ is made equal.
fn changed_fields(old: &Value, mut new: Value) -> Vec<String> {
    for field in ["containers", "initContainers"] {
        for (old, new) in list(old, field).iter().zip(items_mut(&mut new, field)) {
            copy_key(old, new, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        copy_key(old, &mut new, field);
    }
    if int(old, "terminationGracePeriodSeconds") < 0 && int(&new, "terminationGracePeriodSeconds") == 1 {
        copy_key(old, &mut new, "terminationGracePeriodSeconds");
    }
    if !list(old, "schedulingGates").is_empty() {
        copy_key(old, &mut new, "nodeSelector");
        copy_key(old, &mut new, "affinity");
    }
    let keys = |v: &Value| v.as_object().map(|m| m.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut all = keys(old);
    all.extend(keys(&new).into_iter().filter(|k| !old.as_object().is_some_and(|o| o.contains_key(k))));
    all.retain(|key| {
        let (a, b) = (at(old, key), at(&new, key));
        let empty = crate::kinds::value::is_empty;
        a != b && !(empty(a) && empty(b))
    });
    all
}

/// A write of `status`.
pub fn validate_status(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let nominated = text(new, "status.nominatedNodeName");
    if !nominated.is_empty() && nominated != text(old, "status.nominatedNodeName") {
        let path = path.child("nominatedNodeName");
        errors.invalid_each(&path, nominated, &format::dns1123_subdomain(nominated));
    }
    let class = at(old, "status.qosClass");
    crate::kinds::common::check_immutable(class, at(new, "status.qosClass"), &path.child("qosClass"), errors);
    let restart = text(old, "spec.restartPolicy");
    for (i, before) in list(old, "status.containerStatuses").iter().enumerate() {
        let Some(ended) = at(before, "state.terminated") else { continue };
        let restarts = restart == "Always" || (restart == "OnFailure" && int(ended, "exitCode") != 0);
        let own = list(old, "spec.containers").iter().find(|c| text(c, "name") == text(before, "name"));
        let revived = list(new, "status.containerStatuses")
            .iter()
            .any(|s| text(s, "name") == text(before, "name") && !present(s, "state.terminated"));
        if revived && !restarts && !own.is_some_and(|c| present(c, "restartPolicy")) {
            let why = "may not be transitioned to non-terminated state";
            errors.forbidden(&path.child("containerStatuses").index(i).child("state"), why);
        }
    }
    let ips = list(new, "status.podIPs");
    if several_of_one_family(ips) {
        let why = "may specify no more than one IP for each IP family";
        errors.invalid(&path.child("podIPs"), json!(ips), why);
    }
    for (i, entry) in ips.iter().enumerate() {
        let (address, path) = (text(entry, "ip"), path.child("podIPs").index(i));
        errors.invalid_each(&path, address, &crate::kinds::ip::address(address));
        if ips[..i].contains(entry) {
            errors.duplicate(&path, entry.clone());
        }
    }
}

/// Of addresses that are valid.
fn several_of_one_family(ips: &[Value]) -> bool {
    let six = |entry: &Value| text(entry, "ip").parse::<IpAddr>().ok().map(|ip| ip.is_ipv6());
    let families: Option<Vec<bool>> = ips.iter().map(six).collect();
    families.is_some_and(|six| six.len() > 2 || matches!(six.as_slice(), [one, other] if one == other))
}
