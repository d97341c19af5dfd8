//! Generic handlers for every built-in resource: the rules of reading and writing objects, apart
//! from how they arrive and leave.

mod autoscaler;
pub mod create;
pub mod delete;
mod eviction;
pub(crate) mod lifecycle;
pub mod list;
pub mod object;
mod pod_account;
pub mod services;
pub mod storage;
pub mod subresource;
pub mod update;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::access::accounts::Issuer;
use crate::access::bearer::Remembered;
use crate::access::index::Index;
use crate::access::policy::{Decision, Policy};
use crate::access::{Attributes, Identity};
use crate::admission::Turns;
use crate::custom::{Catalog, Served, keeper};
use crate::error::ApiError;
use crate::http::request::Target;
use crate::kinds::{Allocator, AllocatorConfig};
use crate::schema::{Gvk, Resource, schema};
use crate::store::{Object, Store, StoreError};

pub use delete::DeleteOptions;

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// The circumstances of one request.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asks; `None` is the server itself.
    pub identity: Option<Arc<Identity>>,
    /// The field manager.
    pub manager: String,
    pub now: Timestamp,
    pub dry_run: bool,
    pub validation: FieldValidation,
    /// What the client should be warned of; grows while the request is handled.
    pub warnings: Vec<String>,
}

impl Call {
    pub fn new(manager: impl Into<String>, now: Timestamp) -> Self {
        Self {
            identity: None,
            manager: manager.into(),
            now,
            dry_run: false,
            validation: FieldValidation::Warn,
            warnings: Vec::new(),
        }
    }
}

/// All objects, with the rules that keep them right.
pub struct Registry {
    pub store: Store,
    /// What is served now.
    pub catalog: Catalog,
    allocator: Mutex<Allocator>,
    access: Index,
    issuer: Issuer,
    pub(crate) tokens: Remembered,
    /// Pods need a ServiceAccount, and get its token.
    pods_need_accounts: bool,
    turns: Turns,
}

/// How often a write that lost a race is tried again.
const ATTEMPTS: usize = 10;
const CHANGED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl Registry {
    pub fn new(
        store: Store,
        config: AllocatorConfig,
        issuer: Issuer,
        pods_need_accounts: bool,
    ) -> Result<Self, ApiError> {
        let services = schema().resource("", "v1", "services");
        let prefix = services.map(|r| storage::prefix(r, "")).unwrap_or_default();
        let existing: Vec<Value> =
            store.all(&prefix).iter().map(|o| object::parse(&o.bytes)).collect::<Result<_, _>>()?;
        let cidrs = schema().resource("networking.k8s.io", "v1", "servicecidrs");
        let prefix = cidrs.map(|r| storage::prefix(r, "")).unwrap_or_default();
        let cidrs: Vec<Value> =
            store.all(&prefix).iter().map(|o| object::parse(&o.bytes)).collect::<Result<_, _>>()?;
        let further_cidrs = cidrs.iter().flat_map(services::ranges).collect();
        let config = AllocatorConfig { further_cidrs, ..config };
        let allocator = Mutex::new(Allocator::new(config, existing.iter()));
        let (access, tokens) = (Index::default(), Remembered::default());
        let catalog = Catalog::new(Served::built_in());
        let turns = Turns::default();
        let registry = Self { store, catalog, allocator, access, issuer, tokens, pods_need_accounts, turns };
        keeper::load(&registry)?;
        Ok(registry)
    }

    fn allocator(&self) -> MutexGuard<'_, Allocator> {
        self.allocator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// What signs the tokens of ServiceAccounts.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Whether `identity` may do what is asked.
    pub fn decide(&self, identity: &Identity, asked: &Attributes<'_>) -> Decision {
        self.access.decide(&self.store, identity, asked)
    }

    /// Refuses what `identity` may not do.
    pub fn authorize(&self, identity: &Identity, asked: &Attributes<'_>) -> Result<(), ApiError> {
        let decision = self.decide(identity, asked);
        if decision.allowed { Ok(()) } else { Err(asked.refusal(identity, &decision.reason)) }
    }

    /// Looks at the roles and bindings of this moment.
    pub fn policy<T>(&self, look: impl FnOnce(&Policy) -> T) -> T {
        self.access.with(&self.store, look)
    }

    /// The object, as the requested version.
    pub fn get(&self, target: &Target) -> Result<Value, ApiError> {
        self.read(target).map(|(_, value)| value)
    }

    fn read(&self, target: &Target) -> Result<(Object, Value), ApiError> {
        let resource = &target.resource;
        let key = storage::key(resource, &target.namespace, &target.name);
        let stored = self.store.get(&key).ok_or_else(|| missing(target))?;
        let value = storage::from_stored(resource, object::parse(&stored.bytes)?);
        Ok((stored, value))
    }

    /// Applies the field checks of the schema as the client wants them.
    pub(crate) fn check_fields(
        &self,
        resource: &Resource,
        value: &mut Value,
        duplicates: &[String],
        call: &mut Call,
    ) -> Result<(), ApiError> {
        let unknown = match &resource.custom {
            Some(custom) => {
                let mut unknown = schema().check_metadata(resource.gvk(), value)?;
                schema().normalise_metadata(value);
                unknown.extend(custom.prune(value));
                call.warnings.extend(custom.deprecation.clone());
                unknown
            }
            None => schema().check_fields(resource.group, resource.version, resource.kind, value)?,
        };
        self.settle_unknown(resource.gvk(), unknown, duplicates, call)
    }

    /// As `check_fields`, of a built-in kind that is no resource.
    pub(crate) fn check_fields_of(
        &self,
        gvk: Gvk<'_>,
        value: &mut Value,
        duplicates: &[String],
        call: &mut Call,
    ) -> Result<(), ApiError> {
        let unknown = schema().check_fields(gvk.group, gvk.version, gvk.kind, value)?;
        self.settle_unknown(gvk, unknown, duplicates, call)
    }

    fn settle_unknown(
        &self,
        gvk: Gvk<'_>,
        unknown: Vec<String>,
        duplicates: &[String],
        call: &mut Call,
    ) -> Result<(), ApiError> {
        let found: Vec<String> = duplicates.iter().cloned().chain(unknown).collect();
        match call.validation {
            FieldValidation::Strict if !found.is_empty() => {
                let (kind, version) = (gvk.kind, gvk.version);
                Err(ApiError::bad_request(format!(
                    "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {}",
                    found.join(", ")
                )))
            }
            FieldValidation::Warn => {
                call.warnings.extend(found);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn missing(target: &Target) -> ApiError {
    ApiError::not_found(target.resource.group, target.resource.plural, &target.name)
}

fn conflict(target: &Target) -> ApiError {
    ApiError::conflict(target.resource.group, target.resource.plural, &target.name, CHANGED)
}

/// The answer to a write that the store refused.
fn refused(target: &Target, error: StoreError) -> ApiError {
    let resource = &target.resource;
    match error {
        StoreError::Exists => ApiError::already_exists(resource.group, resource.plural, &target.name),
        StoreError::Missing => missing(target),
        StoreError::Conflict(_) => conflict(target),
        other => store_error(other),
    }
}

/// The answer to a read or write that the store could not do, whatever the object.
pub fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { asked, oldest } => {
            ApiError::gone(format!("too old resource version: {asked} ({oldest})"))
        }
        StoreError::Future { asked, current } => {
            let message = format!("Too large resource version: {asked}, current: {current}");
            let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
            let details = json!({"causes": [cause], "retryAfterSeconds": 1});
            ApiError::new(504, "Timeout", message).with_details(details)
        }
        StoreError::Full(cause) => ApiError::new(
            507,
            "InsufficientStorage",
            format!("the change was not stored, the disk is full ({cause}); free some space and try again"),
        ),
        other => ApiError::internal(other.to_string()),
    }
}
