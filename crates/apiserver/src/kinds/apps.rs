//! Deployments, ReplicaSets, DaemonSets, StatefulSets and ReplicationControllers: defaults and checks.

use serde_json::{Value, json};

use super::{
    common,
    field::{Errors, Path},
    format, pod,
    value::{at, copy_key, drop_key, fill, int, is_empty, list, object, present, text},
};
use crate::selector::{LabelSelector, validate_selector};

fn spec_of(obj: &mut Value) -> Option<&mut Value> {
    let spec = obj.get_mut("spec").filter(|s| s.is_object())?;
    if let Some(template) = spec.get_mut("template") {
        pod::default_template(template);
    }
    Some(spec)
}

pub fn default_deployment(obj: &mut Value) {
    let Some(spec) = spec_of(obj) else { return };
    fill(spec, "replicas", 1);
    if let Some(strategy) = object(spec, "strategy") {
        fill(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = object(strategy, "rollingUpdate")
        {
            fill(rolling, "maxUnavailable", "25%");
            fill(rolling, "maxSurge", "25%");
        }
    }
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
}

pub fn default_replica_set(obj: &mut Value) {
    if let Some(spec) = spec_of(obj) {
        fill(spec, "replicas", 1);
    }
}

pub fn default_daemon_set(obj: &mut Value) {
    let Some(spec) = spec_of(obj) else { return };
    if let Some(strategy) = object(spec, "updateStrategy") {
        fill(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = object(strategy, "rollingUpdate")
        {
            fill(rolling, "maxUnavailable", 1);
            fill(rolling, "maxSurge", 0);
        }
    }
    fill(spec, "revisionHistoryLimit", 10);
}

pub fn default_stateful_set(obj: &mut Value) {
    let Some(spec) = spec_of(obj) else { return };
    fill(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = object(spec, "updateStrategy") {
        if text(strategy, "type").is_empty() {
            fill(strategy, "type", "RollingUpdate");
            object(strategy, "rollingUpdate");
        }
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = strategy.get_mut("rollingUpdate")
        {
            fill(rolling, "partition", 0);
        }
    }
    if let Some(policy) = object(spec, "persistentVolumeClaimRetentionPolicy") {
        fill(policy, "whenDeleted", "Retain");
        fill(policy, "whenScaled", "Retain");
    }
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    for claim in super::value::items_mut(spec, "volumeClaimTemplates") {
        fill(claim, "apiVersion", "v1");
        fill(claim, "kind", "PersistentVolumeClaim");
        if let Some(spec) = claim.get_mut("spec") {
            fill(spec, "volumeMode", "Filesystem");
        }
        if let Some(status) = object(claim, "status") {
            fill(status, "phase", "Pending");
        }
    }
}

pub fn default_replication_controller(obj: &mut Value) {
    let labels = at(obj, "spec.template.metadata.labels").cloned();
    let Some(spec) = spec_of(obj) else { return };
    fill(spec, "replicas", 1);
    let Some(labels) = labels else { return };
    if is_empty(at(spec, "selector")) {
        spec["selector"] = labels.clone();
    }
    if is_empty(at(obj, "metadata.labels"))
        && let Some(metadata) = object(obj, "metadata")
    {
        metadata["labels"] = labels;
    }
}

/// Checks `selector` and that it selects what `template` makes.
fn check_selector(obj: &Value, noun: &str, required: bool, errors: &mut Errors) {
    let path = Path::new("spec.selector");
    let selector = &obj["spec"]["selector"];
    if selector.is_null() {
        if required {
            errors.required(&path, "");
        }
    } else {
        validate_selector(selector, &path, errors);
        if is_empty(selector.get("matchLabels")) && is_empty(selector.get("matchExpressions")) {
            errors.invalid(&path, selector.clone(), &format!("empty selector is invalid for {noun}"));
        }
    }
    check_template_labels(obj, &LabelSelector::from_object(selector), errors);
}

fn check_template_labels(obj: &Value, selector: &LabelSelector, errors: &mut Errors) {
    let labels = &obj["spec"]["template"]["metadata"]["labels"];
    if !selector.is_everything() && !selector.matches_labels(labels) {
        let path = Path::new("spec.template.metadata.labels");
        errors.invalid(&path, labels.clone(), "`selector` does not match template `labels`");
    }
}

/// Checks the template of pods that run for ever.
fn check_template(obj: &Value, noun: &str, errors: &mut Errors) {
    let path = Path::new("spec.template");
    pod::check_template(&obj["spec"]["template"], &path, errors);
    let restart = text(obj, "spec.template.spec.restartPolicy");
    if restart != "Always" {
        errors.not_supported(&path.child("spec").child("restartPolicy"), restart, &["Always"]);
    }
    if present(obj, "spec.template.spec.activeDeadlineSeconds") {
        let why = format!("activeDeadlineSeconds in {noun} is not Supported");
        errors.forbidden(&path.child("spec").child("activeDeadlineSeconds"), &why);
    }
}

fn check_nonnegative(obj: &Value, fields: &[&str], errors: &mut Errors) {
    for field in fields {
        let number = int(obj, &format!("spec.{field}"));
        common::check_nonnegative(number, &Path::new("spec").child(field), errors);
    }
}

fn check_selector_kept(old: Option<&Value>, new: &Value, errors: &mut Errors) {
    if let Some(old) = old {
        let path = Path::new("spec.selector");
        common::check_immutable(at(old, "spec.selector"), at(new, "spec.selector"), &path, errors);
    }
}

pub fn check_deployment(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    check_nonnegative(obj, &["replicas"], errors);
    check_selector(obj, "deployment", true, errors);
    check_template(obj, "ReplicaSet", errors);
    check_deployment_strategy(&obj["spec"]["strategy"], errors);
    check_nonnegative(obj, &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"], errors);
    let deadline = int(obj, "spec.progressDeadlineSeconds");
    if present(obj, "spec.progressDeadlineSeconds") && deadline <= int(obj, "spec.minReadySeconds") {
        let path = Path::new("spec.progressDeadlineSeconds");
        errors.invalid(&path, deadline, "must be greater than minReadySeconds");
    }
    check_selector_kept(old, obj, errors);
}

fn check_deployment_strategy(strategy: &Value, errors: &mut Errors) {
    let path = Path::new("spec.strategy");
    let rolling_path = path.child("rollingUpdate");
    let Some(rolling) = at(strategy, "rollingUpdate") else {
        match text(strategy, "type") {
            "Recreate" => {}
            "RollingUpdate" => {
                errors.required(&rolling_path, "this should be defaulted and never be nil");
            }
            _ => errors.not_supported(&path, strategy.clone(), &["Recreate", "RollingUpdate"]),
        }
        return;
    };
    match text(strategy, "type") {
        "Recreate" => {
            errors.forbidden(&rolling_path, "may not be specified when strategy `type` is 'Recreate'");
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            common::check_count_or_percent(unavailable, &rolling_path.child("maxUnavailable"), errors);
            common::check_count_or_percent(surge, &rolling_path.child("maxSurge"), errors);
            let path = rolling_path.child("maxUnavailable");
            if common::count_or_percent(unavailable) == 0 && common::count_or_percent(surge) == 0 {
                errors.invalid(&path, unavailable.clone(), "may not be 0 when `maxSurge` is 0");
            }
            common::check_at_most_all(unavailable, &path, errors);
        }
        _ => errors.not_supported(&path, strategy.clone(), &["Recreate", "RollingUpdate"]),
    }
}

pub fn check_replica_set(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    check_nonnegative(obj, &["replicas", "minReadySeconds"], errors);
    check_selector(obj, "deployment", true, errors);
    check_template(obj, "ReplicaSet", errors);
    check_selector_kept(old, obj, errors);
}

pub fn check_replication_controller(obj: &Value, _old: Option<&Value>, errors: &mut Errors) {
    check_nonnegative(obj, &["minReadySeconds", "replicas"], errors);
    if is_empty(at(obj, "spec.selector")) {
        errors.required(&Path::new("spec.selector"), "");
    } else {
        check_template_labels(obj, &LabelSelector::from_map(&obj["spec"]["selector"]), errors);
    }
    if present(obj, "spec.template") {
        check_template(obj, "ReplicationController", errors);
    } else {
        errors.required(&Path::new("spec.template"), "");
    }
}

pub fn check_daemon_set(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    check_selector_kept(old, obj, errors);
    check_selector(obj, "daemonset", false, errors);
    check_template(obj, "DaemonSet", errors);
    check_nonnegative(obj, &["minReadySeconds", "revisionHistoryLimit"], errors);
    let (strategy, path) = (&obj["spec"]["updateStrategy"], Path::new("spec.updateStrategy"));
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = &strategy["rollingUpdate"];
            let path = path.child("rollingUpdate");
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            for (value, field) in [(unavailable, "maxUnavailable"), (surge, "maxSurge")] {
                common::check_count_or_percent(value, &path.child(field), errors);
                common::check_at_most_all(value, &path.child(field), errors);
            }
            match (common::count_or_percent(unavailable), common::count_or_percent(surge)) {
                (0, 0) => {
                    errors.required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
                }
                (0, _) | (_, 0) => {}
                _ => {
                    let why = "may not be set when maxUnavailable is non-zero";
                    errors.invalid(&path.child("maxSurge"), surge.clone(), why);
                }
            }
        }
        other => errors.not_supported(&path, other, &["RollingUpdate", "OnDelete"]),
    }
}

pub fn check_stateful_set(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let policy = text(obj, "spec.podManagementPolicy");
    let path = Path::new("spec");
    if policy.is_empty() {
        errors.required(&path.child("podManagementPolicy"), "");
    } else if !["OrderedReady", "Parallel"].contains(&policy) {
        let path = path.child("podManagementPolicy");
        errors.invalid(&path, policy, "must be 'OrderedReady' or 'Parallel'");
    }
    let strategy = &obj["spec"]["updateStrategy"];
    if !["RollingUpdate", "OnDelete"].contains(&text(strategy, "type")) {
        let path = path.child("updateStrategy");
        errors.invalid(&path, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'");
    }
    check_nonnegative(obj, &["replicas", "minReadySeconds"], errors);
    let service = text(obj, "spec.serviceName");
    if !service.is_empty() && old.is_none() {
        errors.invalid_each(&path.child("serviceName"), service, &format::dns1123_label(service));
    }
    check_selector(obj, "statefulset", true, errors);
    check_template(&with_claims_as_volumes(obj), "StatefulSet", errors);
    if let Some(old) = old {
        check_stateful_set_update(old, obj, errors);
    }
}

/// Claim templates count as volumes of the pods; hostname and subdomain are the controller's.
fn with_claims_as_volumes(obj: &Value) -> Value {
    let mut copy = obj.clone();
    let claims = list(obj, "spec.volumeClaimTemplates");
    let Some(spec) = super::value::at_mut(&mut copy, "spec.template.spec") else { return copy };
    drop_key(spec, "hostname");
    drop_key(spec, "subdomain");
    if claims.is_empty() {
        return copy;
    }
    let names: Vec<&str> = claims.iter().map(|c| text(c, "metadata.name")).collect();
    let own = list(spec, "volumes").iter().filter(|v| !names.contains(&text(v, "name"))).cloned();
    let volumes: Vec<Value> = names
        .iter()
        .map(|n| json!({"name": n, "persistentVolumeClaim": {"claimName": n}}))
        .chain(own)
        .collect();
    spec["volumes"] = Value::from(volumes);
    copy
}

const STATEFUL_UPDATABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn check_stateful_set_update(old: &Value, new: &Value, errors: &mut Errors) {
    let mut equalised = new["spec"].clone();
    for field in STATEFUL_UPDATABLE {
        copy_key(&old["spec"], &mut equalised, field);
    }
    if equalised != old["spec"] {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.forbidden(&Path::new("spec"), why);
    }
}

/// Status counters may not be negative, nor exceed what they are part of.
pub fn check_status(_old: &Value, new: &Value, errors: &mut Errors) {
    let status = Path::new("status");
    let replicas = int(new, "status.replicas");
    for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "fullyLabeledReplicas"]
    {
        let (count, path) = (int(new, &format!("status.{field}")), status.child(field));
        common::check_nonnegative(count, &path, errors);
        if count > replicas {
            errors.invalid(&path, count, "cannot be greater than status.replicas");
        }
    }
    let available = int(new, "status.availableReplicas");
    if available > int(new, "status.readyReplicas") {
        let path = status.child("availableReplicas");
        errors.invalid(&path, available, "cannot be greater than readyReplicas");
    }
}

/// PodTemplates carry their template at the top.
pub fn default_pod_template(obj: &mut Value) {
    if let Some(template) = obj.get_mut("template") {
        pod::default_template(template);
    }
}
