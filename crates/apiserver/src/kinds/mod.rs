//! What is particular about each kind: defaults, validation, update strategies, Service allocation.
//!
//! The order on a write is: [`default`], then for Services [`Allocator::allocate`] (writes of the Service
//! itself only), then [`prepare_create`] or [`prepare_update`], then [`validate_create`] or
//! [`validate_update`], then the store; afterwards [`Allocator::commit`], or [`Allocator::rollback`] when
//! anything failed or it was a dry run.

mod apps;
mod batch;
mod cluster;
pub(crate) mod common;
mod config;
mod cron;
mod facts;
pub mod field;
pub mod format;
mod ip;
mod job;
mod limits;
mod metadata;
mod network;
mod pod;
mod policy;
mod quota;
mod rbac;
pub mod service;
mod stateful;
mod strategy;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod traffic;
pub(crate) mod value;
mod warnings;

pub use facts::is_built_in;
pub use pod::qos_class;
pub use service::{Allocator, AllocatorConfig, Reservation};
pub use warnings::of as warnings;

use serde_json::Value;

use self::field::Errors;
use crate::{error::ApiError, schema::Resource};

/// What users of a kind that Kubernetes has deprecated are warned of.
pub fn deprecation(resource: &Resource) -> &'static [&'static str] {
    match (resource.group, resource.plural) {
        ("", "endpoints") => &["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"],
        ("", "componentstatuses") => &["v1 ComponentStatus is deprecated in v1.19+"],
        _ => &[],
    }
}

/// Fills in what the client left out, as Kubernetes does after decoding; doing so twice changes nothing.
pub fn default(res: &Resource, obj: &mut Value) {
    match &res.custom {
        Some(custom) => custom.default(obj),
        None => (facts::of(res.group, res.kind).default)(obj),
    }
}

/// Applies the kind's create strategy: drops status, starts the generation. Wants `metadata` complete.
pub fn prepare_create(res: &Resource, obj: &mut Value) {
    strategy::prepare_create(res, facts::of(res.group, res.kind), obj);
}

/// Applies the update strategy of `sub` (`""` is the main resource, else `status`, `scale`, `finalize`,
/// `ephemeralcontainers`, `binding`, …): keeps what the write may not touch, bumps the generation.
pub fn prepare_update(res: &Resource, sub: &str, old: &Value, new: &mut Value) {
    strategy::prepare_update(res, facts::of(res.group, res.kind), sub, old, new);
}

/// Checks a new object; every mistake is one cause of the 422.
pub fn validate_create(res: &Resource, obj: &Value) -> Result<(), ApiError> {
    let facts = facts::of(res.group, res.kind);
    let mut errors = Errors::default();
    metadata::check(obj, res.namespaced, facts.name, &mut errors);
    match &res.custom {
        Some(custom) => custom.validate(obj, None, &mut errors),
        None => (facts.check)(obj, None, &mut errors),
    }
    outcome(res, obj, errors)
}

/// Checks a changed object, immutable fields included.
pub fn validate_update(res: &Resource, sub: &str, old: &Value, new: &Value) -> Result<(), ApiError> {
    let facts = facts::of(res.group, res.kind);
    let mut errors = Errors::default();
    metadata::check_update(old, new, &mut errors);
    match (sub, &res.custom) {
        ("" | "scale", Some(custom)) => custom.validate(new, Some(old), &mut errors),
        ("status", Some(custom)) => custom.validate_status(old, new, &mut errors),
        _ => check_built_in(facts, sub, old, new, &mut errors),
    }
    outcome(res, new, errors)
}

fn check_built_in(facts: &facts::Facts, sub: &str, old: &Value, new: &Value, errors: &mut Errors) {
    match sub {
        "" | "scale" => (facts.check)(new, Some(old), errors),
        "status" => (facts.check_status)(old, new, errors),
        "ephemeralcontainers" => pod::validate_ephemeral(old, new, errors),
        "finalize" => cluster::check_namespace(new, Some(old), errors),
        _ => {}
    }
}

/// What the creator of an object should know that nothing in the cluster acts on.
pub fn inert(res: &Resource) -> Option<&'static str> {
    match (res.group, res.kind) {
        ("networking.k8s.io", "Ingress" | "IngressClass") => {
            Some("this cluster has no ingress controller: the object is stored, and nothing acts on it")
        }
        ("networking.k8s.io", "NetworkPolicy") => Some(
            "this cluster does not enforce NetworkPolicies: the object is stored, and no traffic is restricted",
        ),
        _ => None,
    }
}

fn outcome(res: &Resource, obj: &Value, errors: Errors) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    let name = value::text(obj, "metadata.name");
    Err(ApiError::invalid(res.group, res.kind, name, errors.into_causes()))
}
