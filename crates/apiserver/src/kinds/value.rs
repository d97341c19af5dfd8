//! Reading and completing JSON objects by dotted paths; what is missing, null or of another type reads as
//! the zero value, as it does for Kubernetes' Go types.

use serde_json::{Map, Value};

/// The value at a dotted path; missing and null are `None`.
pub fn at<'a>(obj: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(obj, |v, key| v.get(key)).filter(|v| !v.is_null())
}

pub fn text<'a>(obj: &'a Value, path: &str) -> &'a str {
    at(obj, path).and_then(Value::as_str).unwrap_or_default()
}

pub fn int(obj: &Value, path: &str) -> i64 {
    at(obj, path).and_then(Value::as_i64).unwrap_or_default()
}

pub fn truth(obj: &Value, path: &str) -> bool {
    at(obj, path).and_then(Value::as_bool).unwrap_or_default()
}

pub fn list<'a>(obj: &'a Value, path: &str) -> &'a [Value] {
    at(obj, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub fn strings<'a>(obj: &'a Value, path: &str) -> Vec<&'a str> {
    list(obj, path).iter().map(|v| v.as_str().unwrap_or_default()).collect()
}

/// The members of a map; none if there is no map.
pub fn members<'a>(obj: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(obj, path).and_then(Value::as_object).into_iter().flatten()
}

/// Whether the path leads to something that Go would not call empty.
pub fn present(obj: &Value, path: &str) -> bool {
    at(obj, path).is_some()
}

/// Missing, null and values that Go's `omitempty` leaves out.
pub fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Bool(_) | Value::Number(_)) => false,
    }
}

/// Sets a member that is missing, null or the empty string.
pub fn fill(obj: &mut Value, key: &str, default: impl Into<Value>) {
    if let Some(map) = obj.as_object_mut() {
        let unset = match map.get(key) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            _ => false,
        };
        if unset {
            map.insert(key.to_owned(), default.into());
        }
    }
}

/// Sets a number that is missing, null or zero.
pub fn fill_number(obj: &mut Value, key: &str, default: i64) {
    if let Some(map) = obj.as_object_mut()
        && map.get(key).is_none_or(|v| v.is_null() || v.as_i64() == Some(0))
    {
        map.insert(key.to_owned(), default.into());
    }
}

/// Sets a member whatever it was before.
pub fn set(obj: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = obj.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

/// Removes a member.
pub fn drop_key(obj: &mut Value, key: &str) {
    if let Some(map) = obj.as_object_mut() {
        map.shift_remove(key);
    }
}

/// Makes a member what it is in `from`: equal, or missing.
pub fn copy_key(from: &Value, to: &mut Value, key: &str) {
    match from.get(key) {
        Some(value) => set(to, key, value.clone()),
        None => drop_key(to, key),
    }
}

/// The object at a key, made if it is missing or null.
pub fn object<'a>(obj: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let map = obj.as_object_mut()?;
    let entry = map.entry(key).or_insert(Value::Null);
    if entry.is_null() {
        *entry = Value::Object(Map::new());
    }
    entry.is_object().then_some(entry)
}

/// The value at a dotted path, if everything on the way exists.
pub fn at_mut<'a>(obj: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(obj, |v, key| v.get_mut(key)).filter(|v| !v.is_null())
}

/// The items of the list at a dotted path.
pub fn items_mut<'a>(obj: &'a mut Value, path: &str) -> impl Iterator<Item = &'a mut Value> {
    at_mut(obj, path).and_then(Value::as_array_mut).into_iter().flatten()
}
