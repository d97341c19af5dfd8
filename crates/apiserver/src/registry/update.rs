//! Changing objects: update, the patches, server-side apply.

use bytes::Bytes;
use serde_json::Value;

use super::create::expiry;
use super::object::{
    finalizers, is_being_deleted, resource_version, set_metadata, stamp, template, text, time,
};
use super::{ATTEMPTS, Call, Registry, conflict, lifecycle, refused, storage};
use crate::error::{ApiError, Cause};
use crate::http::body::{PatchKind, yaml};
use crate::http::request::Target;
use crate::schema::{Resource, schema};
use crate::store::{Expect, Object, StoreError, Write};
use crate::{apply, kinds, patch};

/// What a write came to.
#[derive(Clone, Debug)]
pub struct Written {
    pub object: Value,
    pub created: bool,
}

/// A patch as it arrived.
#[derive(Clone, Debug)]
pub struct Patch {
    pub kind: PatchKind,
    pub body: Bytes,
    /// For apply: take fields from other managers.
    pub force: bool,
}

/// Who keeps the books of field managers for a write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tracking {
    Update,
    /// Apply wrote `managedFields` itself.
    Done,
}

/// Kinds that an update may create.
const CREATED_BY_UPDATE: [&str; 4] = ["endpoints", "events", "leases", "services"];
/// Kinds whose updates must say which version they change.
const NEEDS_VERSION: [&str; 14] = [
    "customresourcedefinitions",
    "csidrivers",
    "csinodes",
    "csistoragecapacities",
    "leases",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "poddisruptionbudgets",
    "runtimeclasses",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "volumeattachments",
];

impl Registry {
    /// Replaces the object, or with a subresource the part that it stands for.
    pub async fn update(
        &self,
        target: &Target,
        mut body: Value,
        duplicates: &[String],
        call: &mut Call,
    ) -> Result<Written, ApiError> {
        let resource = &target.resource;
        lifecycle::match_target(target, &mut body)?;
        self.check_fields(resource, &mut body, duplicates, call)?;
        kinds::default(resource, &mut body);
        let wanted = resource_version(&body).to_owned();
        if matches!(wanted.as_str(), "" | "0") && needs_version(resource) {
            let cause = Cause {
                reason: "FieldValueInvalid",
                message: "Invalid value: 0: must be specified for an update".into(),
                field: "metadata.resourceVersion".into(),
            };
            return Err(ApiError::invalid(resource.group, resource.plural, &target.name, vec![cause]));
        }
        let creates = CREATED_BY_UPDATE.contains(&resource.plural) && target.subresource.is_empty();
        if creates && matches!(wanted.as_str(), "" | "0") && self.read(target).is_err() {
            set_metadata(&mut body, "resourceVersion", None);
            let object = self.create(target, body, &[], call).await?;
            return Ok(Written { object, created: true });
        }
        let change = |old: &Value, _: &mut Call| {
            if !matches!(wanted.as_str(), "" | "0") && wanted != resource_version(old) {
                return Err(conflict(target));
            }
            Ok((body.clone(), Tracking::Update))
        };
        let object = self.modify(target, call, change).await?;
        Ok(Written { object, created: false })
    }

    /// Applies a patch; tried again when another write came between, unless the patch names the
    /// version that it is for.
    pub async fn patch(&self, target: &Target, patch: &Patch, call: &mut Call) -> Result<Written, ApiError> {
        if patch.kind == PatchKind::Apply {
            return self.apply(target, patch, call).await;
        }
        let resource = &target.resource;
        let change = |old: &Value, call: &mut Call| {
            let mut new = match patch.kind {
                PatchKind::Json => patch::json_patch(old, &patch.body)?,
                PatchKind::Merge => patch::merge_patch(old, &patch.body)?,
                PatchKind::Strategic | PatchKind::Apply => {
                    patch::strategic(resource.gvk(), old, &patch.body)?
                }
            };
            if !matches!(resource_version(&new), "" | "0") && resource_version(&new) != resource_version(old)
            {
                return Err(conflict(target));
            }
            lifecycle::match_target(target, &mut new)?;
            call.warnings.clear();
            let patched = new.clone();
            self.check_fields(resource, &mut new, &[], call).map_err(|e| in_patch(e, &patched))?;
            kinds::default(resource, &mut new);
            Ok((new, Tracking::Update))
        };
        let object = self.modify(target, call, change).await?;
        Ok(Written { object, created: false })
    }

    async fn apply(&self, target: &Target, patch: &Patch, call: &mut Call) -> Result<Written, ApiError> {
        let resource = &target.resource;
        let mut config = yaml(&patch.body)?;
        lifecycle::match_target(target, &mut config)?;
        if config.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        self.check_fields(resource, &mut config, &[], call)?;
        let (manager, now) = (call.manager.clone(), time(call.now));
        let merge = |live: Option<&Value>| {
            apply::apply(&**resource, live, &config, &manager, patch.force, &target.subresource, &now)
        };
        for _ in 0..ATTEMPTS {
            if self.read(target).is_err() && target.subresource.is_empty() {
                call.warnings.extend(kinds::inert(resource).map(str::to_owned));
                match self.apply_new(target, merge(None)?, call).await {
                    Err(e) if e.reason == "AlreadyExists" => continue,
                    result => return result.map(|object| Written { object, created: true }),
                }
            }
            let change = |old: &Value, _: &mut Call| {
                let version = resource_version(&config);
                if !matches!(version, "" | "0") && version != resource_version(old) {
                    return Err(conflict(target));
                }
                let mut new = merge(Some(old))?;
                kinds::default(resource, &mut new);
                Ok((new, Tracking::Done))
            };
            match self.modify(target, call, change).await {
                Err(e) if e.reason == "NotFound" && target.subresource.is_empty() => continue,
                result => return result.map(|object| Written { object, created: false }),
            }
        }
        Err(conflict(target))
    }

    async fn apply_new(&self, target: &Target, mut new: Value, call: &mut Call) -> Result<Value, ApiError> {
        let resource = &target.resource;
        lifecycle::begin(&mut new, call);
        self.check_namespace(target, &target.name)?;
        self.resolve_priority(target, &mut new)?;
        self.complete(target, &mut new)?;
        self.admit_pod(target, &mut new).await?;
        kinds::default(resource, &mut new);
        schema().normalise(resource.gvk(), &mut new);
        self.check_escalation(target, None, &new, call)?;
        kinds::prepare_create(resource, &mut new);
        let allocation = self.allocate(resource, None, &mut new)?;
        kinds::validate_create(resource, &new)?;
        call.warnings.extend(kinds::warnings(resource, "", None, &new));
        schema().normalise(resource.gvk(), &mut new);
        let created = self.insert(target, new, call).await?;
        if !call.dry_run {
            allocation.keep();
        }
        Ok(created)
    }

    /// Reads, changes and writes until no other write came between.
    pub(super) async fn modify(
        &self,
        target: &Target,
        call: &mut Call,
        mut change: impl FnMut(&Value, &mut Call) -> Result<(Value, Tracking), ApiError>,
    ) -> Result<Value, ApiError> {
        let before = call.warnings.len();
        for _ in 0..ATTEMPTS {
            call.warnings.truncate(before);
            let (stored, old) = self.read(target)?;
            let (new, tracking) = change(&old, call)?;
            match self.replace(target, &stored, &old, new, tracking, call).await {
                Err(StoreOr::Store(StoreError::Conflict(_))) => {}
                Err(StoreOr::Store(other)) => return Err(refused(target, other)),
                Err(StoreOr::Api(e)) => return Err(e),
                Ok(value) => return Ok(value),
            }
        }
        Err(conflict(target))
    }

    async fn replace(
        &self,
        target: &Target,
        stored: &Object,
        old: &Value,
        mut new: Value,
        tracking: Tracking,
        call: &mut Call,
    ) -> Result<Value, StoreOr> {
        let resource = &target.resource;
        lifecycle::keep_identity(target, old, &mut new)?;
        self.check_escalation(target, Some(old), &new, call)?;
        // Before the comparisons with the old object, and again for what they change.
        schema().normalise(resource.gvk(), &mut new);
        if tracking == Tracking::Update {
            let (manager, now) = (call.manager.as_str(), time(call.now));
            apply::track(&**resource, Some(old), &mut new, manager, &target.subresource, &now);
        }
        let allocation = match target.subresource.as_str() {
            "" => Some(self.allocate(resource, Some(old), &mut new)?),
            _ => None,
        };
        kinds::prepare_update(resource, &target.subresource, old, &mut new);
        lifecycle::check_finalizers(target, old, &new)?;
        kinds::validate_update(resource, &target.subresource, old, &new)?;
        call.warnings.extend(kinds::warnings(resource, &target.subresource, Some(old), &new));
        schema().normalise(resource.gvk(), &mut new);
        let mut new = stamp(resource, new);
        if new == *old {
            return Ok(new);
        }
        let _admitted = self.admit(target, Some(old), &new, call.now).await?;
        if call.dry_run {
            return Ok(new);
        }
        let delete = is_finished(resource.plural, &new);
        let write = Write {
            key: storage::key(resource, &target.namespace, &target.name),
            expect: Expect::Revision(stored.modified),
            object: template(storage::to_stored(resource, new.clone()))?,
            delete,
            expires: expiry(resource, call.now),
        };
        let written = self.store.write(write).await.map_err(StoreOr::Store)?;
        if let Some(allocation) = allocation {
            allocation.keep();
        }
        if delete {
            self.release(resource, &new);
        }
        set_metadata(&mut new, "resourceVersion", Some(written.modified.to_string().into()));
        Ok(new)
    }
}

fn needs_version(resource: &Resource) -> bool {
    resource.custom.is_some() || NEEDS_VERSION.contains(&resource.plural)
}

/// Strictness about a patch is told as a mistake in the patch, which is shown as what it leads to.
fn in_patch(error: ApiError, patched: &Value) -> ApiError {
    let start = format!(" cannot be handled as a {}: ", text(patched, "/kind"));
    let Some(at) = error.message.find(&start).map(|at| at + start.len()) else { return error };
    let mut shown = patched.clone();
    set_metadata(&mut shown, "managedFields", None);
    let message = format!("Invalid value: {:?}: {}", shown.to_string(), &error.message[at..]);
    let cause = Cause { reason: "FieldValueInvalid", message, field: "patch".into() };
    ApiError::invalid("", "", "", vec![cause])
}

/// Whether nothing holds an object any more that was asked to go.
fn is_finished(plural: &str, object: &Value) -> bool {
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    let held_by_namespace = plural == "namespaces"
        && object.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|f| !f.is_empty());
    is_being_deleted(object) && finalizers(object).is_empty() && grace == 0 && !held_by_namespace
}

/// Why one attempt failed.
enum StoreOr {
    Store(StoreError),
    Api(ApiError),
}

impl From<ApiError> for StoreOr {
    fn from(error: ApiError) -> Self {
        StoreOr::Api(error)
    }
}

/// The manager of a write that names none: the client's name, up to the first slash.
pub fn default_manager(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let printable: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    if printable.is_empty() { "unknown".into() } else { printable }
}

/// Apply cannot do without a manager.
pub fn check_manager(kind: PatchKind, manager: Option<&str>, force: bool) -> Result<(), ApiError> {
    let refuse = |field: &str, reason: &'static str, message: &str| {
        let cause = Cause { reason, message: message.into(), field: field.into() };
        Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", vec![cause]))
    };
    match (kind, manager) {
        (PatchKind::Apply, None | Some("")) => {
            refuse("fieldManager", "FieldValueRequired", "Required value: is required for apply patch")
        }
        (PatchKind::Apply, _) => Ok(()),
        _ if force => {
            refuse("force", "FieldValueForbidden", "Forbidden: may not be specified for non-apply patch")
        }
        _ => Ok(()),
    }
}

/// The name in the object's metadata.
pub fn name_of(object: &Value) -> &str {
    text(object, "/metadata/name")
}
