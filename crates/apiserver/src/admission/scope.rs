//! Scopes of quotas: which objects a quota is about.

use serde_json::Value;

use super::pod;
use crate::kinds;
use crate::kinds::value::{at, list, strings, text};
use crate::schema::Resource;

/// Whether all scopes of a quota take the object.
pub fn takes(quota: &Value, resource: &Resource, object: &Value) -> bool {
    let plain =
        strings(quota, "spec.scopes").into_iter().all(|scope| holds(resource, object, scope, "Exists", &[]));
    plain
        && list(quota, "spec.scopeSelector.matchExpressions").iter().all(|wanted| {
            let values = strings(wanted, "values");
            holds(resource, object, text(wanted, "scopeName"), text(wanted, "operator"), &values)
        })
}

fn holds(resource: &Resource, object: &Value, scope: &str, operator: &str, values: &[&str]) -> bool {
    match (resource.group, resource.plural, scope) {
        ("", "pods", "Terminating") => pod::is_terminating(object),
        ("", "pods", "NotTerminating") => !pod::is_terminating(object),
        ("", "pods", "BestEffort") => kinds::qos_class(object) == "BestEffort",
        ("", "pods", "NotBestEffort") => kinds::qos_class(object) != "BestEffort",
        ("", "pods", "CrossNamespacePodAffinity") => pod::reaches_other_namespaces(object),
        ("", "pods", "PriorityClass") => selects(operator, values, &[text(object, "spec.priorityClassName")]),
        ("", "persistentvolumeclaims", "VolumeAttributesClass") => {
            let named = [
                "spec.volumeAttributesClassName",
                "status.currentVolumeAttributesClassName",
                "status.modifyVolumeStatus.targetVolumeAttributesClassName",
            ];
            selects(operator, values, &named.map(|path| text(object, path)))
        }
        _ => false,
    }
}

/// A label selector on names, of which the empty ones are not there.
fn selects(operator: &str, values: &[&str], names: &[&str]) -> bool {
    let mut names = names.iter().filter(|name| !name.is_empty()).peekable();
    let none = names.peek().is_none();
    match operator {
        "Exists" => !none,
        "DoesNotExist" => none,
        "In" => names.any(|name| values.contains(name)),
        "NotIn" => none || names.any(|name| !values.contains(name)),
        _ => false,
    }
}

/// A pod that says what it needs as a whole frees its containers from saying it.
pub fn says_whole(pod: &Value) -> bool {
    ["requests", "limits"].iter().any(|kind| {
        at(pod, "spec.resources")
            .and_then(|r| r.get(kind))
            .and_then(Value::as_object)
            .is_some_and(|m| !m.is_empty())
    })
}

/// Whether a quota has no scopes.
pub fn is_open(quota: &Value) -> bool {
    list(quota, "spec.scopes").is_empty() && at(quota, "spec.scopeSelector").is_none()
}
