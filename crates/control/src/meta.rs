//! Small questions about metadata: owners, labels, selectors, conditions, times.

use std::collections::BTreeMap;
use std::time::Duration;

use daymark_model::ObjectName;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time};

use crate::object::{Cached, key_of};

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

/// The managing owner, `ownerReferences[controller=true]`.
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))
}

/// Whether `owner` (by UID) is the controller of the object.
pub fn is_controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    controller(meta).is_some_and(|o| Some(&o.uid) == owner.uid.as_ref())
}

/// An owner reference that makes `owner` the controller.
pub fn controller_reference<T: Cached>(owner: &T) -> OwnerReference {
    let meta = owner.metadata();
    OwnerReference {
        api_version: T::API_VERSION.into(),
        kind: T::KIND.into(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A reference to an object, for events.
pub fn reference<T: Cached>(object: &T) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(T::API_VERSION.into()),
        kind: Some(T::KIND.into()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// Whether all pairs of `wanted` are among `labels`. An empty `wanted` matches everything.
pub fn labels_match(wanted: &Labels, labels: Option<&Labels>) -> bool {
    wanted.iter().all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
}

/// Whether a label selector matches. An empty selector matches everything; a malformed one nothing.
pub fn selector_matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let value = |key: &str| labels.and_then(|l| l.get(key));
    selector.match_labels.as_ref().is_none_or(|wanted| labels_match(wanted, labels))
        && selector.match_expressions.iter().flatten().all(|e| {
            let listed = |v: &String| e.values.iter().flatten().any(|w| w == v);
            match e.operator.as_str() {
                "In" => value(&e.key).is_some_and(listed),
                "NotIn" => !value(&e.key).is_some_and(listed),
                "Exists" => value(&e.key).is_some(),
                "DoesNotExist" => value(&e.key).is_none(),
                _ => false,
            }
        })
}

/// Whether a selector selects everything because it says nothing.
pub fn selector_is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(|l| l.is_empty())
        && selector.match_expressions.as_ref().is_none_or(|e| e.is_empty())
}

/// A condition of a pod.
pub fn pod_condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// Whether the pod's condition Ready is True.
pub fn pod_ready(pod: &Pod) -> bool {
    pod_condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// `status.phase`, empty if unset.
pub fn pod_phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether the pod has ended, successfully or not.
pub fn pod_finished(pod: &Pod) -> bool {
    matches!(pod_phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod has neither ended nor been asked to.
pub fn pod_active(pod: &Pod) -> bool {
    !pod_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// An ended pod that comes back by itself is replaced when it is this old, so that one that a node keeps refusing
/// does not come and go as fast as it can.
const REPLACE_AFTER: Duration = Duration::from_secs(1);

/// How long to wait before an ended pod is replaced, if it is too early.
pub fn too_young_to_replace(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let born = pod.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let age = Duration::try_from(now.duration_since(born)).unwrap_or_default();
    REPLACE_AFTER.checked_sub(age).filter(|wait| !wait.is_zero())
}

/// The node that the pod is bound to.
pub fn pod_node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

/// When a ready pod becomes available: `min_ready` seconds after it became ready.
pub fn available_at(pod: &Pod, min_ready: i32) -> Option<Timestamp> {
    let ready = pod_condition(pod, "Ready").filter(|c| c.status == "True")?;
    if min_ready <= 0 {
        return Some(Timestamp::MIN);
    }
    let since = ready.last_transition_time.as_ref()?.0;
    since.checked_add(jiff::SignedDuration::from_secs(min_ready.into())).ok()
}

/// `now` in whole seconds, as API times are.
pub fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// An annotation's value.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A label's value.
pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// The name of the controller of an object, in the object's namespace, if it is of `kind`.
pub fn controller_key(meta: &ObjectMeta, kind: &str) -> Option<ObjectName> {
    let owner = controller(meta).filter(|o| o.kind == kind)?;
    Some(ObjectName::new(meta.namespace.as_deref().unwrap_or_default(), owner.name.as_str()))
}

/// Namespace and name of a typed object.
pub fn key<T: Cached>(object: &T) -> ObjectName {
    key_of(object.metadata())
}
