//! Deleting objects: preconditions, grace, finalizers, and the rules of pods and namespaces.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::create::expiry;
use super::object::{
    child, finalizers, is_being_deleted, metadata, resource_version, set_finalizers, set_metadata, template,
    text, time,
};
use super::{ATTEMPTS, Call, Registry, conflict, refused, storage};
use crate::custom::{keeper, names};
use crate::error::ApiError;
use crate::http::request::Target;
use crate::schema::Resource;
use crate::store::{Expect, Object, StoreError, Write};

/// What happens to an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds.
    pub grace: Option<i64>,
    pub propagation: Option<Propagation>,
    /// The object must have this uid.
    pub uid: Option<String>,
    /// The object must be at this version.
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Seconds; when neither the request nor the pod says.
const DEFAULT_GRACE: i64 = 30;
const PERMANENT_NAMESPACES: [&str; 3] = ["default", "kube-system", "kube-public"];
const SYSTEM_CLASSES: [&str; 2] = ["system-cluster-critical", "system-node-critical"];
/// Kinds whose deletion answers the object rather than a `Status`.
const ANSWERS_OBJECT: [&str; 14] = [
    "csidrivers",
    "csinodes",
    "namespaces",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "replicationcontrollers",
    "resourcequotas",
    "serviceaccounts",
    "services",
    "storageclasses",
    "volumeattachments",
    "volumeattributesclasses",
];
/// Kinds whose dependents stay unless the request says otherwise.
const ORPHANS_BY_DEFAULT: [&str; 2] = ["jobs", "replicationcontrollers"];

impl DeleteOptions {
    /// Reads the options object of a request's body.
    pub fn from_value(value: &Value) -> Result<Self, ApiError> {
        let propagation = propagation(text(value, "/propagationPolicy"))?;
        let orphan = value.get("orphanDependents").and_then(Value::as_bool);
        if propagation.is_some() && orphan.is_some() {
            let message = format!(
                "Invalid value: {:?}: orphanDependents and deletionPropagation cannot be both set",
                text(value, "/propagationPolicy")
            );
            return Err(refuse("FieldValueInvalid", message));
        }
        let old_style =
            orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background });
        let given = |pointer: &str| Some(text(value, pointer).to_owned()).filter(|v| !v.is_empty());
        Ok(Self {
            grace: grace(value.get("gracePeriodSeconds").and_then(Value::as_i64))?,
            propagation: propagation.or(old_style),
            uid: given("/preconditions/uid"),
            resource_version: given("/preconditions/resourceVersion"),
            dry_run: value.get("dryRun").and_then(Value::as_array).is_some_and(|d| !d.is_empty()),
        })
    }
}

fn refuse(reason: &'static str, message: String) -> ApiError {
    ApiError::invalid_options("DeleteOptions", reason, "propagationPolicy", message)
}

/// Negative grace means at once, as in Kubernetes.
pub fn grace(seconds: Option<i64>) -> Result<Option<i64>, ApiError> {
    Ok(seconds.map(|s| if s < 0 { 1 } else { s }))
}

pub fn propagation(text: &str) -> Result<Option<Propagation>, ApiError> {
    Ok(Some(match text {
        "" => return Ok(None),
        "Background" => Propagation::Background,
        "Foreground" => Propagation::Foreground,
        "Orphan" => Propagation::Orphan,
        other => {
            let message = format!(
                "Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            );
            return Err(refuse("FieldValueNotSupported", message));
        }
    }))
}

/// What deleting an object means for it now.
#[derive(Clone, Debug, PartialEq)]
enum Plan {
    /// It goes at once.
    Remove,
    /// It is marked and stays until its node, its finalizers or its namespace's contents are done.
    Mark(Value),
    /// It is already on its way.
    Wait,
}

/// What a deletion came to.
#[derive(Clone, Debug)]
pub struct Deleted {
    pub object: Value,
    /// The object is gone, not just marked.
    pub gone: bool,
}

impl Deleted {
    /// The body of the response: the object while it lives on, a `Status` when it is gone.
    pub fn answer(self, resource: &Resource) -> Value {
        if !self.gone || ANSWERS_OBJECT.contains(&resource.plural) {
            return self.object;
        }
        let mut details = json!({
            "name": text(&self.object, "/metadata/name"), "kind": resource.plural,
            "uid": text(&self.object, "/metadata/uid"),
        });
        if !resource.group.is_empty() {
            details["group"] = resource.group.into();
        }
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        })
    }
}

impl Registry {
    pub async fn delete(
        &self,
        target: &Target,
        options: &DeleteOptions,
        call: &Call,
    ) -> Result<Deleted, ApiError> {
        let resource = &target.resource;
        if resource.plural == "namespaces" && PERMANENT_NAMESPACES.contains(&target.name.as_str()) {
            let why = "this namespace may not be deleted";
            return Err(ApiError::forbidden("", "namespaces", &target.name, why));
        }
        if resource.plural == "priorityclasses" && SYSTEM_CLASSES.contains(&target.name.as_str()) {
            let why = "this is a system priority class and cannot be deleted";
            return Err(ApiError::forbidden(resource.group, resource.plural, &target.name, why));
        }
        for _ in 0..ATTEMPTS {
            let (stored, old) = self.read(target)?;
            check_preconditions(target, options, &old)?;
            let plan = plan(resource, &old, options, call.now);
            let dry_run = call.dry_run || options.dry_run;
            let (mut object, gone) = match plan {
                Plan::Wait => return Ok(Deleted { object: old, gone: false }),
                Plan::Mark(marked) => (marked, false),
                Plan::Remove => (old, true),
            };
            if dry_run {
                return Ok(Deleted { object, gone });
            }
            match self.write_deletion(target, &stored, &object, gone, call).await {
                Err(StoreError::Conflict(_)) if options.resource_version.is_none() => continue,
                Err(e) => return Err(refused(target, e)),
                Ok(written) => {
                    if gone {
                        self.release(resource, &object);
                    }
                    let revision = written.modified.to_string();
                    set_metadata(&mut object, "resourceVersion", Some(revision.into()));
                    return Ok(Deleted { object, gone });
                }
            }
        }
        Err(conflict(target))
    }

    async fn write_deletion(
        &self,
        target: &Target,
        stored: &Object,
        object: &Value,
        gone: bool,
        call: &Call,
    ) -> Result<Object, StoreError> {
        let resource = &target.resource;
        let object = template(storage::to_stored(resource, object.clone()));
        let write = Write {
            key: storage::key(resource, &target.namespace, &target.name),
            expect: Expect::Revision(stored.modified),
            object: object.map_err(|e| StoreError::Failed(e.message))?,
            delete: gone,
            expires: expiry(resource, call.now),
        };
        self.store.write(write).await
    }
}

pub(super) fn check_preconditions(
    target: &Target,
    options: &DeleteOptions,
    object: &Value,
) -> Result<(), ApiError> {
    let resource = &target.resource;
    let check = |what: &str, short: &str, wanted: &Option<String>, found: &str| match wanted {
        Some(wanted) if wanted != found => {
            let why = format!(
                "the {short} in the precondition ({wanted}) does not match the {short} in record ({found}). \
                 The object might have been {what}"
            );
            Err(ApiError::conflict(resource.group, resource.kind, &target.name, &why))
        }
        _ => Ok(()),
    };
    check("deleted and then recreated", "UID", &options.uid, text(object, "/metadata/uid"))?;
    check("modified", "ResourceVersion", &options.resource_version, resource_version(object))
}

fn plan(resource: &Resource, old: &Value, options: &DeleteOptions, now: Timestamp) -> Plan {
    if resource.group.is_empty() && resource.plural == "namespaces" {
        return plan_namespace(old, now);
    }
    let default = ORPHANS_BY_DEFAULT.contains(&resource.plural).then_some(Propagation::Orphan);
    let undecided = !finalizers(old).iter().any(|f| f == ORPHAN || f == FOREGROUND);
    let propagation = options.propagation.or(default.filter(|_| undecided));
    let mut wanted = finalizers_after(old, propagation);
    if is_definition(resource) && !is_being_deleted(old) {
        wanted = finalizers(old);
        wanted.retain(|finalizer| finalizer != keeper::CLEANUP);
        wanted.push(keeper::CLEANUP.to_owned());
    }
    let mut marked = old.clone();
    set_finalizers(&mut marked, wanted.clone());
    if resource.group.is_empty() && resource.plural == "pods" {
        match pod_grace(old, options) {
            Grace::Pending => return Plan::Wait,
            Grace::Seconds(seconds) if seconds > 0 => {
                mark(&mut marked, old, now, seconds);
                return Plan::Mark(marked);
            }
            Grace::Seconds(_) => {}
        }
    }
    if wanted.is_empty() {
        return Plan::Remove;
    }
    mark(&mut marked, old, now, 0);
    if is_definition(resource) && !is_being_deleted(old) {
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        let mut status = marked["status"].take();
        names::put(&mut status, &time(now), "Terminating", true, "InstanceDeletionPending", message);
        marked["status"] = status;
        set_metadata(&mut marked, "deletionGracePeriodSeconds", None);
    }
    if marked == *old { Plan::Wait } else { Plan::Mark(marked) }
}

fn is_definition(resource: &Resource) -> bool {
    resource.group == "apiextensions.k8s.io" && resource.plural == "customresourcedefinitions"
}

/// A namespace waits for its contents, which the namespace controller removes.
fn plan_namespace(old: &Value, now: Timestamp) -> Plan {
    let emptied = old.pointer("/spec/finalizers").and_then(Value::as_array).is_none_or(|f| f.is_empty());
    if is_being_deleted(old) {
        return if emptied && finalizers(old).is_empty() { Plan::Remove } else { Plan::Wait };
    }
    if emptied && finalizers(old).is_empty() {
        return Plan::Remove;
    }
    let mut marked = old.clone();
    set_metadata(&mut marked, "deletionTimestamp", Some(time(now).into()));
    child(&mut marked, "status").insert("phase".into(), "Terminating".into());
    Plan::Mark(marked)
}

/// How long a pod still has.
enum Grace {
    /// It is being ended already, and this request does not hurry it.
    Pending,
    Seconds(i64),
}

fn pod_grace(pod: &Value, options: &DeleteOptions) -> Grace {
    let number = |pointer: &str| pod.pointer(pointer).and_then(Value::as_i64);
    if is_being_deleted(pod) {
        let running = number("/metadata/deletionGracePeriodSeconds").unwrap_or(0);
        return match options.grace {
            _ if running == 0 => Grace::Seconds(0),
            Some(wanted) if wanted < running => Grace::Seconds(wanted),
            _ => Grace::Pending,
        };
    }
    let never_ran = text(pod, "/spec/nodeName").is_empty();
    if never_ran || matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
        return Grace::Seconds(0);
    }
    let own = number("/spec/terminationGracePeriodSeconds").unwrap_or(DEFAULT_GRACE);
    Grace::Seconds(options.grace.unwrap_or(own).max(0))
}

/// Writes when the object has to be gone, `grace` seconds from the first request.
fn mark(marked: &mut Value, old: &Value, now: Timestamp, grace: i64) {
    let before: Option<Timestamp> = text(old, "/metadata/deletionTimestamp").parse().ok();
    let asked = before.map(|deadline| {
        let grace = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
        deadline.saturating_sub(SignedDuration::from_secs(grace)).unwrap_or(now)
    });
    let deadline = asked.unwrap_or(now).saturating_add(SignedDuration::from_secs(grace)).unwrap_or(now);
    let metadata = metadata(marked);
    metadata.insert("deletionTimestamp".into(), time(deadline).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    if before.is_none()
        && let Some(generation) = metadata.get("generation").and_then(Value::as_i64)
    {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

/// The garbage collector is told by finalizers what to do with dependents.
fn finalizers_after(object: &Value, propagation: Option<Propagation>) -> Vec<String> {
    let mut list = finalizers(object);
    let Some(propagation) = propagation else { return list };
    list.retain(|f| f != ORPHAN && f != FOREGROUND);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => list.push(FOREGROUND.into()),
        Propagation::Orphan => list.push(ORPHAN.into()),
    }
    list
}

#[cfg(test)]
#[path = "delete_tests.rs"]
mod tests;
