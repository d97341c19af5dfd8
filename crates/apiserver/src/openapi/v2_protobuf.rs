//! The definitions of OpenAPI v2 in protobuf, as clients from before v3 ask for them: gnostic's `openapi.v2.Document`.
//! Those clients look at no paths, so there are none.

use serde_json::{Map, Value};

use super::{models::Models, paths, v2};
use crate::custom::Served;

/// The document.
pub fn document(served: &Served) -> Vec<u8> {
    let _alone = v2::alone();
    let mut models = Models::new();
    for (group, version) in served.group_versions() {
        // Types are met on the way.
        paths::of(served, group, version, &mut models);
    }
    let mut out = Vec::new();
    text(&mut out, 1, "2.0");
    let mut info = Vec::new();
    text(&mut info, 1, "Kubernetes");
    text(&mut info, 2, "v1.36.3");
    field(&mut out, 2, &info);
    let mut definitions = Vec::new();
    for (name, mut model) in models.finish() {
        v2::schema(&mut model);
        field(&mut definitions, 1, &named(&name, &schema(&model)));
    }
    field(&mut out, 9, &definitions);
    out
}

fn schema(model: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in model.as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("$ref", Value::String(value)) => text(&mut out, 1, value),
            ("format", Value::String(value)) => text(&mut out, 2, value),
            ("title", Value::String(value)) => text(&mut out, 3, value),
            ("description", Value::String(value)) => text(&mut out, 4, value),
            ("required", Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).for_each(|name| text(&mut out, 19, name));
            }
            ("enum", Value::Array(values)) => {
                values.iter().for_each(|value| field(&mut out, 20, &any(value)))
            }
            ("additionalProperties", Value::Object(_)) => {
                let mut item = Vec::new();
                field(&mut item, 1, &schema(value));
                field(&mut out, 21, &item);
            }
            ("type", Value::String(value)) => {
                let mut item = Vec::new();
                text(&mut item, 1, value);
                field(&mut out, 22, &item);
            }
            ("items", Value::Object(_)) => {
                let mut item = Vec::new();
                field(&mut item, 1, &schema(value));
                field(&mut out, 23, &item);
            }
            ("properties", Value::Object(properties)) => field(&mut out, 25, &all(properties)),
            (name, value) if name.starts_with("x-") => field(&mut out, 31, &named(name, &any(value))),
            _ => {}
        }
    }
    out
}

fn all(properties: &Map<String, Value>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, property) in properties {
        field(&mut out, 1, &named(name, &schema(property)));
    }
    out
}

/// `NamedSchema` and `NamedAny`.
fn named(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 1, name);
    field(&mut out, 2, value);
    out
}

/// `Any`, whose text is YAML; JSON is.
fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 2, &format!("{value}\n"));
    out
}

fn text(out: &mut Vec<u8>, number: u8, text: &str) {
    field(out, number, text.as_bytes());
}

/// A field with a length. Those with numbers from 16 on have two bytes in front.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    varint(out, usize::from(number) << 3 | 2);
    varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_what_gnostic_writes() {
        let model = json!({"type": "array", "items": {"$ref": "#/definitions/a"}, "x-kubernetes-list-map-keys": ["name"]});
        let wanted = [
            b"\xb2\x01\x07\x0a\x05array".as_slice(),
            b"\xba\x01\x13\x0a\x11\x0a\x0f#/definitions/a",
            b"\xfa\x01\x29\x0a\x1ax-kubernetes-list-map-keys\x12\x0b\x12\x09[\"name\"]\n",
        ];
        assert_eq!(String::from_utf8_lossy(&schema(&model)), String::from_utf8_lossy(&wanted.concat()));
        let document = document(&Served::built_in());
        assert!(document.len() > 500_000 && document.starts_with(b"\x0a\x032.0\x12"), "{}", document.len());
    }
}
