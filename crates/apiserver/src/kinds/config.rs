//! ConfigMaps and Secrets: defaults and checks.

use serde_json::Value;

use super::{
    common,
    field::{Errors, Path},
    format,
    value::{at, fill, members, object, text, truth},
};

/// 1 MiB.
const MAX_BYTES: usize = 1024 * 1024;

/// `stringData` is a way to write `data`; it is never stored.
pub fn default_secret(obj: &mut Value) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    fill(obj, "type", "Opaque");
    let plain: Vec<(String, String)> = members(obj, "stringData")
        .filter_map(|(key, value)| Some((key.clone(), STANDARD.encode(value.as_str()?))))
        .collect();
    super::value::drop_key(obj, "stringData");
    if !plain.is_empty()
        && let Some(data) = object(obj, "data")
    {
        for (key, value) in plain {
            data[key] = Value::from(value);
        }
    }
}

/// The size that base64 text decodes to.
fn decoded_len(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take(2).filter(|b| *b == b'=').count().min(text.len() / 4 * 3)
}

fn check_keys(obj: &Value, field: &str, errors: &mut Errors) {
    for (key, _) in members(obj, field) {
        errors.invalid_each(&Path::new(field).key(key), key, &format::config_key(key));
    }
}

fn check_frozen(old: Option<&Value>, obj: &Value, fields: &[&str], errors: &mut Errors) {
    let Some(old) = old.filter(|old| truth(old, "immutable")) else { return };
    let why = "field is immutable when `immutable` is set";
    if !truth(obj, "immutable") {
        errors.forbidden(&Path::new("immutable"), why);
    }
    for field in fields {
        let (a, b) = (at(old, field), at(obj, field));
        if a != b && !(super::value::is_empty(a) && super::value::is_empty(b)) {
            errors.forbidden(&Path::new(field), why);
        }
    }
}

pub fn check_config_map(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    check_frozen(old, obj, &["data", "binaryData"], errors);
    let mut size = 0;
    check_keys(obj, "data", errors);
    for (key, value) in members(obj, "data") {
        if obj["binaryData"].get(key).is_some() {
            let path = Path::new("data").key(key);
            errors.invalid(&path, key.as_str(), "duplicate of key present in binaryData");
        }
        size += value.as_str().unwrap_or_default().len();
    }
    check_keys(obj, "binaryData", errors);
    size +=
        members(obj, "binaryData").map(|(_, v)| decoded_len(v.as_str().unwrap_or_default())).sum::<usize>();
    if size > MAX_BYTES {
        errors.too_long(&Path::new(""), MAX_BYTES);
    }
}

/// The keys that each type of Secret must have.
const REQUIRED_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

pub fn check_secret(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let kind = text(obj, "type");
    if let Some(old) = old {
        common::check_immutable(at(old, "type"), at(obj, "type"), &Path::new("type"), errors);
    }
    check_frozen(old, obj, &["data"], errors);
    let data = Path::new("data");
    check_keys(obj, "data", errors);
    let size: usize = members(obj, "data").map(|(_, v)| decoded_len(v.as_str().unwrap_or_default())).sum();
    if size > MAX_BYTES {
        errors.too_long(&data, MAX_BYTES);
    }
    let has = |key: &str| obj["data"].get(key).is_some();
    for (_, keys) in REQUIRED_KEYS.iter().filter(|(t, _)| *t == kind) {
        for key in keys.iter().filter(|key| !has(key)) {
            errors.required(&data.key(key), "");
        }
    }
    match kind {
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.required(&data.key("username"), "");
            errors.required(&data.key("password"), "");
        }
        "kubernetes.io/service-account-token" => {
            let annotation = "kubernetes.io/service-account.name";
            let account = obj["metadata"]["annotations"][annotation].as_str().unwrap_or_default();
            if account.is_empty() {
                errors.required(&Path::new("metadata.annotations").key(annotation), "");
            }
        }
        _ => {}
    }
}
