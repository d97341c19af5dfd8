//! Field paths and the collector of field errors, worded as `k8s.io/apimachinery` words them.

use std::fmt;

use serde_json::Value;

use crate::error::Cause;

/// Where in an object a mistake is, e.g. `spec.ports[0].nodePort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    pub fn new(root: &str) -> Self {
        Self(root.to_owned())
    }

    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The mistakes found so far, in the order found.
#[derive(Debug, Default)]
pub struct Errors(Vec<Cause>);

impl Errors {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether any is about a value's shape rather than its meaning.
    pub fn are_about_shape(&self) -> bool {
        const SHAPE: [&str; 5] = [
            "FieldValueNotSupported",
            "FieldValueRequired",
            "FieldValueTooLong",
            "FieldValueTooMany",
            "FieldValueTypeInvalid",
        ];
        self.0.iter().any(|cause| SHAPE.contains(&cause.reason))
    }

    pub fn into_causes(self) -> Vec<Cause> {
        self.0
    }

    fn add(&mut self, reason: &'static str, path: &Path, message: String) {
        let cause = Cause { reason, message, field: path.to_string() };
        if !self.0.contains(&cause) {
            self.0.push(cause);
        }
    }

    pub fn required(&mut self, path: &Path, detail: &str) {
        self.add("FieldValueRequired", path, with_detail("Required value".to_owned(), detail));
    }

    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: &str) {
        let shown = format!("Invalid value: {}", shown(&value.into()));
        self.add("FieldValueInvalid", path, with_detail(shown, detail));
    }

    /// A value of a wrong type.
    pub fn type_invalid(&mut self, path: &Path, value: impl Into<Value>, detail: &str) {
        let shown = format!("Invalid value: {}", shown(&value.into()));
        self.add("FieldValueTypeInvalid", path, with_detail(shown, detail));
    }

    /// As `invalid`, where the value is too large to be shown.
    pub fn invalid_bare(&mut self, path: &Path, detail: &str) {
        self.add("FieldValueInvalid", path, with_detail("Invalid value".to_owned(), detail));
    }

    pub fn extend(&mut self, more: Errors) {
        self.0.extend(more.0);
    }

    /// One `invalid` per detail; the shape in which the format checks of [`super::format`] answer.
    pub fn invalid_each(&mut self, path: &Path, value: &str, details: &[String]) {
        for detail in details {
            self.invalid(path, value, detail);
        }
    }

    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.add("FieldValueDuplicate", path, format!("Duplicate value: {}", shown(&value.into())));
    }

    pub fn not_found(&mut self, path: &Path, value: &str) {
        self.add("FieldValueNotFound", path, format!("Not found: {}", quoted(value)));
    }

    pub fn not_supported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|s| quoted(s)).collect();
        let text =
            format!("Unsupported value: {}: supported values: {}", shown(&value.into()), list.join(", "));
        self.add("FieldValueNotSupported", path, text);
    }

    pub fn forbidden(&mut self, path: &Path, detail: &str) {
        self.add("FieldValueForbidden", path, with_detail("Forbidden".to_owned(), detail));
    }

    /// `max` is in bytes.
    pub fn too_long(&mut self, path: &Path, max: usize) {
        self.add(
            "FieldValueTooLong",
            path,
            format!("Too long: may not be more than {max} {}", plural(max, "byte")),
        );
    }

    pub fn too_many(&mut self, path: &Path, actual: usize, max: usize) {
        let text = format!("Too many: {actual}: must have at most {max} {}", plural(max, "item"));
        self.add("FieldValueTooMany", path, text);
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

fn with_detail(mut text: String, detail: &str) -> String {
    if !detail.is_empty() {
        text.push_str(": ");
        text.push_str(detail);
    }
    text
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Values as JSON; maps of strings with sorted keys, as Go marshals maps.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(map) if map.values().all(Value::is_string) => {
            let mut sorted: Vec<_> = map.iter().collect();
            sorted.sort_by_key(|(key, _)| key.as_str());
            let fields: Vec<String> = sorted.iter().map(|(k, v)| format!("{}:{v}", quoted(k))).collect();
            format!("{{{}}}", fields.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wording_of_each_kind_of_error() {
        let path = Path::new("spec").child("ports").index(0).child("nodePort");
        let mut errors = Errors::default();
        errors.required(&path, "");
        errors.invalid(&path, 70000, "must be between 1 and 65535, inclusive");
        errors.invalid(&path, json!({"b": "2", "a": "1"}), "x");
        errors.duplicate(&path, "a\"b");
        errors.not_supported(&path, "X", &["A", "B"]);
        errors.forbidden(&path, "may not");
        errors.too_long(&path, 1);
        errors.too_many(&path, 3, 2);
        errors.not_found(&path, "vol");
        errors.not_found(&path, "vol");
        let messages: Vec<String> = errors.into_causes().into_iter().map(|c| c.message).collect();
        assert_eq!(
            messages,
            [
                "Required value",
                "Invalid value: 70000: must be between 1 and 65535, inclusive",
                r#"Invalid value: {"a":"1","b":"2"}: x"#,
                r#"Duplicate value: "a\"b""#,
                r#"Unsupported value: "X": supported values: "A", "B""#,
                "Forbidden: may not",
                "Too long: may not be more than 1 byte",
                "Too many: 3: must have at most 2 items",
                r#"Not found: "vol""#,
            ]
        );
        assert_eq!(path.key("k").to_string(), "spec.ports[0].nodePort[k]");
    }
}
