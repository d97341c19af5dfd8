//! Jobs and CronJobs: defaults and checks.

use serde_json::Value;

use super::{
    common, cron,
    field::{Errors, Path},
    job, pod,
    value::{at, fill, int, is_empty, object, present, text, truth},
};
use crate::selector::{LabelSelector, validate_selector};

fn default_job_spec(spec: &mut Value) {
    if let Some(template) = spec.get_mut("template") {
        pod::default_template(template);
    }
    if !present(spec, "completions") && !present(spec, "parallelism") {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let limit = if present(spec, "backoffLimitPerIndex") { i32::MAX } else { 6 };
    fill(spec, "backoffLimit", limit);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    let replacement = if present(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    fill(spec, "podReplacementPolicy", replacement);
    fill(spec, "manualSelector", false);
    job::default_policies(spec);
}

pub fn default_job(obj: &mut Value) {
    let labels = at(obj, "spec.template.metadata.labels").cloned();
    let Some(spec) = obj.get_mut("spec").filter(|s| s.is_object()) else { return };
    default_job_spec(spec);
    if let Some(labels) = labels
        && is_empty(at(obj, "metadata.labels"))
        && let Some(metadata) = object(obj, "metadata")
    {
        metadata["labels"] = labels;
    }
}

pub fn default_cron_job(obj: &mut Value) {
    let Some(spec) = obj.get_mut("spec").filter(|s| s.is_object()) else { return };
    fill(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    if let Some(template) = super::value::at_mut(spec, "jobTemplate.spec.template") {
        pod::default_template(template);
    }
}

/// Gives a Job the selector and labels that tie its pods to it, unless the user manages them.
pub fn prepare_job(obj: &mut Value) {
    let (uid, name) = (text(obj, "metadata.uid").to_owned(), text(obj, "metadata.name").to_owned());
    if uid.is_empty() || truth(obj, "spec.manualSelector") {
        return;
    }
    let Some(template) = obj.get_mut("spec").and_then(|s| object(s, "template")) else { return };
    let Some(labels) = object(template, "metadata").and_then(|m| object(m, "labels")) else { return };
    for prefix in ["", "batch.kubernetes.io/"] {
        fill(labels, &format!("{prefix}controller-uid"), uid.as_str());
        fill(labels, &format!("{prefix}job-name"), name.as_str());
    }
    if let Some(selector) = obj.get_mut("spec").and_then(|s| object(s, "selector"))
        && let Some(labels) = object(selector, "matchLabels")
    {
        fill(labels, "batch.kubernetes.io/controller-uid", uid);
    }
}

const COUNTS: [&str; 7] = [
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
];

fn check_job_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    for field in COUNTS {
        common::check_nonnegative(int(spec, field), &path.child(field), errors);
    }
    let mode = text(spec, "completionMode");
    let modes = ["NonIndexed", "Indexed"];
    if !mode.is_empty() && !modes.contains(&mode) {
        errors.not_supported(&path.child("completionMode"), mode, &modes);
    }
    if mode == "Indexed" && !present(spec, "completions") {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if mode != "Indexed" && present(spec, field) {
            errors.invalid(&path.child(field), int(spec, field), "requires indexed completion mode");
        }
    }
    job::check_policies(spec, path, errors);
    let template = path.child("template");
    pod::check_template(&spec["template"], &template, errors);
    let restart = text(spec, "template.spec.restartPolicy");
    if !["OnFailure", "Never"].contains(&restart) {
        let path = template.child("spec").child("restartPolicy");
        if restart == "Always" {
            errors.required(&path, r#"valid values: "OnFailure", "Never""#);
        } else {
            errors.not_supported(&path, restart, &["OnFailure", "Never"]);
        }
    }
}

pub fn check_job(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    check_job_spec(&obj["spec"], &path, errors);
    let selector = &obj["spec"]["selector"];
    if selector.is_null() {
        errors.required(&path.child("selector"), "");
    } else {
        validate_selector(selector, &path.child("selector"), errors);
        let labels = &obj["spec"]["template"]["metadata"]["labels"];
        if !LabelSelector::from_object(selector).matches_labels(labels) {
            let path = Path::new("spec.template.metadata.labels");
            errors.invalid(&path, labels.clone(), "`selector` does not match template `labels`");
        }
    }
    job::check_generated(obj, errors);
    if let Some(old) = old {
        job::check_update(old, obj, errors);
    }
}

pub fn check_cron_job(obj: &Value, _old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    cron::check_schedule(&obj["spec"], &path, errors);
    let policies = ["Allow", "Forbid", "Replace"];
    let policy = text(obj, "spec.concurrencyPolicy");
    common::check_one_of(policy, &policies, &path.child("concurrencyPolicy"), errors);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit", "startingDeadlineSeconds"] {
        common::check_nonnegative(int(obj, &format!("spec.{field}")), &path.child(field), errors);
    }
    check_job_spec(&obj["spec"]["jobTemplate"]["spec"], &path.child("jobTemplate").child("spec"), errors);
}
