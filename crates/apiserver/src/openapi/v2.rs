//! OpenAPI v2 (Swagger 2.0): one document of all that is served, made out of what v3 says whenever somebody asks.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use super::{models::Models, paths};
use crate::custom::Served;

/// The document is large and seldom wanted: one at a time is made, and none is kept.
static MAKING: Mutex<()> = Mutex::new(());

/// Waits until nobody else makes one.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The document, packed.
///
/// # Errors
/// When it cannot be encoded.
pub fn document(served: &Served) -> io::Result<Bytes> {
    let _alone = alone();
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    let mut models = Models::new();
    let info = json!({"title": "Kubernetes", "version": "v1.36.3"});
    write!(out, "{{\"swagger\":\"2.0\",\"info\":{info},\"paths\":")?;
    let mut listed = Listed::new(&mut out);
    for (group, version) in served.group_versions() {
        for (path, mut item) in paths::of(served, group, version, &mut models) {
            path_item(&mut item);
            listed.add(&path, &item)?;
        }
    }
    listed.end()?;
    write!(out, ",\"definitions\":")?;
    let mut listed = Listed::new(&mut out);
    for (name, mut model) in models.finish() {
        schema(&mut model);
        listed.add(&name, &model)?;
    }
    listed.end()?;
    let bearer = json!({"BearerToken": {"description": "Bearer Token authentication", "type": "apiKey",
        "name": "authorization", "in": "header"}});
    write!(out, ",\"securityDefinitions\":{bearer},\"security\":[{{\"BearerToken\":[]}}]}}")?;
    Ok(out.finish()?.into())
}

/// A JSON object that is written member by member.
struct Listed<'a, W: Write> {
    out: &'a mut W,
    before: char,
}

impl<'a, W: Write> Listed<'a, W> {
    fn new(out: &'a mut W) -> Self {
        Self { out, before: '{' }
    }

    fn add(&mut self, name: &str, value: &Value) -> io::Result<()> {
        write!(self.out, "{}{}:", self.before, Value::from(name))?;
        self.before = ',';
        Ok(serde_json::to_writer(&mut *self.out, value)?)
    }

    fn end(self) -> io::Result<()> {
        write!(self.out, "{}", if self.before == '{' { "{}" } else { "}" })
    }
}

/// What can be done at a path, in the words of v2.
fn path_item(item: &mut Value) {
    for (name, part) in item.as_object_mut().into_iter().flatten() {
        match name.as_str() {
            "parameters" => parameters(part),
            _ => operation(part),
        }
    }
}

fn operation(operation: &mut Value) {
    let Some(fields) = operation.as_object_mut() else { return };
    let mut all = fields.shift_remove("parameters").unwrap_or_else(|| json!([]));
    parameters(&mut all);
    let mut consumes = json!(["*/*"]);
    if let Some(Value::Object(mut content)) = fields.get_mut("requestBody").map(|body| body["content"].take())
    {
        consumes = content.keys().cloned().collect();
        let body = content.values_mut().next().map(|media| media["schema"].take());
        if let (Some(mut body), Value::Array(all)) = (body, &mut all) {
            schema(&mut body);
            let needed = !matches!(
                fields.get("x-kubernetes-action").and_then(Value::as_str),
                Some("delete" | "deletecollection")
            );
            let mut body = json!({"name": "body", "in": "body", "schema": body});
            if needed {
                body["required"] = true.into();
            }
            all.insert(0, body);
        }
    }
    fields.shift_remove("requestBody");
    for response in
        fields.get_mut("responses").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
    {
        let content = response.as_object_mut().and_then(|response| response.shift_remove("content"));
        if let Some(mut answer) =
            content.and_then(|content| content.get("application/json")?.get("schema").cloned())
        {
            schema(&mut answer);
            response["schema"] = answer;
        }
    }
    fields["responses"]["401"] = json!({"description": "Unauthorized"});
    fields.insert("parameters".to_owned(), all);
    fields.insert("consumes".to_owned(), consumes);
    fields.insert("produces".to_owned(), json!(["application/json", "application/yaml"]));
    fields.insert("schemes".to_owned(), json!(["https"]));
}

/// A parameter's type stands beside its name.
fn parameters(all: &mut Value) {
    for parameter in all.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(Value::Object(schema)) = parameter.shift_remove("schema") {
            parameter.extend(schema);
        }
    }
}

/// Keywords that v2 does not have.
const UNKNOWN: [&str; 6] = ["default", "oneOf", "anyOf", "not", "nullable", "allOf"];

/// A schema in the words of v2.
pub(super) fn schema(model: &mut Value) {
    let Some(fields) = model.as_object_mut() else { return };
    let truth = |fields: &Map<String, Value>, name: &str| fields.get(name) == Some(&Value::Bool(true));
    // Old clients take what may be null, or has fields that nobody knows, for a mistake.
    if truth(fields, "nullable") || truth(fields, "x-kubernetes-preserve-unknown-fields") {
        for name in ["type", "items", "properties", "additionalProperties", "required"] {
            fields.shift_remove(name);
        }
    }
    if truth(fields, "x-kubernetes-int-or-string") {
        fields.shift_remove("type");
    } else if fields.contains_key("oneOf") && !fields.contains_key("type") {
        // A quantity, or a number with a name.
        fields.insert("type".to_owned(), "string".into());
    }
    if let Some(Value::Array(parts)) = fields.get("allOf")
        && let Some(reference) = parts.first().and_then(|part| part.get("$ref")).cloned()
    {
        fields.insert("$ref".to_owned(), reference);
    }
    for name in UNKNOWN {
        fields.shift_remove(name);
    }
    if let Some(Value::String(reference)) = fields.get_mut("$ref") {
        *reference = reference.replacen("#/components/schemas/", "#/definitions/", 1);
    }
    for name in ["items", "additionalProperties"] {
        fields.get_mut(name).into_iter().for_each(schema);
    }
    fields
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(Map::values_mut)
        .for_each(schema);
}
