//! Protobuf messages to JSON values, by the types of the schema table.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::wire::{Reader, Wire, text};
use super::{Depth, MAGIC, Malformed, envelope};
use crate::schema::quantity::Quantity;
use crate::schema::{Field, Simpler, Ty, Type, TypeId, format_time, schema};

/// Decodes a message of type `ty` into `map`.
pub(super) fn structure(
    ty: &Type,
    bytes: &[u8],
    depth: Depth,
    map: &mut Map<String, Value>,
) -> Result<(), Malformed> {
    let depth = depth.in_message()?;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        let Some(field) = ty.fields.iter().find(|field| field.number == number) else { continue };
        match (&field.ty, wire) {
            (Ty::Struct(id), Wire::Bytes(inner)) if field.inline() => {
                structure(schema().get(*id), inner, depth, map)?;
            }
            (Ty::List(of), wire) => {
                let list = map.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = list else { return Err(Malformed::Invalid(field.name)) };
                element(field, of, wire, depth, items)?;
            }
            (Ty::Map(of), Wire::Bytes(entry)) => {
                let (key, value) = map_entry(field, of, entry, depth)?;
                let inner = map.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(inner) = inner else { return Err(Malformed::Invalid(field.name)) };
                inner.insert(key, value);
            }
            (of, wire) => {
                map.insert(field.name.to_owned(), scalar(field, of, wire, depth)?);
            }
        }
    }
    Ok(())
}

/// Adds the elements of one occurrence of a repeated field: one, or many if they are packed.
fn element(
    field: &Field,
    of: &Ty,
    wire: Wire<'_>,
    depth: Depth,
    items: &mut Vec<Value>,
) -> Result<(), Malformed> {
    if let (Ty::Bool | Ty::Int32 | Ty::Int64, Wire::Bytes(packed)) = (of, wire) {
        let mut reader = Reader::new(packed);
        while let Some(number) = reader.packed()? {
            items.push(scalar(field, of, Wire::Varint(number), depth)?);
        }
        return Ok(());
    }
    items.push(scalar(field, of, wire, depth)?);
    Ok(())
}

fn map_entry(field: &Field, of: &Ty, entry: &[u8], depth: Depth) -> Result<(String, Value), Malformed> {
    let mut key = String::new();
    // An absent value is a message with nothing in it.
    let mut value = match of {
        Ty::Bool | Ty::Int32 | Ty::Int64 => Wire::Varint(0),
        _ => Wire::Bytes(&[]),
    };
    let mut reader = Reader::new(entry);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(field.name, bytes)?,
            (2, wire) => value = wire,
            _ => {}
        }
    }
    Ok((key, scalar(field, of, value, depth)?))
}

fn scalar(field: &Field, ty: &Ty, wire: Wire<'_>, depth: Depth) -> Result<Value, Malformed> {
    let name = field.name;
    match (ty, wire) {
        (Ty::Bool, Wire::Varint(n)) => Ok((n != 0).into()),
        // Negative numbers of 32 bits are carried in 64.
        (Ty::Int32, Wire::Varint(n)) => Ok((n as i32).into()),
        (Ty::Int64, Wire::Varint(n)) => Ok((n as i64).into()),
        (Ty::Float64, Wire::Fixed64(bits)) => {
            Number::from_f64(f64::from_bits(bits)).map(Value::Number).ok_or(Malformed::Invalid(name))
        }
        (Ty::String(_), Wire::Bytes(bytes)) => Ok(text(name, bytes)?.into()),
        (Ty::Bytes, Wire::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
        (Ty::Quantity, Wire::Bytes(bytes)) => quantity(name, bytes),
        (Ty::IntOrString, Wire::Bytes(bytes)) => int_or_string(name, bytes),
        (Ty::Time, Wire::Bytes(bytes)) => time(name, bytes, 0),
        (Ty::MicroTime, Wire::Bytes(bytes)) => time(name, bytes, 6),
        (Ty::Raw, Wire::Bytes(bytes)) => raw(name, bytes, depth),
        (Ty::SchemaOr(id, simpler), Wire::Bytes(bytes)) => schema_or(field, *id, *simpler, bytes, depth),
        (Ty::FieldsV1, Wire::Bytes(bytes)) => match payload(bytes)? {
            [] => Ok(Value::Null),
            json => serde_json::from_slice(json).map_err(|_| Malformed::Invalid(name)),
        },
        (Ty::Values, Wire::Bytes(bytes)) => {
            let mut items = Vec::new();
            let mut reader = Reader::new(bytes);
            while let Some((number, wire)) = reader.next()? {
                if let (1, Wire::Bytes(item)) = (number, wire) {
                    items.push(text(name, item)?.into());
                }
            }
            Ok(Value::Array(items))
        }
        (Ty::Struct(id), Wire::Bytes(bytes)) => {
            let mut map = Map::new();
            structure(schema().get(*id), bytes, depth, &mut map)?;
            Ok(Value::Object(map))
        }
        _ => Err(Malformed::WireType(name)),
    }
}

/// A message with a field for a schema and one for what may stand in its place.
fn schema_or(
    field: &Field,
    id: TypeId,
    simpler: Simpler,
    bytes: &[u8],
    depth: Depth,
) -> Result<Value, Malformed> {
    let (mut whole, mut allows, mut items) = (None, false, Vec::new());
    let of_schema = Ty::Struct(id);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (simpler, number) {
            (Simpler::Bool, 1) => allows = matches!(wire, Wire::Varint(n) if n != 0),
            (Simpler::Bool, 2) | (_, 1) => whole = Some(scalar(field, &of_schema, wire, depth)?),
            (Simpler::Schemas, 2) => items.push(scalar(field, &of_schema, wire, depth)?),
            (Simpler::Strings, 2) => items.push(scalar(field, &Ty::String(None), wire, depth)?),
            _ => {}
        }
    }
    Ok(match whole {
        _ if !items.is_empty() => Value::Array(items),
        Some(whole) => whole,
        None if simpler == Simpler::Bool => allows.into(),
        None => Value::Null,
    })
}

/// Field 1 of a message that wraps bytes.
fn payload(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut found = &[][..];
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        if let (1, Wire::Bytes(inner)) = (number, wire) {
            found = inner;
        }
    }
    Ok(found)
}

fn quantity(name: &'static str, bytes: &[u8]) -> Result<Value, Malformed> {
    let text = text(name, payload(bytes)?)?;
    if text.is_empty() {
        return Ok("0".into());
    }
    Ok(Quantity::parse(&text).ok_or(Malformed::Invalid(name))?.canonical().into())
}

fn int_or_string(name: &'static str, bytes: &[u8]) -> Result<Value, Malformed> {
    let (mut is_string, mut number, mut string) = (false, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((field, wire)) = reader.next()? {
        match (field, wire) {
            (1, Wire::Varint(n)) => is_string = n == 1,
            (2, Wire::Varint(n)) => number = n as i32,
            (3, Wire::Bytes(bytes)) => string = text(name, bytes)?,
            _ => {}
        }
    }
    Ok(if is_string { string.into() } else { number.into() })
}

/// A moment as seconds and nanoseconds; the empty message is no moment.
fn time(name: &'static str, bytes: &[u8], digits: u8) -> Result<Value, Malformed> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((field, wire)) = reader.next()? {
        match (field, wire) {
            (1, Wire::Varint(n)) => seconds = n as i64,
            (2, Wire::Varint(n)) => nanos = n as i32,
            _ => {}
        }
    }
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|_| Malformed::Invalid(name))?;
    Ok(format_time(time, digits).into())
}

fn raw(name: &'static str, bytes: &[u8], depth: Depth) -> Result<Value, Malformed> {
    match payload(bytes)? {
        [] => Ok(Value::Null),
        nested if nested.starts_with(MAGIC) => envelope(nested, depth.in_envelope()?),
        json => serde_json::from_slice(json).map_err(|_| Malformed::Invalid(name)),
    }
}
