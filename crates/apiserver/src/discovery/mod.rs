//! Discovery documents, aggregated and legacy.

use serde_json::Value;

/// `/api` as `APIGroupDiscoveryList` (`apidiscovery.k8s.io/v2`).
pub fn aggregated_core() -> Value {
    Value::Null
}

/// `/apis` as `APIGroupDiscoveryList` (`apidiscovery.k8s.io/v2`).
pub fn aggregated_groups() -> Value {
    Value::Null
}

/// `/api`: `APIVersions`; `address` is what clients dial, as in `192.0.2.1:6443`.
pub fn legacy_core(_address: &str) -> Value {
    Value::Null
}

/// `/apis`: `APIGroupList`.
pub fn legacy_groups() -> Value {
    Value::Null
}

/// `/apis/GROUP`: `APIGroup`.
pub fn legacy_group(_group: &str) -> Option<Value> {
    None
}

/// `/api/v1` and `/apis/GROUP/VERSION`: `APIResourceList`.
pub fn legacy_resources(_group: &str, _version: &str) -> Option<Value> {
    None
}
