//! Takes out of answers what differs between any two servers: ids, times, versions, allocations, generated names.

use regex::Regex;
use serde_json::{Map, Value};
use std::sync::LazyLock;

static UID: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap());
static TIME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)").unwrap());
static CLUSTER_IP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b10\.(96|50)\.\d+\.\d+\b").unwrap());
static NODE_PORT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b3[0-2]\d{3}\b").unwrap());
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(127\.0\.0\.1|192\.0\.2\.1):\d+").unwrap());
static HUMAN_TIME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000").unwrap());
static GENERATED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(gen|kube-api-access)-[a-z0-9]{5}\b").unwrap());
static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(resource version: |meta: |Resource Version: +|in record \(|ResourceVersion: |current: |resourceVersion: .?)\d+").unwrap()
});
static QUOTED_VERSION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(resourceVersion\\?"?: ?\\?")\d+"#).unwrap());
static AGE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(\d+[smhd])+$").unwrap());

/// A text without what differs anyway.
pub fn text(text: &str) -> String {
    let text = UID.replace_all(text, "UID");
    let text = TIME.replace_all(&text, "TIME");
    let text = HUMAN_TIME.replace_all(&text, "TIME");
    let text = CLUSTER_IP.replace_all(&text, "CLUSTERIP");
    // A server's own port may look like a node port.
    let text = ADDRESS.replace_all(&text, "ADDRESS");
    let text = NODE_PORT.replace_all(&text, "NODEPORT");
    let text = GENERATED.replace_all(&text, "${1}-NAME");
    let text = QUOTED_VERSION.replace_all(&text, "${1}VERSION");
    VERSION.replace_all(&text, "${1}VERSION").into_owned()
}

/// A body without what differs anyway.
pub fn value(value: &Value) -> Value {
    match value {
        Value::String(string) => text(string).into(),
        Value::Array(items) => items.iter().map(self::value).collect(),
        Value::Object(map) => object(map),
        other => other.clone(),
    }
}

fn object(map: &Map<String, Value>) -> Value {
    let mut out = Map::new();
    for (name, value) in map {
        let kept = match name.as_str() {
            "resourceVersion" | "continue" if value.is_string() => match value.as_str() {
                Some("") => continue,
                _ => "VERSION".into(),
            },
            "nodePort" | "healthCheckNodePort" if value.is_number() => "PORT".into(),
            "remainingItemCount" | "storageVersionHash" | "selfLink" => continue,
            "cells" => self::cells(value),
            "managedFields" => managers(value),
            "causes" => causes(value),
            _ if value.is_null() => continue,
            _ => self::value(value),
        };
        out.insert(name.clone(), kept);
    }
    Value::Object(out)
}

fn cells(value: &Value) -> Value {
    let cell = |cell: &Value| match cell.as_str() {
        Some(text) if AGE.is_match(text) => "AGE".into(),
        _ => self::value(cell),
    };
    value.as_array().into_iter().flatten().map(cell).collect()
}

/// Several mistakes are listed in no order.
fn causes(value: &Value) -> Value {
    let mut causes: Vec<Value> = value.as_array().into_iter().flatten().map(self::value).collect();
    causes.sort_by_key(Value::to_string);
    causes.into()
}

/// The order of entries follows times, which are not the same.
fn managers(value: &Value) -> Value {
    let mut entries: Vec<Value> = value.as_array().into_iter().flatten().map(self::value).collect();
    entries
        .sort_by_key(|entry| format!("{}{}{}", entry["manager"], entry["operation"], entry["subresource"]));
    entries.into()
}
