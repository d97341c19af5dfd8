//! The refusal to change what other managers own.

use std::collections::BTreeMap;

use serde_json::json;

use super::managers::{Identity, Operation};
use super::set::Set;
use crate::error::ApiError;

/// 409 with one cause per field, worded as kube-apiserver words it.
pub(super) fn error(contested: &[(Identity, Set)]) -> ApiError {
    let mut by_manager: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (identity, fields) in contested {
        by_manager.entry(describe(identity)).or_default().extend(fields.paths());
    }
    let conflicts: Vec<(&String, &String)> = by_manager
        .iter()
        .flat_map(|(manager, paths)| paths.iter().map(move |path| (manager, path)))
        .collect();
    let causes: Vec<_> = conflicts
        .iter()
        .map(|(manager, path)| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path})
        })
        .collect();
    let message = match conflicts.as_slice() {
        [(manager, path)] => format!("Apply failed with 1 conflict: conflict with {manager}: {path}"),
        many => {
            let groups: Vec<String> = by_manager
                .iter()
                .map(|(manager, paths)| format!("conflicts with {manager}:\n- {}", paths.join("\n- ")))
                .collect();
            format!("Apply failed with {} conflicts: {}", many.len(), groups.join("\n"))
        }
    };
    ApiError::new(409, "Conflict", message).with_details(json!({"causes": causes}))
}

fn describe(identity: &Identity) -> String {
    let mut text = format!("{:?}", identity.manager);
    if !identity.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", identity.subresource));
    }
    if identity.operation == Operation::Update {
        text.push_str(&format!(" using {}", identity.api_version));
    }
    text
}
