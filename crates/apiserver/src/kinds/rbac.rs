//! Roles and bindings: what they must say.

use serde_json::{Value, json};

use super::{
    field::{Errors, Path},
    format,
    value::{at, fill, items_mut, list, present, text},
};
use crate::selector::validate_selector;

const GROUP: &str = "rbac.authorization.k8s.io";
const SUBJECTS: [&str; 3] = ["ServiceAccount", "User", "Group"];

/// The API group of a role and of the subjects that are not service accounts.
pub fn default_binding(obj: &mut Value) {
    if let Some(role) = obj.get_mut("roleRef").filter(|r| r.is_object()) {
        fill(role, "apiGroup", GROUP);
    }
    for subject in items_mut(obj, "subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") {
            fill(subject, "apiGroup", GROUP);
        }
    }
}

pub fn check_role(obj: &Value, _old: Option<&Value>, errors: &mut Errors) {
    check_rules(obj, true, errors);
}

pub fn check_cluster_role(obj: &Value, _old: Option<&Value>, errors: &mut Errors) {
    check_rules(obj, false, errors);
    if !present(obj, "aggregationRule") {
        return;
    }
    let path = Path::new("aggregationRule.clusterRoleSelectors");
    let selectors = list(obj, "aggregationRule.clusterRoleSelectors");
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&path, why);
    }
    for (i, selector) in selectors.iter().enumerate() {
        validate_selector(selector, &path.index(i), errors);
    }
}

fn check_rules(role: &Value, namespaced: bool, errors: &mut Errors) {
    for (i, rule) in list(role, "rules").iter().enumerate() {
        let path = Path::new("rules").index(i);
        let has = |field: &str| !list(rule, field).is_empty();
        if !has("verbs") {
            errors.required(&path.child("verbs"), "verbs must contain at least one value");
        }
        if has("nonResourceURLs") {
            let (urls, path) = (json!(list(rule, "nonResourceURLs")), path.child("nonResourceURLs"));
            if namespaced {
                errors.invalid(&path, urls.clone(), "namespaced rules cannot apply to non-resource URLs");
            }
            if has("apiGroups") || has("resources") || has("resourceNames") {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&path, urls, why);
            }
            continue;
        }
        for (field, what) in [("apiGroups", "api group"), ("resources", "resource")] {
            if !has(field) {
                let why = format!("resource rules must supply at least one {what}");
                errors.required(&path.child(field), &why);
            }
        }
    }
}

pub fn check_role_binding(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    check_binding(obj, old, &["Role", "ClusterRole"], errors);
}

pub fn check_cluster_role_binding(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    check_binding(obj, old, &["ClusterRole"], errors);
}

fn check_binding(obj: &Value, old: Option<&Value>, roles: &[&str], errors: &mut Errors) {
    let path = Path::new("roleRef");
    if text(obj, "roleRef.apiGroup") != GROUP {
        errors.not_supported(&path.child("apiGroup"), text(obj, "roleRef.apiGroup"), &[GROUP]);
    }
    if !roles.contains(&text(obj, "roleRef.kind")) {
        errors.not_supported(&path.child("kind"), text(obj, "roleRef.kind"), roles);
    }
    let name = text(obj, "roleRef.name");
    match name {
        "" => errors.required(&path.child("name"), ""),
        name => errors.invalid_each(&path.child("name"), name, &format::path_segment(name)),
    }
    for (i, subject) in list(obj, "subjects").iter().enumerate() {
        check_subject(subject, roles.len() > 1, &Path::new("subjects").index(i), errors);
    }
    if let Some(old) = old
        && at(old, "roleRef") != at(obj, "roleRef")
    {
        let part = |field: &str| text(obj, &format!("roleRef.{field}"));
        let role = json!({"APIGroup": part("apiGroup"), "Kind": part("kind"), "Name": part("name")});
        errors.invalid(&path, role, "cannot change roleRef");
    }
}

fn check_subject(subject: &Value, namespaced: bool, path: &Path, errors: &mut Errors) {
    let (kind, name, group) = (text(subject, "kind"), text(subject, "name"), text(subject, "apiGroup"));
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.invalid_each(&path.child("name"), name, &format::dns1123_subdomain(name));
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" if group != GROUP => {
            errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
        }
        "User" | "Group" => {}
        _ => errors.not_supported(&path.child("kind"), kind, &SUBJECTS),
    }
}
