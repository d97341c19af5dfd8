//! Deployments, ReplicaSets, DaemonSets, StatefulSets and ReplicationControllers: defaults and checks.

use serde_json::Value;

use super::{
    common,
    field::{Errors, Path},
    pod,
    value::{at, fill, int, is_empty, object, present, text},
};
use crate::selector::{LabelSelector, validate_selector};

pub(super) fn spec_of(obj: &mut Value) -> Option<&mut Value> {
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
pub(super) fn check_selector(obj: &Value, noun: &str, required: bool, errors: &mut Errors) {
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
pub(super) fn check_template(obj: &Value, noun: &str, errors: &mut Errors) {
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

pub(super) fn check_nonnegative(obj: &Value, fields: &[&str], errors: &mut Errors) {
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
