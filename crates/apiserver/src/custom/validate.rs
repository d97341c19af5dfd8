//! Holds an object against its schema, in the words of Kubernetes.

use serde_json::Value;

use super::formats;
use super::structural::{Limits, List, Structural};
use crate::kinds::field::{Errors, Path};

/// Everything but rules. `path` is where `value` is, e.g. nothing for an object and `status` for a status.
pub fn check(schema: &Structural, value: &Value, path: &Path, errors: &mut Errors) {
    check_value(schema, value, path, errors);
    check_lists(schema, value, path, errors);
}

fn check_value(schema: &Structural, value: &Value, path: &Path, errors: &mut Errors) {
    check_type(schema, value, path, errors);
    if value.is_null() {
        return check_enum(&schema.limits, value, path, errors);
    }
    check_alternatives(&schema.limits, value, path, errors);
    match value {
        Value::String(text) => check_text(schema, text, path, errors),
        Value::Number(_) => check_number(&schema.limits, value, path, errors),
        Value::Array(items) => check_items(schema, items, path, errors),
        _ => {}
    }
    check_enum(&schema.limits, value, path, errors);
    if let Value::Object(_) = value {
        check_members(schema, value, path, errors);
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_type(schema: &Structural, value: &Value, path: &Path, errors: &mut Errors) {
    let wanted = if schema.int_or_string { "integer,string" } else { schema.ty.as_str() };
    let found = type_of(value);
    let fits = match (wanted, found) {
        ("", _) => true,
        (_, "null") => schema.nullable,
        ("number", "integer") => true,
        ("integer" | "integer,string", "number") => {
            value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        (wanted, found) => wanted.split(',').any(|wanted| wanted == found),
    };
    if !fits {
        let why = format!("{path} in body must be of type {wanted}: {found:?}");
        errors.type_invalid(path, found, &why);
    }
}

fn check_enum(limits: &Limits, value: &Value, path: &Path, errors: &mut Errors) {
    if limits.one_of_values.is_empty() || limits.one_of_values.contains(value) {
        return;
    }
    let words: Vec<String> = limits.one_of_values.iter().map(super::path::text_of).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    errors.not_supported(path, value.clone(), &words);
}

fn check_alternatives(limits: &Limits, value: &Value, path: &Path, errors: &mut Errors) {
    let failures = |schema: &Structural| {
        let mut found = Errors::default();
        check_value(schema, value, path, &mut found);
        found
    };
    // A failed combination is told without a place, as Kubernetes does.
    let nowhere = Path::new("<nil>");
    let shown = format!("{:?}", path.to_string());
    if !limits.any_of.is_empty() && !limits.any_of.iter().any(|schema| failures(schema).is_empty()) {
        errors.invalid(&nowhere, "", &format!("{shown} must validate at least one schema (anyOf)"));
        if let Some(schema) = limits.any_of.first() {
            errors.extend(failures(schema));
        }
    }
    if !limits.one_of.is_empty() {
        let fitting = limits.one_of.iter().filter(|schema| failures(schema).is_empty()).count();
        let why = match fitting {
            1 => None,
            0 => Some("Found none valid".to_owned()),
            many => Some(format!("Found {many} valid alternatives")),
        };
        if let Some(why) = why {
            let text = format!("{shown} must validate one and only one schema (oneOf). {why}");
            errors.invalid(&nowhere, "", &text);
            if let Some(schema) = limits.one_of.first().filter(|_| fitting == 0) {
                errors.extend(failures(schema));
            }
        }
    }
    let failed: Vec<Errors> = limits.all_of.iter().map(failures).filter(|found| !found.is_empty()).collect();
    if !failed.is_empty() {
        let none = if failed.len() == limits.all_of.len() { ". None validated" } else { "" };
        failed.into_iter().for_each(|found| errors.extend(found));
        errors.invalid(&nowhere, "", &format!("{shown} must validate all the schemas (allOf){none}"));
    }
    if limits.not.as_ref().is_some_and(|not| failures(not).is_empty()) {
        errors.invalid(&nowhere, "", &format!("{shown} must not validate the schema (not)"));
    }
}

fn check_text(schema: &Structural, text: &str, path: &Path, errors: &mut Errors) {
    let limits = &schema.limits;
    let length = text.chars().count() as u64;
    if let Some(max) = limits.max_length.filter(|max| length > *max) {
        errors.too_long(path, usize::try_from(max).unwrap_or(usize::MAX));
    }
    if let Some(min) = limits.min_length.filter(|min| length < *min) {
        errors.invalid(path, text, &format!("{path} in body should be at least {min} chars long"));
    }
    if let Some(pattern) = &limits.pattern
        && pattern.compiled.as_ref().is_some_and(|regex| !regex.is_match(text))
    {
        errors.invalid(path, text, &format!("{path} in body should match '{}'", pattern.source));
    }
    if !formats::fits(&limits.format, text) {
        let why = format!("{path} in body must be of type {}: {text:?}", limits.format);
        errors.type_invalid(path, text, &why);
    }
}

fn check_number(limits: &Limits, value: &Value, path: &Path, errors: &mut Errors) {
    let Some(number) = value.as_f64() else { return };
    if let Some(factor) = limits.multiple_of
        && (number / factor).fract().abs() > 1e-9
    {
        errors.invalid(path, value.clone(), &format!("{path} in body should be a multiple of {factor}"));
    }
    if let Some(max) = limits.maximum
        && (number > max || (limits.exclusive_maximum && number >= max))
    {
        let or_equal = if limits.exclusive_maximum { "" } else { " or equal to" };
        errors.invalid(path, value.clone(), &format!("{path} in body should be less than{or_equal} {max}"));
    }
    if let Some(min) = limits.minimum
        && (number < min || (limits.exclusive_minimum && number <= min))
    {
        let or_equal = if limits.exclusive_minimum { "" } else { " or equal to" };
        errors.invalid(
            path,
            value.clone(),
            &format!("{path} in body should be greater than{or_equal} {min}"),
        );
    }
}

fn check_items(schema: &Structural, items: &[Value], path: &Path, errors: &mut Errors) {
    let limits = &schema.limits;
    if let Some(of) = &schema.items {
        for (at, item) in items.iter().enumerate() {
            check_value(of, item, &path.index(at), errors);
        }
    }
    let count = items.len() as u64;
    if let Some(min) = limits.min_items.filter(|min| count < *min) {
        errors.invalid(path, count, &format!("{path} in body should have at least {min} items"));
    }
    if let Some(max) = limits.max_items.filter(|max| count > *max) {
        errors.too_many(path, items.len(), usize::try_from(max).unwrap_or(usize::MAX));
    }
    if limits.unique_items && (1..items.len()).any(|at| items[..at].contains(&items[at])) {
        errors.invalid(path, "", &format!("{path} in body shouldn't contain duplicates"));
    }
}

fn check_members(schema: &Structural, value: &Value, path: &Path, errors: &mut Errors) {
    let limits = &schema.limits;
    let Some(map) = value.as_object() else { return };
    let count = map.len() as u64;
    if let Some(min) = limits.min_properties.filter(|min| count < *min) {
        errors.invalid(path, count, &format!("{path} in body should have at least {min} properties"));
    }
    if let Some(max) = limits.max_properties.filter(|max| count > *max) {
        errors.too_many(path, map.len(), usize::try_from(max).unwrap_or(usize::MAX));
    }
    for name in limits.required.iter().filter(|name| !map.contains_key(*name)) {
        errors.required(&path.child(name), "");
    }
    for (name, value) in map {
        if let Some(known) = schema.member(name) {
            check_value(known, value, &path.child(name), errors);
        }
    }
}

/// That sets and maps in list form have each item once.
fn check_lists(schema: &Structural, value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if let Some(known) = schema.member(name) {
                    check_lists(known, value, &path.child(name), errors);
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let twice = |key: &dyn Fn(&Value) -> Value| {
                    let own = key(item);
                    items[..at].iter().filter(|other| key(other) == own).count() == 1
                };
                match &schema.list {
                    List::Atomic => {}
                    List::Set if twice(&Value::clone) => errors.duplicate(&path.index(at), item.clone()),
                    List::Map(keys) if twice(&|item| key_of(schema, keys, item)) => {
                        errors.duplicate(&path.index(at), key_of(schema, keys, item));
                    }
                    _ => {}
                }
                if let Some(of) = &schema.items {
                    check_lists(of, item, &path.index(at), errors);
                }
            }
        }
        _ => {}
    }
}

/// The members that tell an item apart, with their defaults.
fn key_of(schema: &Structural, keys: &[String], item: &Value) -> Value {
    let default = |key: &str| schema.items.as_ref()?.properties.get(key)?.default.clone();
    let entries = keys.iter().filter_map(|key| {
        let value = item.get(key).filter(|value| !value.is_null()).cloned().or_else(|| default(key))?;
        Some((key.clone(), value))
    });
    Value::Object(entries.collect())
}
