//! Where objects lie in the store, and the one form that each kind is stored in.

use serde_json::{Map, Value};

use super::autoscaler;
use super::object::{stamp, text};
use crate::custom::Custom;
use crate::schema::{Resource, schema};

/// The key prefix of a resource, in a namespace if one is given.
pub fn prefix(resource: &Resource, namespace: &str) -> String {
    let stored = stored_as(resource);
    let group = if stored.group.is_empty() { "core" } else { stored.group };
    match namespace {
        "" => format!("{group}/{}/", stored.plural),
        namespace => format!("{group}/{}/{namespace}/", stored.plural),
    }
}

pub fn key(resource: &Resource, namespace: &str, name: &str) -> String {
    format!("{}{name}", prefix(resource, namespace))
}

/// Both kinds of Event are one; the core one is stored.
fn stored_as(resource: &Resource) -> &Resource {
    let core = is_new_event(resource).then(|| schema().resource("", "v1", "events")).flatten();
    core.map_or(resource, |core| core)
}

fn is_new_event(resource: &Resource) -> bool {
    resource.group == "events.k8s.io" && resource.plural == "events"
}

fn is_autoscaler(resource: &Resource) -> bool {
    resource.group == "autoscaling" && resource.plural == "horizontalpodautoscalers"
}

/// Whether stored bytes can be answered as they are.
pub fn answers_as_stored(resource: &Resource) -> bool {
    let versions = schema().resources().iter();
    resource.custom.is_none()
        && versions.filter(|r| r.group == resource.group && r.plural == resource.plural).count() == 1
        && !is_new_event(resource)
}

/// From the requested version to the stored one.
pub fn to_stored(resource: &Resource, object: Value) -> Value {
    if is_new_event(resource) {
        stamp(stored_as(resource), rename(object, &EVENT_FIELDS, false))
    } else if is_autoscaler(resource) {
        autoscaler::to_v2(object)
    } else {
        object
    }
}

/// From the stored version to the requested one.
pub fn from_stored(resource: &Resource, object: Value) -> Value {
    if is_new_event(resource) {
        return stamp(resource, rename(object, &EVENT_FIELDS, true));
    }
    if let Some(custom) = &resource.custom {
        return from_stored_custom(resource, custom, object);
    }
    if is_autoscaler(resource) {
        let of_version = if resource.version == "v1" { autoscaler::to_v1 } else { autoscaler::to_v2 };
        return stamp(resource, of_version(object));
    }
    if text(&object, "/kind") == resource.kind && text(&object, "/apiVersion") == resource.api_version() {
        return object;
    }
    stamp(resource, object)
}

/// An object may have been stored under another version or an older schema.
fn from_stored_custom(resource: &Resource, custom: &Custom, mut object: Value) -> Value {
    custom.prune(&mut object);
    custom.default(&mut object);
    stamp(resource, object)
}

/// Core name, `events.k8s.io` name.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn rename(object: Value, fields: &[(&str, &str)], to_new: bool) -> Value {
    let Value::Object(old) = object else { return object };
    let renamed = old.into_iter().map(|(name, value)| {
        let found = fields.iter().find(|(core, new)| name == if to_new { *core } else { *new });
        match found {
            Some((core, new)) => ((if to_new { *new } else { *core }).to_owned(), value),
            None => (name, value),
        }
    });
    Value::Object(renamed.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(group: &str, version: &str, plural: &str) -> &'static Resource {
        schema().resource(group, version, plural).unwrap()
    }

    #[test]
    fn keys_name_group_resource_namespace_and_name() {
        assert_eq!(key(resource("", "v1", "pods"), "default", "web"), "core/pods/default/web");
        assert_eq!(key(resource("", "v1", "nodes"), "", "n1"), "core/nodes/n1");
        assert_eq!(prefix(resource("apps", "v1", "deployments"), ""), "apps/deployments/");
    }

    #[test]
    fn both_kinds_of_event_are_one() {
        let new = resource("events.k8s.io", "v1", "events");
        let core = resource("", "v1", "events");
        assert_eq!(key(new, "a", "e"), key(core, "a", "e"));
        let event = json!({
            "kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": {"name": "e"},
            "regarding": {"kind": "Pod"}, "note": "Started", "reportingController": "kubelet", "action": "x",
        });
        let stored = to_stored(new, event.clone());
        assert_eq!(stored["involvedObject"]["kind"], "Pod");
        assert_eq!(stored["message"], "Started");
        assert_eq!(stored["apiVersion"], "v1");
        assert_eq!(from_stored(new, stored), event);
        assert!(answers_as_stored(core) && !answers_as_stored(new));
    }
}
