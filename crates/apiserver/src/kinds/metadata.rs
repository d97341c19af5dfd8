//! Checks of `metadata`, for every kind.

use serde_json::{Value, json};

use super::{
    common,
    field::{Errors, Path},
    format::{self, Complaints},
    value::{at, int, list, members, strings, text, truth},
};
use crate::selector::validate_labels;

const ANNOTATIONS_LIMIT: usize = 256 * 1024;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Everything about the metadata of a new object.
pub fn check(obj: &Value, namespaced: bool, name_check: fn(&str) -> Complaints, errors: &mut Errors) {
    let path = Path::new("metadata");
    let name = text(obj, "metadata.name");
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        errors.invalid_each(&path.child("name"), name, &name_check(name));
    }
    check_namespace(text(obj, "metadata.namespace"), namespaced, &path.child("namespace"), errors);
    check_rest(obj, errors);
}

fn check_namespace(namespace: &str, namespaced: bool, path: &Path, errors: &mut Errors) {
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.required(path, ""),
        (true, false) => errors.invalid_each(path, namespace, &format::dns1123_label(namespace)),
        (false, false) => errors.forbidden(path, "not allowed on this type"),
        (false, true) => {}
    }
}

fn check_rest(obj: &Value, errors: &mut Errors) {
    let path = Path::new("metadata");
    common::check_nonnegative(int(obj, "metadata.generation"), &path.child("generation"), errors);
    validate_labels(&obj["metadata"]["labels"], &path.child("labels"), errors);
    check_annotations(obj, &path.child("annotations"), errors);
    check_owners(obj, &path.child("ownerReferences"), errors);
    check_finalizers(obj, &path.child("finalizers"), errors);
}

/// Checks the annotations of an object or of a template.
pub fn check_annotations(obj: &Value, path: &Path, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in members(obj, "metadata.annotations") {
        errors.invalid_each(path, key, &format::qualified_name(&key.to_lowercase()));
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_LIMIT {
        errors.too_long(path, ANNOTATIONS_LIMIT);
    }
}

fn check_owners(obj: &Value, path: &Path, errors: &mut Errors) {
    let owners = list(obj, "metadata.ownerReferences");
    let mut controller: Option<String> = None;
    for owner in owners {
        let (api_version, kind) = (text(owner, "apiVersion"), text(owner, "kind"));
        if api_version.rsplit('/').next().unwrap_or_default().is_empty() {
            errors.invalid(&path.child("apiVersion"), api_version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                errors.invalid(&path.child(field), "", "must not be empty");
            }
        }
        if (api_version, kind) == ("v1", "Event") {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.invalid(path, owner.clone(), why);
        }
        if truth(owner, "controller") {
            let own = format!("{kind}/{}", text(owner, "name"));
            if let Some(first) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {own}"
                );
                errors.invalid(path, json!(owners), &why);
            } else {
                controller = Some(own);
            }
        }
    }
}

fn check_finalizers(obj: &Value, path: &Path, errors: &mut Errors) {
    let finalizers = strings(obj, "metadata.finalizers");
    for (at, finalizer) in finalizers.iter().enumerate() {
        errors.invalid_each(path, finalizer, &format::qualified_name(finalizer));
        if !finalizer.contains('/') && ![ORPHAN, FOREGROUND, "kubernetes"].contains(finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&path.index(at), *finalizer, why);
        }
    }
    if finalizers.contains(&ORPHAN) && finalizers.contains(&FOREGROUND) {
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.invalid(path, json!(finalizers), &why);
    }
}

/// What may not change, and what must still hold.
pub fn check_update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("metadata");
    if at(old, "metadata.deletionTimestamp").is_some() {
        let before = strings(old, "metadata.finalizers");
        let mut added = strings(new, "metadata.finalizers");
        added.retain(|f| !before.contains(f));
        if !added.is_empty() {
            let listed: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                listed.join(", ")
            );
            errors.forbidden(&path.child("finalizers"), &why);
        }
    }
    let generation = int(new, "metadata.generation");
    if generation < int(old, "metadata.generation") {
        errors.invalid(&path.child("generation"), generation, "must not be decremented");
    }
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let dotted = format!("metadata.{field}");
        common::check_immutable(at(old, &dotted), at(new, &dotted), &path.child(field), errors);
    }
    check_rest(new, errors);
}
