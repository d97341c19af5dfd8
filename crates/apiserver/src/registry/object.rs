//! Reading and writing the metadata of generic objects, and their stored form.

use std::sync::OnceLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::schema::{MAX_DEPTH, Resource, is_deeper};
use crate::store::Template;

/// The string at a JSON pointer; `""` if there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The metadata, made if it is missing or no object.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    child(object, "metadata")
}

/// The object under `name`, made if it is missing or no object.
pub fn child<'a>(object: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let slot = &mut object[name];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("made an object just above")
}

/// Sets or, with `None`, removes a field of the metadata.
pub fn set_metadata(object: &mut Value, name: &str, value: Option<Value>) {
    let metadata = metadata(object);
    match value {
        Some(value) => {
            metadata.insert(name.to_owned(), value);
        }
        None => {
            metadata.shift_remove(name);
        }
    }
}

pub fn resource_version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}

pub fn finalizers(object: &Value) -> Vec<String> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    let value = (!finalizers.is_empty()).then(|| Value::from(finalizers));
    set_metadata(object, "finalizers", value);
}

pub fn is_being_deleted(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// Kubernetes' `metav1.Time`: whole seconds, UTC.
pub fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Orders the top level as Kubernetes prints it and stamps the kind.
pub fn stamp(resource: &Resource, object: Value) -> Value {
    let mut ordered = Map::new();
    ordered.insert("kind".into(), resource.kind.into());
    ordered.insert("apiVersion".into(), resource.api_version().into());
    if let Value::Object(fields) = object {
        let (metadata, rest): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| name == "metadata");
        ordered.extend(metadata);
        ordered.extend(rest.into_iter().filter(|(name, _)| name != "kind" && name != "apiVersion"));
    }
    Value::Object(ordered)
}

/// The stored form: JSON with a hole for the resource version. The hole is found by a marker that
/// nobody outside this process knows.
pub fn template(mut object: Value) -> Result<Template, ApiError> {
    if is_deeper(&object, MAX_DEPTH) {
        return Err(ApiError::bad_request(format!(
            "the object, or what managedFields says of it, is nested deeper than {MAX_DEPTH} levels, which cannot be \
             stored; make it flatter"
        )));
    }
    static MARKER: OnceLock<String> = OnceLock::new();
    let marker = MARKER.get_or_init(|| uuid::Uuid::new_v4().to_string());
    set_metadata(&mut object, "resourceVersion", Some(marker.as_str().into()));
    let encoded = serde_json::to_string(&object)
        .map_err(|e| ApiError::internal(format!("the object could not be encoded: {e}")))?;
    let at = encoded.find(marker.as_str()).ok_or_else(|| ApiError::internal("the object has no metadata"))?;
    let mut json = encoded.into_bytes();
    json.drain(at..at + marker.len());
    Ok(Template { json, at })
}

/// Parses stored bytes.
pub fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes)
        .map_err(|e| ApiError::internal(format!("a stored object is unreadable: {e}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_takes_the_revision_in_its_metadata_alone() {
        let object = json!({"spec": {"resourceVersion": "mine"}, "metadata": {"name": "a"}});
        let template = template(object).unwrap();
        let mut bytes = template.json.clone();
        bytes.splice(template.at..template.at, *b"42");
        let value = parse(&bytes).unwrap();
        assert_eq!(resource_version(&value), "42");
        assert_eq!(value["spec"]["resourceVersion"], "mine");
    }

    #[test]
    fn times_have_whole_seconds() {
        assert_eq!(time("2024-02-03T04:05:06.789Z".parse().unwrap()), "2024-02-03T04:05:06Z");
    }

    #[test]
    fn metadata_comes_first_and_the_kind_is_ours() {
        let resource = crate::schema::schema().resource("", "v1", "configmaps").unwrap();
        let object = stamp(resource, json!({"data": {}, "kind": "x", "metadata": {}}));
        assert_eq!(object.to_string(), r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{},"data":{}}"#);
    }
}
