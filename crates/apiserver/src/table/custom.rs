//! Tables of custom resources: the columns that their definitions name.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Include, age, included};
use crate::custom::path::text_of;
use crate::custom::{Column, Custom};
use crate::kinds::value::text;

/// What Kubernetes says of the column `Age` that definitions without columns get.
pub const CREATION_TIMESTAMP: &str = "CreationTimestamp is a timestamp representing the server time when this object \
was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set \
this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. \
More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

pub fn render(custom: &Custom, items: &[&Value], meta: Value, include: Include, now: Timestamp) -> Value {
    let name = json!({
        "name": "Name", "type": "string", "format": "name", "priority": 0,
        "description": "Name must be unique within a namespace.",
    });
    let mut definitions = vec![name];
    definitions.extend(custom.columns.iter().map(|column| column.definition.clone()));
    let row = |item: &&Value| {
        let mut cells = vec![text(item, "metadata.name").into()];
        cells.extend(custom.columns.iter().map(|column| cell(column, item, now)));
        json!({"cells": cells, "object": included(item, include)})
    };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
        "columnDefinitions": definitions, "rows": items.iter().map(row).collect::<Vec<_>>(),
    })
}

fn cell(column: &Column, item: &Value, now: Timestamp) -> Value {
    let found = column.path.find(item);
    let Some(first) = found.first().filter(|value| !value.is_null()) else { return Value::Null };
    match column.of.as_str() {
        "string" => text_of(first).into(),
        "integer" => first.as_i64().or_else(|| first.as_f64().map(|f| f as i64)).into(),
        "number" => first.as_f64().into(),
        "boolean" => first.as_bool().into(),
        "date" => match first.as_str() {
            Some(time) if time.parse::<Timestamp>().is_ok() => age::since(first, now).into(),
            Some(_) => "<invalid>".into(),
            None => Value::Null,
        },
        _ => Value::Null,
    }
}
