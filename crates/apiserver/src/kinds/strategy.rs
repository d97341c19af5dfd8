//! What every kind's create and update strategies have in common.

use serde_json::{Value, json};

use super::{
    facts::{Facts, Generation},
    value::{at, copy_key, drop_key, int, is_empty, object, set, text},
};
use crate::schema::Resource;

fn has_status(res: &Resource) -> bool {
    res.subresources.contains(&"status")
}

/// A new object: no status, first generation, not being deleted.
pub fn prepare_create(res: &Resource, facts: &Facts, obj: &mut Value) {
    if has_status(res) && !facts.status_on_create {
        drop_key(obj, "status");
    }
    let Some(metadata) = object(obj, "metadata") else { return };
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        drop_key(metadata, key);
    }
    if facts.generation != Generation::Never {
        set(metadata, "generation", 1);
    }
    (facts.prepare_create)(obj);
}

/// A changed object: takes over from `old` what the write may not touch.
pub fn prepare_update(res: &Resource, facts: &Facts, sub: &str, old: &Value, new: &mut Value) {
    keep_metadata(old, new);
    match sub {
        "status" | "approval" => prepare_status(facts, old, new),
        "finalize" => {
            let finalizers = at(new, "spec.finalizers").cloned().unwrap_or_else(|| json!([]));
            for_each_content_key(old, new, |key, new| copy_key(old, new, key));
            if let Some(spec) = object(new, "spec") {
                set(spec, "finalizers", finalizers);
            }
        }
        "ephemeralcontainers" => {
            let containers = at(new, "spec.ephemeralContainers").cloned().unwrap_or_else(|| json!([]));
            for_each_content_key(old, new, |key, new| copy_key(old, new, key));
            if let Some(spec) = object(new, "spec") {
                set(spec, "ephemeralContainers", containers);
            }
        }
        "" | "scale" => {
            if has_status(res) {
                copy_key(old, new, "status");
            }
            (facts.prepare_update)(old, new);
        }
        _ => {}
    }
    // Scheduling a pod and reporting on an object are no new wishes of its user.
    let of_user = matches!(sub, "" | "scale" | "resize" | "ephemeralcontainers");
    if of_user
        && is_new_generation(facts, old, new)
        && let Some(metadata) = object(new, "metadata")
    {
        set(metadata, "generation", int(old, "metadata.generation") + 1);
    }
}

/// Runs `change` for every top-level key of either object but `metadata`.
fn for_each_content_key(old: &Value, new: &mut Value, change: impl Fn(&str, &mut Value)) {
    let keys = |v: &Value| v.as_object().map(|m| m.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut all = keys(old);
    all.extend(keys(new));
    for key in all.iter().filter(|key| *key != "metadata") {
        change(key, new);
    }
}

fn prepare_status(facts: &Facts, old: &Value, new: &mut Value) {
    for_each_content_key(old, new, |key, new| {
        if key != "status" {
            copy_key(old, new, key);
        }
    });
    let custom = facts.kind.is_empty() && facts.generation == Generation::Content;
    let Some(metadata) = object(new, "metadata") else { return };
    let kept: &[&str] = match (custom, facts.kind) {
        (true, _) => &["labels", "annotations", "finalizers", "ownerReferences", "generateName"],
        (_, "Pod") => &["ownerReferences", "finalizers"],
        _ if facts.status_keeps_labels => &["labels", "finalizers", "ownerReferences"],
        _ => &["finalizers", "ownerReferences"],
    };
    for key in kept {
        copy_key(&old["metadata"], metadata, key);
    }
}

fn keep_metadata(old: &Value, new: &mut Value) {
    let Some(metadata) = object(new, "metadata") else { return };
    let before = &old["metadata"];
    for key in ["name", "namespace", "uid"] {
        if text(metadata, key).is_empty() {
            copy_key(before, metadata, key);
        }
    }
    copy_key(before, metadata, "generation");
    copy_key(before, metadata, "creationTimestamp");
    if at(before, "deletionTimestamp").is_some() {
        copy_key(before, metadata, "deletionTimestamp");
    } else if is_empty(metadata.get("deletionTimestamp")) {
        drop_key(metadata, "deletionTimestamp");
    }
    if at(before, "deletionGracePeriodSeconds").is_some()
        && at(metadata, "deletionGracePeriodSeconds").is_none()
    {
        copy_key(before, metadata, "deletionGracePeriodSeconds");
    }
}

fn is_new_generation(facts: &Facts, old: &Value, new: &Value) -> bool {
    let differs = |path: &str| !same(at(old, path), at(new, path));
    match facts.generation {
        Generation::Never => false,
        Generation::Spec => differs("spec"),
        Generation::SpecOrAnnotations => differs("spec") || differs("metadata.annotations"),
        Generation::Content => {
            let skipped = |key: &str| matches!(key, "metadata" | "status" | "apiVersion" | "kind");
            let keys = |v: &Value| {
                v.as_object().into_iter().flat_map(|m| m.keys().cloned()).collect::<Vec<String>>()
            };
            keys(old)
                .into_iter()
                .chain(keys(new))
                .any(|key| !skipped(&key) && !same(old.get(&key), new.get(&key)))
        }
    }
}

/// Equal but for members that are missing in one and null, `""` or `[]` in the other.
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    let nothing = |v: Option<&Value>| v.is_none_or(|v| !v.is_object() && is_empty(Some(v)));
    match (a, b) {
        (Some(Value::Object(x)), Some(Value::Object(y))) => {
            x.iter().all(|(key, value)| same(Some(value), y.get(key)))
                && y.iter().all(|(key, value)| x.contains_key(key) || nothing(Some(value)))
        }
        (Some(Value::Array(x)), Some(Value::Array(y))) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(Some(x), Some(y)))
        }
        (a, b) => a == b || (nothing(a) && nothing(b)),
    }
}
