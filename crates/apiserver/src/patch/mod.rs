//! The three kinds of patch: JSON patch, merge patch and strategic merge patch.

use serde_json::Value;

use crate::error::ApiError;
use crate::schema::Gvk;

/// RFC 6902.
pub fn json_patch(_doc: &Value, _body: &[u8]) -> Result<Value, ApiError> {
    Err(ApiError::internal("patch is not loaded"))
}

/// RFC 7386.
pub fn merge_patch(_doc: &Value, _body: &[u8]) -> Result<Value, ApiError> {
    Err(ApiError::internal("patch is not loaded"))
}

/// Kubernetes' strategic merge patch.
pub fn strategic(_gvk: Gvk<'_>, _doc: &Value, _body: &[u8]) -> Result<Value, ApiError> {
    Err(ApiError::internal("patch is not loaded"))
}
