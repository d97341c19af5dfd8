//! JSON values to protobuf messages, by the types of the schema table, byte for byte as Go writes its structs. The
//! server answers in JSON; this is for tests and benchmarks of who reads protobuf.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value};

use super::MAGIC;
use crate::schema::{Field, Gvk, Ty, Type, schema};

/// Why a value cannot be encoded: what was wanted in its place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value} is no {wanted}")]
pub struct Unencodable {
    field: String,
    value: String,
    wanted: &'static str,
}

type Encoded = Result<(), Unencodable>;

/// Encodes an object with the envelope that says its kind.
///
/// # Errors
/// If its kind is unknown or a field has no value of its type.
pub fn encode(object: &Value) -> Result<Vec<u8>, Unencodable> {
    let text = |name: &'static str| object[name].as_str().unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let ty = schema().type_of(Gvk { group, version, kind });
    let ty = ty.ok_or_else(|| unencodable("kind", &object["kind"], "kind that is known"))?;
    let mut type_meta = Vec::new();
    put_bytes(1, api_version.as_bytes(), &mut type_meta);
    put_bytes(2, kind.as_bytes(), &mut type_meta);
    let mut into = MAGIC.to_vec();
    put_bytes(1, &type_meta, &mut into);
    put_bytes(2, &message(ty, object.as_object())?, &mut into);
    for empty in [3, 4] {
        put_bytes(empty, b"", &mut into);
    }
    Ok(into)
}

/// One event of a watch (`ADDED` and so on) with its length before it.
///
/// # Errors
/// As [`encode`].
pub fn frame(what: &str, object: &Value) -> Result<Vec<u8>, Unencodable> {
    let (mut raw, mut event) = (Vec::new(), Vec::new());
    put_bytes(1, &encode(object)?, &mut raw);
    put_bytes(1, what.as_bytes(), &mut event);
    put_bytes(2, &raw, &mut event);
    let length =
        u32::try_from(event.len()).map_err(|_| unencodable("object", object, "object below 4 GiB"))?;
    Ok([&length.to_be_bytes()[..], &event].concat())
}

fn unencodable(field: &str, value: &Value, wanted: &'static str) -> Unencodable {
    Unencodable { field: field.to_owned(), value: value.to_string(), wanted }
}

fn put_bytes(number: u32, bytes: &[u8], into: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, into);
    encode_varint(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}

fn put_varint(number: u32, value: u64, into: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, into);
    encode_varint(value, into);
}

/// The message of an object, or of one in which nothing is set.
fn message(ty: &Type, object: Option<&Map<String, Value>>) -> Result<Vec<u8>, Unencodable> {
    let mut fields: Vec<&Field> = ty.fields.iter().filter(|field| field.number != 0).collect();
    fields.sort_by_key(|field| field.number);
    let mut into = Vec::new();
    for field in fields {
        match (&field.ty, object.and_then(|object| object.get(field.name)).filter(|value| !value.is_null())) {
            (Ty::Struct(id), _) if field.inline() => {
                put_bytes(field.number, &message(schema().get(*id), object)?, &mut into);
            }
            (Ty::List(of), Some(Value::Array(items))) => {
                items.iter().try_for_each(|item| put(field, of, Some(item), field.number, &mut into))?;
            }
            (Ty::Map(of), Some(Value::Object(map))) => entries(field, of, map, &mut into)?,
            (Ty::List(_) | Ty::Map(_) | Ty::Bytes | Ty::FieldsV1, None) => {}
            (_, None) if field.pointer => {}
            (of, value) => put(field, of, value, field.number, &mut into)?,
        }
    }
    Ok(into)
}

fn entries(field: &Field, of: &Ty, map: &Map<String, Value>, into: &mut Vec<u8>) -> Encoded {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort();
    for key in keys {
        let mut entry = Vec::new();
        put_bytes(1, key.as_bytes(), &mut entry);
        put(field, of, Some(&map[key]), 2, &mut entry)?;
        put_bytes(field.number, &entry, into);
    }
    Ok(())
}

/// Puts a value, or the one that Go has where none is set.
fn put(field: &Field, ty: &Ty, value: Option<&Value>, number: u32, into: &mut Vec<u8>) -> Encoded {
    let no = |wanted| unencodable(field.name, value.unwrap_or(&Value::Null), wanted);
    let text = || value.map_or(Some(""), Value::as_str).ok_or_else(|| no("string"));
    match ty {
        Ty::Bool => {
            let set = value.map_or(Some(false), Value::as_bool).ok_or_else(|| no("bool"))?;
            put_varint(number, set.into(), into);
        }
        Ty::Int32 | Ty::Int64 => {
            let integer = value.map_or(Some(0), Value::as_i64).ok_or_else(|| no("integer"))?;
            put_varint(number, integer.cast_unsigned(), into);
        }
        Ty::String(_) => put_bytes(number, text()?.as_bytes(), into),
        Ty::Bytes => put_bytes(number, &STANDARD.decode(text()?).map_err(|_| no("Base64"))?, into),
        Ty::Quantity => put_bytes(number, &wrapped(text()?.as_bytes()), into),
        Ty::IntOrString => put_bytes(number, &int_or_string(value).ok_or_else(|| no("port"))?, into),
        Ty::Time | Ty::MicroTime => put_bytes(number, &time(text()?).ok_or_else(|| no("time"))?, into),
        Ty::Raw | Ty::FieldsV1 => {
            let json = value.map_or_else(String::new, Value::to_string);
            put_bytes(number, &wrapped(json.as_bytes()), into);
        }
        Ty::Struct(id) => {
            let object = value.map_or(Some(None), |v| v.as_object().map(Some)).ok_or_else(|| no("object"))?;
            put_bytes(number, &message(schema().get(*id), object)?, into);
        }
        Ty::Values => {
            let mut list = Vec::new();
            for item in value.and_then(Value::as_array).ok_or_else(|| no("list"))? {
                put_bytes(1, item.as_str().ok_or_else(|| no("list of strings"))?.as_bytes(), &mut list);
            }
            put_bytes(number, &list, into);
        }
        Ty::Float64 | Ty::SchemaOr(..) | Ty::List(_) | Ty::Map(_) => {
            return Err(no("value of a type that is encoded here"));
        }
    }
    Ok(())
}

/// A message with one field of bytes.
fn wrapped(bytes: &[u8]) -> Vec<u8> {
    let mut into = Vec::new();
    put_bytes(1, bytes, &mut into);
    into
}

fn int_or_string(value: Option<&Value>) -> Option<Vec<u8>> {
    let text = value.and_then(Value::as_str);
    let number = match (text, value) {
        (None, Some(value)) => value.as_i64()?,
        _ => 0,
    };
    let mut into = Vec::new();
    put_varint(1, text.is_some().into(), &mut into);
    put_varint(2, number.cast_unsigned(), &mut into);
    put_bytes(3, text.unwrap_or_default().as_bytes(), &mut into);
    Some(into)
}

/// Seconds and nanoseconds; no time is the empty message.
fn time(text: &str) -> Option<Vec<u8>> {
    let mut into = Vec::new();
    if !text.is_empty() {
        let time: jiff::Timestamp = text.parse().ok()?;
        put_varint(1, time.as_second().cast_unsigned(), &mut into);
        put_varint(2, i64::from(time.subsec_nanosecond()).cast_unsigned(), &mut into);
    }
    Some(into)
}
