//! The three kinds of patch: JSON patch, merge patch and strategic merge patch.

mod directives;
mod order;
mod strategic;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::error::ApiError;
use crate::schema::{Gvk, MAX_DEPTH, is_deeper, parse_json};

/// As many operations as kube-apiserver accepts in one JSON patch.
const MAX_OPERATIONS: usize = 10_000;
/// Copies and moves together may not be larger than this, in bytes of JSON.
const MAX_DOCUMENT: usize = 3 * 1024 * 1024;

/// RFC 6902. A body that is no patch is a 400; a patch that does not apply, a 422.
pub fn json_patch(doc: &Value, body: &[u8]) -> Result<Value, ApiError> {
    let operations = decode(body)?;
    if !operations.is_array() {
        return Err(mistyped(&operations, "[]handlers.jsonPatchOp"));
    }
    if let Some(other) = operations.as_array().and_then(|all| all.iter().find(|one| !one.is_object())) {
        return Err(mistyped(other, "handlers.jsonPatchOp"));
    }
    let patch: json_patch::Patch =
        serde_json::from_value(operations).map_err(|e| rejected(&format!("it cannot be read: {e}")))?;
    if patch.0.len() > MAX_OPERATIONS {
        return Err(ApiError::new(
            413,
            "RequestEntityTooLarge",
            format!(
                "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                patch.0.len()
            ),
        ));
    }
    let mut result = doc.clone();
    let mut size = 0;
    for operation in &patch.0 {
        let moved = moved(&result, operation);
        size += moved.map_or(0, size_of);
        if size > MAX_DOCUMENT {
            return Err(rejected("it copies too much"));
        }
        if is_too_deep(operation, moved) {
            return Err(rejected("it nests too deeply"));
        }
        json_patch::patch(&mut result, std::slice::from_ref(operation))
            .map_err(|e| rejected(&format!("it does not apply: {e}")))?;
    }
    Ok(result)
}

/// The value that an operation takes from elsewhere in the document.
fn moved<'a>(document: &'a Value, operation: &json_patch::PatchOperation) -> Option<&'a Value> {
    let from = match operation {
        json_patch::PatchOperation::Copy(copy) => &copy.from,
        json_patch::PatchOperation::Move(moving) => &moving.from,
        _ => return None,
    };
    document.pointer(from.as_str())
}

/// Whether what an operation puts at its place would be nested deeper than a stored object may be.
fn is_too_deep(operation: &json_patch::PatchOperation, moved: Option<&Value>) -> bool {
    let value = match operation {
        json_patch::PatchOperation::Add(add) => Some(&add.value),
        json_patch::PatchOperation::Replace(replace) => Some(&replace.value),
        _ => moved,
    };
    let above = operation.path().as_str().matches('/').count();
    value.is_some_and(|value| above > MAX_DEPTH || is_deeper(value, MAX_DEPTH - above))
}

/// RFC 7386.
pub fn merge_patch(doc: &Value, body: &[u8]) -> Result<Value, ApiError> {
    let patch = decode(body)?;
    if !patch.is_object() {
        return Err(mistyped(&patch, "map[string]interface {}"));
    }
    let mut result = doc.clone();
    json_patch::merge(&mut result, &patch);
    Ok(result)
}

/// Kubernetes' strategic merge patch; a malformed one is a 400. Of kinds that are not built in it is a 415.
pub fn strategic(gvk: Gvk<'_>, doc: &Value, body: &[u8]) -> Result<Value, ApiError> {
    let (patch, _) = parse_json(body)?;
    let (Value::Object(original), Value::Object(patch)) = (doc.clone(), patch) else {
        return Err(ApiError::bad_request("error decoding patch: a strategic merge patch must be an object"));
    };
    let Some(ty) = crate::schema::schema().type_of(gvk) else {
        return Err(ApiError::new(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        ));
    };
    let merged = strategic::merge_map(original, patch, strategic::Node::Struct(ty));
    merged.map(Value::Object).map_err(ApiError::bad_request)
}

fn decode(body: &[u8]) -> Result<Value, ApiError> {
    let parsed = parse_json(body).map(|(value, _)| value);
    parsed.map_err(|e| ApiError::bad_request(format!("error decoding patch: {}", e.message)))
}

fn mistyped(value: &Value, wanted: &str) -> ApiError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let why = format!("error decoding patch: json: cannot unmarshal {found} into Go value of type {wanted}");
    ApiError::bad_request(why)
}

/// A JSON patch that does not fit. Kubernetes tells clients no more than this.
fn rejected(why: &str) -> ApiError {
    tracing::debug!("a JSON patch was refused: {why}");
    ApiError::new(422, "Invalid", "the server rejected our request due to an error in our request")
        .with_details(serde_json::json!({}))
}

/// The size of a value in bytes of JSON.
fn size_of(value: &Value) -> usize {
    serde_json::to_string(value).map_or(0, |text| text.len())
}
