//! Checks that many kinds share.

use serde_json::Value;

use super::{
    field::{Errors, Path},
    format,
};

/// 1–65535.
pub fn check_port_number(port: i64, path: &Path, errors: &mut Errors) {
    for complaint in format::port_number(port) {
        errors.invalid(path, port, &complaint);
    }
}

/// A port number or the name of a container's port; missing counts as number 0.
pub fn check_port_or_name(port: Option<&Value>, path: &Path, errors: &mut Errors) {
    match port {
        Some(Value::String(name)) => errors.invalid_each(path, name, &format::port_name(name)),
        other => check_port_number(other.and_then(Value::as_i64).unwrap_or_default(), path, errors),
    }
}

/// Required, and one of the listed words.
pub fn check_one_of(word: &str, allowed: &[&str], path: &Path, errors: &mut Errors) {
    if word.is_empty() {
        errors.required(path, "");
    } else if !allowed.contains(&word) {
        errors.not_supported(path, word, allowed);
    }
}

/// `must be greater than or equal to 0`
pub fn check_nonnegative(number: i64, path: &Path, errors: &mut Errors) {
    if number < 0 {
        errors.invalid(path, number, "must be greater than or equal to 0");
    }
}

/// `must be greater than 0`, as `k8s.io/apimachinery` words it for positive fields.
pub fn check_positive(number: i64, path: &Path, errors: &mut Errors) {
    if number <= 0 {
        errors.invalid(path, number, "must be greater than zero");
    }
}

/// `field is immutable`, unless equal; missing equals empty.
pub fn check_immutable(old: Option<&Value>, new: Option<&Value>, path: &Path, errors: &mut Errors) {
    let empty = |v: Option<&Value>| super::value::is_empty(v);
    if old != new && !(empty(old) && empty(new)) {
        errors.invalid(path, new.cloned().unwrap_or_default(), "field is immutable");
    }
}

/// A count, or a percentage such as `25%`.
pub fn check_count_or_percent(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(text) => errors.invalid_each(path, text, &format::percent(text)),
        other => check_nonnegative(other.as_i64().unwrap_or_default(), path, errors),
    }
}

/// The number in a count or a percentage; 0 for what is neither.
pub fn count_or_percent(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.strip_suffix('%').and_then(|n| n.parse().ok()).unwrap_or_default(),
        other => other.as_i64().unwrap_or_default(),
    }
}

/// Percentages end at 100.
pub fn check_at_most_all(value: &Value, path: &Path, errors: &mut Errors) {
    if value.is_string() && count_or_percent(value) > 100 {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}
