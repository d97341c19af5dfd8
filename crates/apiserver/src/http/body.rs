//! Request bodies: read within the limit and decoded by content type.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use crate::error::ApiError;
use crate::{protobuf, schema};

/// Bytes; as kube-apiserver's limit.
pub const LIMIT: usize = 3 << 20;

/// The patch formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// Reads the whole body.
///
/// # Errors
/// 413 above the limit, 400 when the client breaks off.
pub async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(e) if e.is::<LengthLimitError>() => Err(ApiError::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {LIMIT}"),
        )),
        Err(e) => Err(ApiError::bad_request(format!("the body could not be read: {e}"))),
    }
}

/// The media type without parameters; JSON if the client does not say.
pub fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind.is_empty() { "application/json".into() } else { kind }
}

/// Decodes an object and tells of duplicate fields.
pub fn decode(media_type: &str, body: &[u8], kind: &str) -> Result<(Value, Vec<String>), ApiError> {
    match media_type {
        "application/json" => {
            let (value, duplicates) = schema::parse_json(body).map_err(|e| unrecognised(kind, &e, body))?;
            match value {
                Value::Object(_) => Ok((value, duplicates)),
                Value::Null => Ok((serde_json::json!({}), duplicates)),
                other => Err(unrecognised(kind, &no_object(&other), body)),
            }
        }
        "application/yaml" => Ok((yaml(body)?, Vec::new())),
        "application/vnd.kubernetes.protobuf" => Ok((protobuf::decode(body)?, Vec::new())),
        _ => {
            Err(unsupported(&["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]))
        }
    }
}

pub fn patch_kind(media_type: &str) -> Result<PatchKind, ApiError> {
    match media_type {
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
        "application/apply-patch+yaml" => Ok(PatchKind::Apply),
        _ => Err(ApiError::new(415, "UnsupportedMediaType", "415: Unsupported Media Type")
            .with_details(serde_json::json!({}))),
    }
}

/// YAML or, since it is a subset, JSON.
pub fn yaml(body: &[u8]) -> Result<Value, ApiError> {
    schema::parse_yaml(body).map_err(|e| ApiError::bad_request(format!("error converting YAML to JSON: {e}")))
}

/// What is no object of a kind; the message shows the body, as hexadecimal digits if it does not begin like one.
fn unrecognised(kind: &str, why: &ApiError, body: &[u8]) -> ApiError {
    const SHOWN: usize = 1024;
    let shown = match body {
        [] => "<empty>".to_owned(),
        [b'{', ..] => String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned(),
        other => other.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect(),
    };
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: \
         {} ({shown})",
        why.message
    ))
}

fn no_object(value: &Value) -> ApiError {
    let what = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        _ => "array",
    };
    let ty = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
              \"json:\\\"kind,omitempty\\\"\" }";
    ApiError::bad_request(format!("json: cannot unmarshal {what} into Go value of type {ty}"))
}

fn unsupported(accepted: &[&str]) -> ApiError {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        accepted.join(", ")
    );
    ApiError::new(415, "UnsupportedMediaType", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_patch_formats_and_refuses_others() {
        assert_eq!(patch_kind("application/merge-patch+json").unwrap(), PatchKind::Merge);
        let refused = patch_kind("application/json").unwrap_err();
        assert_eq!((refused.code, refused.reason), (415, "UnsupportedMediaType"));
        assert_eq!(decode("text/plain", b"{}", "Pod").unwrap_err().code, 415);
    }

    #[test]
    fn yaml_is_json_too() {
        assert_eq!(yaml(b"{\"a\": [1]}").unwrap(), yaml(b"a:\n- 1\n").unwrap());
        assert_eq!(yaml(b"a: [").unwrap_err().code, 400);
    }
}
