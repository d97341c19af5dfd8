//! PodDisruptionBudgets: checks. ControllerRevisions: their data never changes.

use serde_json::{Value, json};

use super::{
    common,
    field::{Errors, Path},
    value::{at, int, is_empty, object, present, set, text},
};
use crate::selector::validate_selector;

const POLICIES: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];

pub fn check_budget(obj: &Value, _old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &obj["spec"];
    if present(spec, "minAvailable") && present(spec, "maxUnavailable") {
        errors.invalid(&path, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if let Some(value) = at(spec, field) {
            common::check_count_or_percent(value, &path.child(field), errors);
            common::check_at_most_all(value, &path.child(field), errors);
        }
    }
    if present(spec, "selector") {
        validate_selector(&spec["selector"], &path.child("selector"), errors);
    }
    let policy = text(spec, "unhealthyPodEvictionPolicy");
    if !policy.is_empty() && !POLICIES.contains(&policy) {
        errors.not_supported(&path.child("unhealthyPodEvictionPolicy"), policy, &POLICIES);
    }
}

pub fn check_budget_status(_old: &Value, new: &Value, errors: &mut Errors) {
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        let count = int(new, &format!("status.{field}"));
        common::check_nonnegative(count, &Path::new("status").child(field), errors);
    }
}

/// A budget is told apart from one that nobody has looked at by its status, which has all numbers.
pub fn prepare_budget(obj: &mut Value) {
    let none = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    set(obj, "status", none);
}

pub fn check_revision(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    common::check_nonnegative(int(obj, "revision"), &Path::new("revision"), errors);
    let path = Path::new("data");
    match (old, obj.get("data")) {
        (Some(old), new) => common::check_immutable(old.get("data"), new, &path, errors),
        (None, None | Some(Value::Null)) => errors.required(&path, "data is mandatory"),
        (None, Some(Value::Object(_))) => {}
        (None, Some(_)) => errors.required(&path, "data must be a valid JSON object"),
    }
}

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The age of a DaemonSet's template, for old clients.
pub fn prepare_daemon_set(obj: &mut Value) {
    let given =
        at(obj, "metadata").and_then(|m| m.get("annotations")).and_then(|a| a.get(TEMPLATE_GENERATION));
    let given = given.and_then(Value::as_str).and_then(|g| g.parse::<i64>().ok()).unwrap_or(0);
    set_generation(obj, given.max(1));
}

/// It grows with each change of the template.
pub fn update_daemon_set(old: &Value, new: &mut Value) {
    let known = old["metadata"]["annotations"].get(TEMPLATE_GENERATION).and_then(Value::as_str);
    let known = known.and_then(|g| g.parse::<i64>().ok()).unwrap_or(0);
    let (before, after) = (at(old, "spec.template"), at(new, "spec.template"));
    let changed = !super::strategy::same(before, after);
    if known > 0 || changed {
        set_generation(new, known + i64::from(changed));
    }
}

fn set_generation(obj: &mut Value, generation: i64) {
    if let Some(annotations) = object(obj, "metadata").and_then(|m| object(m, "annotations")) {
        set(annotations, TEMPLATE_GENERATION, generation.to_string());
    }
}

/// Whether a Service's address, or what an IPAddress stands for, is complete.
pub fn check_ip_address(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec.parentRef");
    if let Some(old) = old {
        common::check_immutable(at(old, "spec.parentRef"), at(obj, "spec.parentRef"), &path, errors);
    }
    if is_empty(at(obj, "spec.parentRef")) {
        return errors.required(&path, "");
    }
    for field in ["resource", "name"] {
        if text(&obj["spec"]["parentRef"], field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
}

/// One CIDR, or one of each family; they never change but for a second family that is added.
pub fn check_service_cidr(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec.cidrs");
    let cidrs = super::value::strings(obj, "spec.cidrs");
    if cidrs.is_empty() {
        return errors.required(&path, "at least one CIDR required");
    }
    if cidrs.len() > 2 {
        errors.invalid(&path, json!(cidrs), "may only hold up to 2 values");
    }
    let v6 = cidrs.iter().filter(|c| c.contains(':')).count();
    if cidrs.len() == 2 && v6 != 1 {
        errors.invalid(
            &path,
            json!(cidrs),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96",
        );
    }
    for (i, cidr) in cidrs.iter().enumerate() {
        errors.invalid_each(&path.index(i), cidr, &super::ip::cidr(cidr));
    }
    let Some(old) = old else { return };
    let before = super::value::strings(old, "spec.cidrs");
    let kept = cidrs.starts_with(&before);
    if !kept {
        errors.invalid(&path, json!(cidrs), "field is immutable");
    }
}
