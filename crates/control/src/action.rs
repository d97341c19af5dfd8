//! What a controller may decide to do, as data.

use std::borrow::Cow;
use std::time::Duration;

use daymark_model::ObjectName;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Map, Value};

use crate::meta::reference;
use crate::object::{Cached, Kind, key_of};

/// The outcome of one look at one key: what to do now, and when to look again unasked.
#[derive(Debug, Default)]
pub struct Decision {
    pub actions: Vec<Action>,
    pub again: Option<Duration>,
}

impl Decision {
    /// Adds an action if there is one.
    pub fn push(&mut self, action: impl Into<Option<Action>>) {
        self.actions.extend(action.into());
    }

    /// Looks again after at most `delay`.
    pub fn look_again(&mut self, delay: Duration) {
        self.again = Some(self.again.map_or(delay, |d| d.min(delay)));
    }
}

impl From<Vec<Action>> for Decision {
    fn from(actions: Vec<Action>) -> Self {
        Self { actions, again: None }
    }
}

/// One thing to do through the API. Actions of a decision run in order and stop at the first failure,
/// except that creations of one kind and deletions next to each other run side by side.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates an object; `report` says how it went in an event on another object.
    Create { kind: Kind, namespace: String, body: Value, report: Option<Report> },
    /// A merge patch that only applies to the version that was looked at.
    Update { kind: Kind, key: ObjectName, subresource: &'static str, patch: Value },
    /// Deletes the object of this UID; `grace` in seconds (0 forces).
    Delete { kind: Kind, key: ObjectName, uid: String, grace: Option<u32>, report: Option<Report> },
    /// Binds a pod to a node.
    Bind { pod: ObjectName, uid: String, node: String },
    /// Records an event.
    Event(EventNote),
    /// Deletes everything in a namespace, and once it is empty lets it go.
    EmptyNamespace { name: String },
}

/// An event to be recorded about an object.
#[derive(Clone, Debug, PartialEq)]
pub struct EventNote {
    pub about: ObjectReference,
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
    /// The component that speaks, e.g. `replicaset-controller`.
    pub component: &'static str,
}

/// How to report the outcome of an action on another object. `{}` in a message stands for the name of what
/// was acted on, or for the error.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub about: ObjectReference,
    pub component: &'static str,
    /// Reason and message of success, if it is worth an event.
    pub done: Option<(&'static str, Cow<'static, str>)>,
    pub failed: (&'static str, Cow<'static, str>),
}

impl Report {
    /// As most controllers report that they created a pod.
    pub fn created_pod<T: Cached>(component: &'static str, about: &T) -> Self {
        Self {
            about: reference(about),
            component,
            done: Some(("SuccessfulCreate", "Created pod: {}".into())),
            failed: ("FailedCreate", "Error creating: {}".into()),
        }
    }

    /// As most controllers report that they deleted a pod.
    pub fn deleted_pod<T: Cached>(component: &'static str, about: &T) -> Self {
        Self {
            about: reference(about),
            component,
            done: Some(("SuccessfulDelete", "Deleted pod: {}".into())),
            failed: ("FailedDelete", "Error deleting: {}".into()),
        }
    }
}

impl EventNote {
    /// An event of type Normal.
    pub fn normal<T: Cached>(
        component: &'static str,
        about: &T,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { about: reference(about), warning: false, reason, message: message.into(), component }
    }

    /// An event of type Warning.
    pub fn warning<T: Cached>(
        component: &'static str,
        about: &T,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { warning: true, ..Self::normal(component, about, reason, message) }
    }
}

impl Action {
    /// Creates `object` in its namespace.
    pub fn create<T: Cached>(object: &T, report: Option<Report>) -> Self {
        Action::Create {
            kind: T::WHAT,
            namespace: object.metadata().namespace.clone().unwrap_or_default(),
            body: to_value(object),
            report,
        }
    }

    /// Turns `old` into `new`, or `None` if they are the same.
    pub fn update<T: Cached>(old: &T, new: &T, subresource: &'static str) -> Option<Self> {
        let (Value::Object(before), Value::Object(after)) = (to_value(old), to_value(new)) else {
            return None;
        };
        let mut patch = merge_diff(&before, &after)?;
        if let Some(version) = &old.metadata().resource_version {
            let meta = patch.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
            meta["resourceVersion"] = Value::String(version.clone());
        }
        let key = key_of(old.metadata());
        Some(Action::Update { kind: T::WHAT, key, subresource, patch: Value::Object(patch) })
    }

    /// Deletes `object`.
    pub fn delete<T: Cached>(object: &T, report: Option<Report>) -> Self {
        Self::delete_within(object, None, report)
    }

    /// Deletes `object` giving it `grace` seconds, or its own default.
    pub fn delete_within<T: Cached>(object: &T, grace: Option<u32>, report: Option<Report>) -> Self {
        let meta = object.metadata();
        let uid = meta.uid.clone().unwrap_or_default();
        Action::Delete { kind: T::WHAT, key: key_of(meta), uid, grace, report }
    }
}

/// The object as JSON. Kubernetes types always serialize.
pub fn to_value<T: serde::Serialize>(object: &T) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}

/// The smallest JSON merge patch (RFC 7386) that turns `old` into `new`.
pub fn merge_diff(old: &Map<String, Value>, new: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut patch = Map::new();
    for key in old.keys().filter(|k| !new.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, after) in new {
        match (old.get(key), after) {
            (Some(before), after) if before == after => {}
            (Some(Value::Object(before)), Value::Object(after)) => {
                if let Some(inner) = merge_diff(before, after) {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            (_, after) => {
                patch.insert(key.clone(), after.clone());
            }
        }
    }
    (!patch.is_empty()).then_some(patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn diff(old: Value, new: Value) -> Option<Value> {
        merge_diff(old.as_object()?, new.as_object()?).map(Value::Object)
    }

    #[test]
    fn a_patch_holds_only_what_differs() {
        assert_eq!(diff(json!({"a": 1, "b": {"c": 2}}), json!({"a": 1, "b": {"c": 2}})), None);
        assert_eq!(
            diff(
                json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1]}),
                json!({"a": 1, "b": {"c": 9}, "e": [1, 2]})
            ),
            Some(json!({"b": {"d": null, "c": 9}, "e": [1, 2]}))
        );
    }

    #[test]
    fn an_update_is_bound_to_the_version_seen() {
        let old: k8s_openapi::api::core::v1::ConfigMap = serde_json::from_value(
            json!({"metadata": {"name": "a", "namespace": "n", "resourceVersion": "7"}}),
        )
        .unwrap();
        let mut new = old.clone();
        new.data = Some([("k".to_owned(), "v".to_owned())].into());
        let Some(Action::Update { patch, .. }) = Action::update(&old, &new, "") else { panic!("an update") };
        assert_eq!(patch, json!({"data": {"k": "v"}, "metadata": {"resourceVersion": "7"}}));
        assert_eq!(Action::update(&old, &old, ""), None);
    }
}
