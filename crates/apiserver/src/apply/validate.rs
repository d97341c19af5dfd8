//! Whether a configuration can be merged: known fields, fitting types, items that can be told apart.

use serde_json::Value;

use super::shape::Shape;
use crate::error::ApiError;
use crate::schema::{Gvk, Ty};

/// A configuration that cannot be merged is a 400 that names the object and the field.
pub(super) fn validate(root: Shape, gvk: Gvk<'_>, config: &Value) -> Result<(), ApiError> {
    let why = match config {
        Value::Object(_) => check(root, config, String::new()).err(),
        _ => Some(": expected an object".to_owned()),
    };
    let Some(why) = why else { return Ok(()) };
    let text = |path: &str| config.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let (api_version, kind) = (gvk.api_version(), gvk.kind);
    Err(ApiError::bad_request(format!(
        "failed to create typed patch object ({namespace}/{name}; {api_version}, Kind={kind}): {why}"
    )))
}

fn check(shape: Shape, value: &Value, path: String) -> Result<(), String> {
    let mismatch = |wanted: &str| Err(format!("{path}: expected {wanted}, got {}", describe(value)));
    match (shape, value) {
        (Shape::Unknown, _) => Err(format!("{path}: field not declared in schema")),
        (_, Value::Null) => Ok(()),
        (Shape::Open, Value::Object(map)) => {
            map.iter().try_for_each(|(name, value)| check(Shape::Open, value, format!("{path}.{name}")))
        }
        (Shape::Open, _) => Ok(()),
        (Shape::Resource(_) | Shape::Struct(_) | Shape::Map(_), Value::Object(map)) => map
            .iter()
            .try_for_each(|(name, value)| check(shape.member(name), value, format!("{path}.{name}"))),
        (Shape::Resource(_) | Shape::Struct(_) | Shape::Map(_), _) => mismatch("map"),
        (Shape::Custom(of), Value::Array(items)) if of.ty == "array" && shape.has_items(value) => {
            check_items(shape, items, &path)
        }
        (Shape::Custom(of), Value::Object(map)) if of.ty == "object" => map
            .iter()
            .try_for_each(|(name, value)| check(shape.member(name), value, format!("{path}.{name}"))),
        (Shape::Custom(of), _) => match (of.ty.as_str(), value) {
            ("object", value) if !value.is_object() => mismatch("map"),
            ("array", value) if !value.is_array() => mismatch("list"),
            ("string", value) if !value.is_string() => mismatch("string"),
            ("boolean", value) if !value.is_boolean() => mismatch("boolean"),
            ("integer" | "number", value) if !value.is_number() => mismatch("numeric (int or float)"),
            _ => Ok(()),
        },
        (Shape::Set(_) | Shape::Keyed(..), Value::Array(items)) => check_items(shape, items, &path),
        (Shape::Set(_) | Shape::Keyed(..), _) => mismatch("list"),
        (Shape::Leaf(ty), _) => match wanted(ty, value) {
            Some(wanted) => mismatch(wanted),
            None => Ok(()),
        },
    }
}

fn check_items(shape: Shape, items: &[Value], path: &str) -> Result<(), String> {
    let mut seen: Vec<String> = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        if shape.is_keyed() && !item.is_object() {
            return Err(format!(
                "{path}: element {i}: associative list with keys may not have non-map elements"
            ));
        }
        let name = shape.item_name(item).map_err(|key| {
            format!(
                "{path}: element {i}: associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
            )
        })?;
        let step = super::set::display(&name);
        if seen.contains(&name) {
            return Err(format!("{path}: duplicate entries for key {step}"));
        }
        check(shape.item(), item, format!("{path}{step}"))?;
        seen.push(name);
    }
    Ok(())
}

/// What a leaf should have been, if it isn't.
fn wanted(ty: &Ty, value: &Value) -> Option<&'static str> {
    let (fits, wanted) = match ty {
        Ty::String(_) | Ty::Bytes | Ty::Time | Ty::MicroTime => (value.is_string(), "string"),
        Ty::Bool => (value.is_boolean(), "boolean"),
        Ty::Int32 | Ty::Int64 | Ty::Float64 => (value.is_number(), "numeric (int or float)"),
        Ty::List(_) | Ty::Values => (value.is_array(), "list"),
        Ty::Map(_) | Ty::Struct(_) => (value.is_object(), "map"),
        Ty::Quantity | Ty::IntOrString | Ty::Raw | Ty::SchemaOr(..) | Ty::FieldsV1 => (true, ""),
    };
    (!fits).then_some(wanted)
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}
