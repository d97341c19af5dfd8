//! Server-side apply: who owns which field, and merging by it.

use serde_json::Value;

use crate::error::ApiError;
use crate::schema::Gvk;

/// Merges `config` into `live` on behalf of `manager`; conflicts are a 409 with causes.
pub fn apply(
    _gvk: Gvk<'_>,
    _live: Option<&Value>,
    _config: &Value,
    _manager: &str,
    _force: bool,
    _subresource: &str,
    _now: &str,
) -> Result<Value, ApiError> {
    Err(ApiError::internal("apply is not loaded"))
}

/// Writes `metadata.managedFields` of `new` for a write other than apply.
pub fn track(
    _gvk: Gvk<'_>,
    _old: Option<&Value>,
    _new: &mut Value,
    _manager: &str,
    _subresource: &str,
    _now: &str,
) {
}
