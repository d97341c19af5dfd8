//! Creating objects.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::object::{resource_version, set_metadata, stamp, template, text};
use super::{Call, Registry, lifecycle, object, refused, storage};
use crate::custom::definition;
use crate::error::ApiError;
use crate::http::request::Target;
use crate::schema::{Resource, schema};
use crate::store::{Expect, StoreError, Write};
use crate::{apply, kinds};

/// How long an Event is kept after its last write.
const EVENT_TTL: Duration = Duration::from_secs(3600);
/// How often a generated name that is taken is drawn again.
const NAME_ATTEMPTS: usize = 8;

/// When the object may go, in seconds since the epoch; 0 means never.
pub(super) fn expiry(resource: &Resource, now: Timestamp) -> u64 {
    if resource.plural != "events" {
        return 0;
    }
    u64::try_from(now.as_second()).unwrap_or_default() + EVENT_TTL.as_secs()
}

impl Registry {
    /// Creates the object in `body`; `duplicates` are the fields that occurred twice in it.
    pub async fn create(
        &self,
        target: &Target,
        mut body: Value,
        duplicates: &[String],
        call: &mut Call,
    ) -> Result<Value, ApiError> {
        lifecycle::match_target(target, &mut body)?;
        self.check_fields(&target.resource, &mut body, duplicates, call)?;
        if !matches!(resource_version(&body), "" | "0") {
            return Err(ApiError::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        if target.resource.custom.as_ref().is_some_and(|custom| custom.terminating) {
            let message = "create not allowed while custom resource definition is terminating";
            return Err(ApiError::new(405, "MethodNotAllowed", message).with_details(json!({})));
        }
        if target.resource.plural == "customresourcedefinitions" {
            call.warnings.extend(definition::warnings(&body));
        }
        call.warnings.extend(kinds::inert(&target.resource).map(str::to_owned));
        let generated = text(&body, "/metadata/name").is_empty();
        for _ in 1..NAME_ATTEMPTS {
            match self.create_once(target, body.clone(), call).await {
                Err(e) if generated && e.reason == "AlreadyExists" => continue,
                result => return result,
            }
        }
        self.create_once(target, body, call).await
    }

    async fn create_once(&self, target: &Target, mut new: Value, call: &mut Call) -> Result<Value, ApiError> {
        let resource = &target.resource;
        lifecycle::begin(&mut new, call);
        let name = text(&new, "/metadata/name").to_owned();
        let target = Target { name: name.clone(), ..target.clone() };
        self.check_namespace(&target, &name)?;
        self.resolve_priority(&target, &mut new)?;
        kinds::default(resource, &mut new);
        schema().normalise(resource.gvk(), &mut new);
        self.check_escalation(&target, None, &new, call)?;
        // Managers own what the client and the defaults said, not what the server decides.
        let now = object::time(call.now);
        let empty = schema().empty(resource.gvk());
        apply::track(&**resource, Some(&empty), &mut new, &call.manager, "", &now);
        self.complete(&target, &mut new)?;
        self.admit_pod(&target, &mut new).await?;
        kinds::prepare_create(resource, &mut new);
        // Validated first with what the client gave, so that a mistake is told before a shortage.
        let allocation = self.allocate(resource, None, &mut new)?;
        kinds::validate_create(resource, &new)?;
        call.warnings.extend(kinds::warnings(resource, "", None, &new));
        schema().normalise(resource.gvk(), &mut new);
        let created = self.insert(&target, new, call).await?;
        if !call.dry_run {
            allocation.keep();
        }
        Ok(created)
    }

    /// Stores a finished new object.
    pub(super) async fn insert(&self, target: &Target, new: Value, call: &Call) -> Result<Value, ApiError> {
        let resource = &target.resource;
        let _admitted = self.admit(target, None, &new, call.now).await?;
        let key = storage::key(resource, &target.namespace, &target.name);
        let mut new = stamp(resource, new);
        if call.dry_run {
            return match self.store.get(&key) {
                Some(_) => Err(refused(target, StoreError::Exists)),
                None => Ok(new),
            };
        }
        let write = Write {
            key,
            expect: Expect::Absent,
            object: template(storage::to_stored(resource, new.clone()))?,
            delete: false,
            expires: expiry(resource, call.now),
        };
        let stored = self.store.write(write).await.map_err(|e| refused(target, e))?;
        set_metadata(&mut new, "resourceVersion", Some(stored.modified.to_string().into()));
        Ok(new)
    }
}
