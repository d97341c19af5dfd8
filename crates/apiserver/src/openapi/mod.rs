//! OpenAPI v3: an index with hashes, and one document per group version.

use bytes::Bytes;
use serde_json::Value;

/// `/openapi/v3`.
pub fn index() -> Value {
    Value::Null
}

/// `/openapi/v3/PATH`, where `path` is `api/v1` or `apis/GROUP/VERSION`.
pub fn document(_path: &str) -> Option<Bytes> {
    None
}
