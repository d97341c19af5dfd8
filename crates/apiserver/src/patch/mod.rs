//! The three kinds of patch: JSON patch, merge patch and strategic merge patch.

mod directives;
mod order;
mod strategic;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::error::ApiError;
use crate::schema::{Gvk, parse_json};

/// As many operations as kube-apiserver accepts in one JSON patch.
const MAX_OPERATIONS: usize = 10_000;
/// Copy operations may not blow a document up beyond this size, in bytes of JSON.
const MAX_DOCUMENT: usize = 3 * 1024 * 1024;

/// RFC 6902. A body that is no patch is a 400; a patch that does not apply, a 422.
pub fn json_patch(doc: &Value, body: &[u8]) -> Result<Value, ApiError> {
    let (operations, _) = parse_json(body)?;
    let patch: json_patch::Patch = serde_json::from_value(operations)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
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
        let copied = match operation {
            json_patch::PatchOperation::Copy(copy) => result.pointer(copy.from.as_str()).map_or(0, size_of),
            _ => 0,
        };
        size += copied;
        if size > MAX_DOCUMENT {
            return Err(unprocessable("the patch copies too much"));
        }
        json_patch::patch(&mut result, std::slice::from_ref(operation)).map_err(|e| {
            unprocessable(&format!("the server rejected our request due to an error in our request: {e}"))
        })?;
    }
    Ok(result)
}

/// RFC 7386.
pub fn merge_patch(doc: &Value, body: &[u8]) -> Result<Value, ApiError> {
    let (patch, _) = parse_json(body)?;
    if !patch.is_object() {
        return Err(ApiError::bad_request("error decoding patch: a merge patch must be an object"));
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

fn unprocessable(message: &str) -> ApiError {
    ApiError::new(422, "Invalid", message)
}

/// The size of a value in bytes of JSON.
fn size_of(value: &Value) -> usize {
    serde_json::to_string(value).map_or(0, |text| text.len())
}
