//! Protobuf request bodies, decoded to the JSON that Kubernetes would make of them.

use serde_json::Value;

use crate::error::ApiError;

/// Decodes a `k8s\0` envelope to JSON with `apiVersion` and `kind`.
pub fn decode(_body: &[u8]) -> Result<Value, ApiError> {
    Err(ApiError::bad_request("protobuf is not loaded"))
}
