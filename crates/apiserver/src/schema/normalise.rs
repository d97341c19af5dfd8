//! Gives an object the shape that a round trip through Kubernetes' own types would give it.

use serde_json::{Map, Value};

use super::check::zero;
use super::{Field, Schema, Ty, Type};

pub(super) fn normalise(schema: &Schema, ty: &Type, obj: &mut Value) {
    if let Value::Object(map) = obj {
        structure(schema, ty, map);
    }
}

fn structure(schema: &Schema, ty: &Type, map: &mut Map<String, Value>) {
    let mut old = std::mem::take(map);
    if ty.is_kind {
        for name in ["kind", "apiVersion"] {
            map.extend(old.swap_remove(name).map(|value| (name.to_owned(), value)));
        }
    }
    for field in schema.fields(ty) {
        if let Some(value) = member(schema, field, old.swap_remove(field.name)) {
            map.insert(field.name.to_owned(), value);
        }
    }
}

/// The value that a field is encoded with, if it is.
fn member(schema: &Schema, field: &Field, value: Option<Value>) -> Option<Value> {
    let mut value = match value {
        Some(value) if !value.is_null() => value,
        _ if field.pointer => return None,
        _ => absent(field)?,
    };
    inner(schema, &field.ty, &mut value);
    let left_out = !field.pointer
        && match &field.ty {
            Ty::Struct(_) => field.omit_zero && empty(&value),
            Ty::Quantity
            | Ty::IntOrString
            | Ty::Time
            | Ty::MicroTime
            | Ty::Raw
            | Ty::SchemaOr(..)
            | Ty::FieldsV1 => false,
            // An empty list there is a request to forget all managers.
            _ => field.omit_empty && empty(&value) && field.name != "managedFields",
        };
    (!left_out).then_some(value)
}

/// What Go encodes as null where it holds nothing.
fn is_null_when_empty(ty: &Ty) -> bool {
    matches!(
        ty,
        Ty::List(_)
            | Ty::Map(_)
            | Ty::Values
            | Ty::Bytes
            | Ty::Time
            | Ty::MicroTime
            | Ty::Raw
            | Ty::SchemaOr(..)
    )
}

/// What stands in the place of an absent field that is not a pointer.
fn absent(field: &Field) -> Option<Value> {
    match &field.ty {
        Ty::Struct(_) => Some(Value::Object(Map::new())),
        ty if is_null_when_empty(ty) => None,
        _ if field.omit_empty => None,
        ty => Some(zero(ty)),
    }
}

/// What Go encodes of a kind's empty struct, nulls of lists and maps included: fields that are always there.
pub(super) fn empty_struct(schema: &Schema, ty: &Type) -> Map<String, Value> {
    let mut map = Map::new();
    for field in schema.fields(ty) {
        let value = match &field.ty {
            _ if field.pointer || field.omit_zero => continue,
            Ty::Struct(id) => Value::Object(empty_struct(schema, schema.get(*id))),
            _ if field.omit_empty => continue,
            ty if is_null_when_empty(ty) => Value::Null,
            ty => zero(ty),
        };
        map.insert(field.name.to_owned(), value);
    }
    map
}

fn inner(schema: &Schema, ty: &Ty, value: &mut Value) {
    match (ty, value) {
        (Ty::Struct(id) | Ty::SchemaOr(id, _), Value::Object(map)) => structure(schema, schema.get(*id), map),
        (Ty::SchemaOr(id, _), Value::Array(items)) => {
            items.iter_mut().for_each(|item| normalise(schema, schema.get(*id), item));
        }
        (Ty::List(of), Value::Array(items)) => items.iter_mut().for_each(|item| inner(schema, of, item)),
        (Ty::Map(of), Value::Object(map)) => map.values_mut().for_each(|item| inner(schema, of, item)),
        _ => {}
    }
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
