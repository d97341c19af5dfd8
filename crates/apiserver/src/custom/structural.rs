//! Structural schemas (KEP-1111): the `openAPIV3Schema` of a version, read once.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::rules::Rule;

/// How deep a schema may nest; deeper parts are not looked at, and a definition with such a schema is refused.
pub const MAX_DEPTH: usize = 100;

/// One node: its shape, and what its values must satisfy.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`; empty if any.
    pub ty: String,
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    pub properties: BTreeMap<String, Structural>,
    pub additional: Option<Additional>,
    pub items: Option<Box<Structural>>,
    pub default: Option<Value>,
    pub list: List,
    /// `x-kubernetes-map-type: atomic`
    pub atomic: bool,
    pub limits: Limits,
    pub rules: Vec<Rule>,
}

/// What members are that no property names.
#[derive(Clone, Debug)]
pub enum Additional {
    Any,
    Of(Box<Structural>),
}

/// `x-kubernetes-list-type`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum List {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// The validations of a value.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub format: String,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub max_length: Option<u64>,
    pub min_length: Option<u64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<u64>,
    pub min_items: Option<u64>,
    pub unique_items: bool,
    pub multiple_of: Option<f64>,
    pub one_of_values: Vec<Value>,
    pub max_properties: Option<u64>,
    pub min_properties: Option<u64>,
    pub required: Vec<String>,
    pub all_of: Vec<Structural>,
    pub any_of: Vec<Structural>,
    pub one_of: Vec<Structural>,
    pub not: Option<Box<Structural>>,
}

/// A regular expression with its source.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub source: String,
    /// `None` if it cannot be compiled here; then nothing is checked.
    pub compiled: Option<Regex>,
}

impl Structural {
    /// Reads a schema. What is malformed reads as absent; definitions are checked before.
    pub fn parse(schema: &Value) -> Self {
        parse(schema, 0)
    }

    /// The schema of a member; `None` if there is none that is known.
    pub fn member(&self, name: &str) -> Option<&Structural> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Of(schema)) => Some(schema),
            _ => None,
        })
    }

    /// Calls `visit` for this schema and everything in it, with its path.
    pub fn walk(&self, path: &str, visit: &mut impl FnMut(&str, &Structural)) {
        visit(path, self);
        for (name, schema) in &self.properties {
            schema.walk(&format!("{path}.properties[{name}]"), visit);
        }
        if let Some(Additional::Of(schema)) = &self.additional {
            schema.walk(&format!("{path}.additionalProperties"), visit);
        }
        if let Some(items) = &self.items {
            items.walk(&format!("{path}.items"), visit);
        }
    }
}

fn parse(schema: &Value, depth: usize) -> Structural {
    let Some(map) = schema.as_object().filter(|_| depth < MAX_DEPTH) else { return Structural::default() };
    let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or_default();
    let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let child = |value: &Value| parse(value, depth + 1);
    let properties = map.get("properties").and_then(Value::as_object);
    Structural {
        ty: text("type"),
        nullable: flag("nullable"),
        preserve: flag("x-kubernetes-preserve-unknown-fields"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        embedded: flag("x-kubernetes-embedded-resource"),
        properties: properties.into_iter().flatten().map(|(name, of)| (name.clone(), child(of))).collect(),
        additional: match map.get("additionalProperties") {
            Some(Value::Bool(true)) => Some(Additional::Any),
            Some(of @ Value::Object(_)) => Some(Additional::Of(Box::new(child(of)))),
            _ => None,
        },
        items: map.get("items").filter(|items| items.is_object()).map(|items| Box::new(child(items))),
        default: map.get("default").filter(|default| !default.is_null()).cloned(),
        list: match text("x-kubernetes-list-type").as_str() {
            "set" => List::Set,
            "map" => List::Map(texts(map, "x-kubernetes-list-map-keys")),
            _ => List::Atomic,
        },
        atomic: text("x-kubernetes-map-type") == "atomic",
        limits: limits(map, depth),
        rules: list(map, "x-kubernetes-validations").iter().map(Rule::parse).collect(),
    }
}

fn limits(map: &Map<String, Value>, depth: usize) -> Limits {
    let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or_default();
    let number = |key: &str| map.get(key).and_then(Value::as_f64);
    let count = |key: &str| map.get(key).and_then(Value::as_u64);
    let all = |key: &str| list(map, key).iter().map(|of| parse(of, depth + 1)).collect();
    let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default();
    Limits {
        format: text("format").to_owned(),
        maximum: number("maximum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        minimum: number("minimum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        max_length: count("maxLength"),
        min_length: count("minLength"),
        pattern: Some(text("pattern"))
            .filter(|source| !source.is_empty())
            .map(|source| Pattern { source: source.to_owned(), compiled: Regex::new(source).ok() }),
        max_items: count("maxItems"),
        min_items: count("minItems"),
        unique_items: flag("uniqueItems"),
        multiple_of: number("multipleOf"),
        one_of_values: list(map, "enum").to_vec(),
        max_properties: count("maxProperties"),
        min_properties: count("minProperties"),
        required: texts(map, "required"),
        all_of: all("allOf"),
        any_of: all("anyOf"),
        one_of: all("oneOf"),
        not: map.get("not").filter(|not| not.is_object()).map(|not| Box::new(parse(not, depth + 1))),
    }
}

fn list<'a>(map: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    map.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn texts(map: &Map<String, Value>, key: &str) -> Vec<String> {
    list(map, key).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
