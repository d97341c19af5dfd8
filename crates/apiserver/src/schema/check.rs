//! Holds an object against its type: wrong types are errors, unknown fields are pruned and told of.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::json::MAX_MESSAGES;
use super::quantity::Quantity;
use super::{Field, Gvk, Schema, Ty, Type};
use crate::error::ApiError;

struct Checker<'a> {
    schema: &'a Schema,
    /// With indices, as messages about unknown fields have it: `spec.ports[0]`.
    path: String,
    /// Without, as messages about types have it.
    fields: Vec<&'static str>,
    /// The innermost struct.
    within: &'static str,
    unknown: Vec<String>,
}

pub(super) fn check(
    schema: &Schema,
    ty: &Type,
    gvk: Gvk<'_>,
    obj: &mut Value,
) -> Result<Vec<String>, ApiError> {
    let mut checker =
        Checker { schema, path: String::new(), fields: Vec::new(), within: "", unknown: Vec::new() };
    run(&mut checker, ty, gvk, obj)?;
    Ok(checker.unknown)
}

/// As `check`, for the metadata alone.
pub(super) fn check_metadata(
    schema: &Schema,
    ty: &Type,
    gvk: Gvk<'_>,
    metadata: &mut Value,
) -> Result<Vec<String>, ApiError> {
    let (path, fields) = ("metadata".to_owned(), vec!["metadata"]);
    let mut checker = Checker { schema, path, fields, within: "", unknown: Vec::new() };
    run(&mut checker, ty, gvk, metadata)?;
    Ok(checker.unknown)
}

fn run(checker: &mut Checker<'_>, ty: &Type, gvk: Gvk<'_>, obj: &mut Value) -> Result<(), ApiError> {
    let checked = match obj {
        Value::Object(map) => checker.structure(ty, map),
        other => {
            Err(format!("json: cannot unmarshal {} into Go value of type {}", describe(other), ty.go_name()))
        }
    };
    checked.map_err(|why| {
        ApiError::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: {why}",
            gvk.kind, gvk.version, gvk.kind
        ))
    })
}

impl Checker<'_> {
    fn structure(&mut self, ty: &Type, map: &mut Map<String, Value>) -> Result<(), String> {
        let outer = std::mem::replace(&mut self.within, ty.short_name());
        let len = self.path.len();
        let mut gone = Vec::new();
        for (key, value) in map.iter_mut() {
            if len > 0 {
                self.path.push('.');
            }
            self.path.push_str(key);
            let keep = self.member(ty, key, value)?;
            self.path.truncate(len);
            if !keep {
                gone.push(key.clone());
            }
        }
        for key in &gone {
            map.shift_remove(key);
        }
        self.within = outer;
        Ok(())
    }

    /// Checks one field of a struct; false if it must go.
    fn member(&mut self, ty: &Type, key: &str, value: &mut Value) -> Result<bool, String> {
        let meta = ["apiVersion", "kind"].into_iter().find(|name| ty.is_kind && *name == key);
        if let Some(name) = meta {
            self.fields.push(name);
            self.value(&Ty::String(None), value)?;
            self.fields.pop();
            return Ok(!value.is_null());
        }
        let schema = self.schema;
        let Some(field): Option<&Field> = schema.field(ty, key) else {
            if self.unknown.len() < MAX_MESSAGES {
                self.unknown.push(format!("unknown field {:?}", self.path));
            }
            return Ok(false);
        };
        if value.is_null() {
            return Ok(false);
        }
        self.fields.push(field.name);
        self.value(&field.ty, value)?;
        self.fields.pop();
        Ok(true)
    }

    fn value(&mut self, ty: &Ty, value: &mut Value) -> Result<(), String> {
        if value.is_null() {
            *value = zero(ty);
        }
        match ty {
            Ty::String(_) => self.expect(ty, value, Value::is_string),
            Ty::Bool => self.expect(ty, value, Value::is_boolean),
            Ty::Float64 => self.expect(ty, value, Value::is_number),
            Ty::Int32 => self.integer(ty, value, i64::from(i32::MIN), i64::from(i32::MAX)),
            Ty::Int64 => self.integer(ty, value, i64::MIN, i64::MAX),
            Ty::Bytes => self.bytes(value),
            Ty::Quantity => quantity(value),
            Ty::IntOrString => int_or_string(value),
            Ty::Time => time(value, 0),
            Ty::MicroTime => time(value, 6),
            Ty::Raw | Ty::SchemaOr(..) | Ty::FieldsV1 => Ok(()),
            Ty::Values => self.list(ty, &Ty::String(None), value),
            Ty::List(of) => self.list(ty, of, value),
            Ty::Map(of) => self.map(ty, of, value),
            Ty::Struct(id) => {
                let schema = self.schema;
                match value {
                    Value::Object(map) => self.structure(schema.get(*id), map),
                    other => Err(self.mismatch(ty, &describe(other))),
                }
            }
        }
    }

    fn expect(&self, ty: &Ty, value: &Value, fits: fn(&Value) -> bool) -> Result<(), String> {
        if fits(value) { Ok(()) } else { Err(self.mismatch(ty, &describe(value))) }
    }

    fn integer(&self, ty: &Ty, value: &Value, min: i64, max: i64) -> Result<(), String> {
        match value.as_i64() {
            Some(number) if (min..=max).contains(&number) => Ok(()),
            _ if value.is_number() => Err(self.mismatch(ty, &format!("number {value}"))),
            _ => Err(self.mismatch(ty, &describe(value))),
        }
    }

    fn bytes(&self, value: &mut Value) -> Result<(), String> {
        let Value::String(text) = value else { return Err(self.mismatch(&Ty::Bytes, &describe(value))) };
        let compact: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        let bytes = STANDARD.decode(&compact).map_err(|e| match e {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
                format!("illegal base64 data at input byte {at}")
            }
            _ => format!("illegal base64 data at input byte {}", compact.len() / 4 * 4),
        })?;
        *text = STANDARD.encode(bytes);
        Ok(())
    }

    fn list(&mut self, ty: &Ty, of: &Ty, value: &mut Value) -> Result<(), String> {
        let Value::Array(items) = value else { return Err(self.mismatch(ty, &describe(value))) };
        let len = self.path.len();
        for (i, item) in items.iter_mut().enumerate() {
            self.path.push_str(&format!("[{i}]"));
            self.value(of, item)?;
            self.path.truncate(len);
        }
        Ok(())
    }

    fn map(&mut self, ty: &Ty, of: &Ty, value: &mut Value) -> Result<(), String> {
        let Value::Object(map) = value else { return Err(self.mismatch(ty, &describe(value))) };
        let len = self.path.len();
        for (key, item) in map.iter_mut() {
            self.path.push('.');
            self.path.push_str(key);
            self.value(of, item)?;
            self.path.truncate(len);
        }
        Ok(())
    }

    fn mismatch(&self, ty: &Ty, got: &str) -> String {
        let (within, path) = (self.within, self.fields.join("."));
        let ty = go_type(self.schema, ty);
        format!("json: cannot unmarshal {got} into Go struct field {within}.{path} of type {ty}")
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
    .to_owned()
}

fn go_type(schema: &Schema, ty: &Ty) -> String {
    match ty {
        Ty::String(name) => name.unwrap_or("string").to_owned(),
        Ty::Bool => "bool".to_owned(),
        Ty::Int32 => "int32".to_owned(),
        Ty::Int64 => "int64".to_owned(),
        Ty::Float64 => "float64".to_owned(),
        Ty::Bytes => "[]uint8".to_owned(),
        Ty::Quantity => "resource.Quantity".to_owned(),
        Ty::IntOrString => "intstr.IntOrString".to_owned(),
        Ty::Time => "v1.Time".to_owned(),
        Ty::MicroTime => "v1.MicroTime".to_owned(),
        Ty::Raw | Ty::SchemaOr(..) => "runtime.RawExtension".to_owned(),
        Ty::FieldsV1 => "v1.FieldsV1".to_owned(),
        Ty::Values => "v1.ExtraValue".to_owned(),
        Ty::Map(of) if **of == Ty::Quantity => "v1.ResourceList".to_owned(),
        Ty::List(of) => format!("[]{}", go_type(schema, of)),
        Ty::Map(of) => format!("map[string]{}", go_type(schema, of)),
        Ty::Struct(id) => schema.get(*id).go_name().to_owned(),
    }
}

/// What a null stands for within a list or a map.
pub(super) fn zero(ty: &Ty) -> Value {
    match ty {
        Ty::String(_) | Ty::Bytes => "".into(),
        Ty::Bool => false.into(),
        Ty::Int32 | Ty::Int64 | Ty::IntOrString => 0.into(),
        Ty::Float64 => 0.0.into(),
        Ty::Quantity => "0".into(),
        Ty::List(_) | Ty::Values => Value::Array(Vec::new()),
        Ty::Map(_) | Ty::Struct(_) | Ty::FieldsV1 => Value::Object(Map::new()),
        Ty::Time | Ty::MicroTime | Ty::Raw | Ty::SchemaOr(..) => Value::Null,
    }
}

fn quantity(value: &mut Value) -> Result<(), String> {
    let text = match &*value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let quantity = Quantity::parse(&text).ok_or(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    )?;
    *value = quantity.canonical().into();
    Ok(())
}

fn int_or_string(value: &Value) -> Result<(), String> {
    match value {
        Value::String(_) => Ok(()),
        Value::Number(n) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
        Value::Number(n) => Err(format!("json: cannot unmarshal number {n} into Go value of type int32")),
        other => Err(format!("json: cannot unmarshal {} into Go value of type int32", describe(other))),
    }
}

/// `digits` is the number of fractional digits of the canonical form.
fn time(value: &mut Value, digits: u8) -> Result<(), String> {
    let text = match &*value {
        Value::Null => return Ok(()),
        Value::String(text) => text,
        other => {
            return Err(format!("json: cannot unmarshal {} into Go value of type string", describe(other)));
        }
    };
    let parsed: jiff::Timestamp = text.parse().map_err(|_| {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as RFC 3339")
    })?;
    *value = format_time(parsed, digits).into();
    Ok(())
}

/// A time as Kubernetes writes it, in UTC.
pub(crate) fn format_time(time: jiff::Timestamp, digits: u8) -> String {
    if digits == 0 {
        time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
    }
}
