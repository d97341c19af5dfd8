//! CustomResourceDefinitions as objects: their defaults and what must hold for them.

use serde_json::{Value, json};

use super::formats;
use super::path::JsonPath;
use super::structural::{Additional, List, MAX_DEPTH, Structural};
use crate::kinds::field::{Errors, Path};
use crate::kinds::format;
use crate::kinds::value::{at, copy_key, fill, list, object, set, strings, text, truth};

const MAX_SELECTABLE: usize = 8;
const COLUMN_TYPES: [&str; 5] = ["integer", "number", "string", "boolean", "date"];
const COLUMN_FORMATS: [&str; 9] =
    ["int32", "int64", "float", "double", "byte", "date", "date-time", "password", "binary"];

pub fn default(obj: &mut Value) {
    let Some(spec) = object(obj, "spec") else { return };
    if let Some(names) = object(spec, "names") {
        let kind = text(names, "kind").to_owned();
        fill(names, "singular", kind.to_lowercase());
        if !kind.is_empty() {
            fill(names, "listKind", format!("{kind}List"));
        }
    }
    if at(spec, "conversion").is_none() {
        set(spec, "conversion", json!({"strategy": "None"}));
    }
    let stored: Vec<String> = storage_version(obj).into_iter().map(str::to_owned).collect();
    if list(obj, "status.storedVersions").is_empty()
        && let Some(status) = object(obj, "status")
    {
        set(status, "storedVersions", stored);
    }
}

/// The version that objects are stored in.
pub fn storage_version(obj: &Value) -> Option<&str> {
    let versions = list(obj, "spec.versions");
    versions.iter().find(|version| truth(version, "storage")).map(|version| text(version, "name"))
}

pub fn prepare_create(obj: &mut Value) {
    let stored: Vec<String> = storage_version(obj).into_iter().map(str::to_owned).collect();
    set(obj, "status", json!({"storedVersions": stored}));
}

/// A new storage version joins those that objects may be stored in.
pub fn prepare_update(old: &Value, new: &mut Value) {
    copy_key(old, new, "status");
    let Some(storage) = storage_version(new).map(str::to_owned) else { return };
    let mut stored: Vec<String> =
        strings(new, "status.storedVersions").into_iter().map(str::to_owned).collect();
    if !stored.contains(&storage)
        && let Some(status) = object(new, "status")
    {
        stored.push(storage);
        set(status, "storedVersions", stored);
    }
}

pub fn check(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let required = format!("{}.{}", text(obj, "spec.names.plural"), text(obj, "spec.group"));
    let name = text(obj, "metadata.name");
    if old.is_none() && !name.is_empty() && name != required {
        errors.invalid(
            &Path::new("metadata").child("name"),
            name,
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    let path = Path::new("spec");
    check_group(text(obj, "spec.group"), &path.child("group"), errors);
    crate::kinds::common::check_one_of(
        text(obj, "spec.scope"),
        &["Cluster", "Namespaced"],
        &path.child("scope"),
        errors,
    );
    if truth(obj, "spec.preserveUnknownFields") {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&path.child("preserveUnknownFields"), true, why);
    }
    check_versions(obj, &path.child("versions"), errors);
    check_names(&obj["spec"]["names"], &path.child("names"), errors);
    check_conversion(obj, &path.child("conversion"), errors);
    check_stored(obj, errors);
    if let Some(old) = old {
        check_kept(obj, old, &path, errors);
    }
}

fn check_group(group: &str, path: &Path, errors: &mut Errors) {
    if group.is_empty() {
        errors.required(path, "");
    } else if let Some(complaint) = format::dns1123_subdomain(group).first() {
        errors.invalid(path, group, complaint);
    } else if !group.contains('.') {
        errors.invalid(path, group, "should be a domain with at least one dot");
    }
}

/// What may not change once objects can exist.
fn check_kept(obj: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let established =
        super::names::condition(old, "Established").is_some_and(|c| text(c, "status") == "True");
    let mut kept = vec!["group", "names.plural"];
    if established {
        kept.extend(["scope", "names.kind"]);
    }
    for field in kept {
        let dotted = format!("spec.{field}");
        let path = field.split('.').fold(path.clone(), |path, name| path.child(name));
        crate::kinds::common::check_immutable(at(old, &dotted), at(obj, &dotted), &path, errors);
    }
}

fn check_names(names: &Value, path: &Path, errors: &mut Errors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(names, field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    for field in ["plural", "singular"] {
        let name = text(names, field);
        if !name.is_empty() {
            errors.invalid_each(&path.child(field), name, &format::dns1035_label(name));
        }
    }
    for field in ["kind", "listKind"] {
        let name = text(names, field);
        if !name.is_empty() {
            let complaints = format::dns1035_label(&name.to_lowercase());
            if let Some(complaint) = complaints.first() {
                let why = format!("may have mixed case, but should otherwise match: {complaint}");
                errors.invalid(&path.child(field), name, &why);
            }
        }
    }
    for (at, name) in strings(names, "shortNames").into_iter().enumerate() {
        errors.invalid_each(&path.child("shortNames").index(at), name, &format::dns1035_label(name));
    }
    for (at, name) in strings(names, "categories").into_iter().enumerate() {
        errors.invalid_each(&path.child("categories").index(at), name, &format::dns1035_label(name));
    }
    if !text(names, "kind").is_empty() && text(names, "kind") == text(names, "listKind") {
        let why = "kind and listKind may not be the same";
        errors.invalid(&path.child("listKind"), text(names, "listKind"), why);
    }
}

fn check_conversion(obj: &Value, path: &Path, errors: &mut Errors) {
    match text(obj, "spec.conversion.strategy") {
        "None" => {}
        "Webhook" => errors.invalid(
            &path.child("strategy"),
            "Webhook",
            "conversion webhooks are not supported by this server; use None and keep the versions' schemas alike",
        ),
        other => errors.not_supported(&path.child("strategy"), other, &["None", "Webhook"]),
    }
}

fn check_stored(obj: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("storedVersions");
    let stored = strings(obj, "status.storedVersions");
    let versions: Vec<&str> = list(obj, "spec.versions").iter().map(|v| text(v, "name")).collect();
    if stored.is_empty() {
        errors.invalid(&path, json!([]), "must have at least one stored version");
    }
    for (at, version) in stored.iter().enumerate().filter(|(_, version)| !versions.contains(version)) {
        let why = format!(
            "missing from spec.versions; {version} was previously a storage version, and must remain in \
             spec.versions until a storage migration ensures no data remains persisted in {version} and removes \
             {version} from status.storedVersions"
        );
        errors.invalid(&path.index(at), *version, &why);
    }
}

fn check_versions(obj: &Value, path: &Path, errors: &mut Errors) {
    let versions = list(obj, "spec.versions");
    let mut names: Vec<&str> = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        let path = path.index(at);
        let name = text(version, "name");
        if let Some(complaint) = format::dns1035_label(name).first() {
            errors.invalid(&path.child("name"), name, complaint);
        }
        // Kubernetes sees what all versions share as one, and names its old place.
        let shared = versions.iter().all(|other| other["schema"] == version["schema"]);
        let schema = if shared { Path::new("spec").child("validation") } else { path.child("schema") };
        check_version(version, &path, &schema.child("openAPIV3Schema"), errors);
        names.push(name);
    }
    let twice = (1..names.len()).any(|at| names[..at].contains(&names[at]));
    if twice {
        errors.invalid_bare(path, "must contain unique version names");
    }
    if versions.iter().filter(|version| truth(version, "storage")).count() != 1 {
        errors.invalid(path, json!(versions), "must have exactly one version marked as storage version");
    }
}

fn check_version(version: &Value, path: &Path, schema_path: &Path, errors: &mut Errors) {
    let Some(source) = at(version, "schema.openAPIV3Schema") else {
        return errors.required(&path.child("schema").child("openAPIV3Schema"), "");
    };
    if depth(source, 0) > MAX_DEPTH {
        errors.forbidden(schema_path, &format!("schemas may nest at most {MAX_DEPTH} levels"));
        return;
    }
    let schema = Structural::parse(source);
    check_root(&schema, schema_path, errors);
    schema.walk("", &mut |inner, node| {
        check_node(node, &Path::new(&format!("{schema_path}{inner}")), inner, errors);
    });
    for (at, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
        check_column(column, &path.child("additionalPrinterColumns").index(at), errors);
    }
    let selectable = list(version, "selectableFields");
    let fields = path.child("selectableFields");
    if selectable.len() > MAX_SELECTABLE {
        errors.too_many(&fields, selectable.len(), MAX_SELECTABLE);
    }
    for (at, field) in selectable.iter().enumerate() {
        let json_path = text(field, "jsonPath");
        let path = fields.index(at).child("jsonPath");
        if json_path.is_empty() {
            errors.required(&path, "");
        } else if JsonPath::parse(json_path).is_none_or(|path| path.members().is_none()) {
            errors.invalid(&path, json_path, "is an invalid path");
        }
    }
    for field in ["specReplicasPath", "statusReplicasPath"] {
        let Some(scale) = at(version, "subresources.scale") else { break };
        let path = path.child("subresources").child("scale").child(field);
        match text(scale, field) {
            "" => errors.required(&path, ""),
            wanted if JsonPath::parse(wanted).is_none_or(|path| path.members().is_none()) => {
                errors.invalid(
                    &path,
                    wanted,
                    "should be a json path without array notation under spec or status",
                );
            }
            _ => {}
        }
    }
}

fn check_root(schema: &Structural, path: &Path, errors: &mut Errors) {
    match schema.ty.as_str() {
        "object" => {}
        "" if schema.preserve => {}
        "" => errors.required(&path.child("type"), "must not be empty at the root"),
        other => errors.invalid(&path.child("type"), other, "must be object at the root"),
    }
    if schema.additional.is_some() {
        errors.forbidden(&path.child("additionalProperties"), "must not be used at the root");
    }
}

fn check_node(node: &Structural, path: &Path, inner: &str, errors: &mut Errors) {
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    if node.ty.is_empty() && !node.int_or_string && !node.preserve && !inner.is_empty() {
        let what = if inner.ends_with(".items") { "array items" } else { "object fields" };
        errors.required(&path.child("type"), &format!("must not be empty for specified {what}"));
    } else if !node.ty.is_empty() && !TYPES.contains(&node.ty.as_str()) {
        errors.not_supported(&path.child("type"), node.ty.as_str(), &TYPES);
    }
    if node.ty == "array" && node.items.is_none() {
        errors.required(&path.child("items"), "must be specified");
    }
    if node.embedded && node.ty != "object" {
        errors.required(&path.child("type"), "must be object if x-kubernetes-embedded-resource is true");
    }
    if node.embedded && !node.preserve && node.properties.is_empty() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), why);
    }
    if !node.properties.is_empty() && matches!(node.additional, Some(Additional::Any | Additional::Of(_))) {
        errors.forbidden(
            &path.child("additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        );
    }
    if let Some(pattern) = &node.limits.pattern
        && let Err(e) = regex::Regex::new(&pattern.source)
    {
        let why = format!("must be a valid regular expression, but isn't: {e}");
        errors.invalid(&path.child("pattern"), pattern.source.as_str(), &why);
    }
    check_map_keys(node, path, errors);
    if let Some(default) = &node.default {
        let mut pruned = default.clone();
        super::default::default(node, &mut pruned);
        super::validate::check(node, &pruned, &path.child("default"), errors);
    }
}

fn check_map_keys(node: &Structural, path: &Path, errors: &mut Errors) {
    let List::Map(keys) = &node.list else { return };
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.required(&path.child("x-kubernetes-list-map-keys"), why);
    }
    let Some(items) = &node.items else { return };
    for (at, key) in keys.iter().enumerate() {
        let Some(known) = items.properties.get(key) else {
            let why = "entries must all be names of item properties";
            errors.invalid(&path.child("x-kubernetes-list-map-keys").index(at), key.as_str(), why);
            continue;
        };
        if known.default.is_none() && !items.limits.required.contains(key) {
            let path = path.child("items").child("properties").key(key).child("default");
            errors.required(&path, "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property");
        }
    }
}

fn check_column(column: &Value, path: &Path, errors: &mut Errors) {
    if text(column, "name").is_empty() {
        errors.required(&path.child("name"), "");
    }
    match text(column, "type") {
        "" => errors.required(&path.child("type"), "must be one of integer,number,string,boolean,date"),
        of if !COLUMN_TYPES.contains(&of) => {
            errors.invalid(&path.child("type"), of, "must be one of boolean,date,integer,number,string");
        }
        _ => {}
    }
    let format = text(column, "format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let why = "must be one of binary,byte,date,date-time,double,float,int32,int64,password";
        errors.invalid(&path.child("format"), format, why);
    }
    let json_path = text(column, "jsonPath");
    if json_path.is_empty() {
        errors.required(&path.child("JSONPath"), "");
    } else if JsonPath::parse(json_path).is_none() {
        errors.invalid(&path.child("JSONPath"), json_path, "is an invalid path");
    }
}

fn depth(value: &Value, level: usize) -> usize {
    match value {
        _ if level > 2 * MAX_DEPTH => level,
        Value::Object(map) => map.values().map(|inner| depth(inner, level + 1)).max().unwrap_or(level),
        Value::Array(items) => items.iter().map(|inner| depth(inner, level + 1)).max().unwrap_or(level),
        _ => level,
    }
}

/// What its author should know though it is accepted.
pub fn warnings(obj: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for version in list(obj, "spec.versions") {
        let schema = Structural::parse(&version["schema"]["openAPIV3Schema"]);
        let name = text(version, "name");
        schema.walk("", &mut |path, node| {
            if !formats::is_known(&node.limits.format) {
                found.push(format!("unrecognized format {:?}", node.limits.format));
            }
            for rule in &node.rules {
                if let Some(why) = rule.problem() {
                    found.push(format!(
                        "spec.versions[{name}].schema{path}: the rule {:?} is not enforced: {why}",
                        rule.source
                    ));
                }
            }
        });
    }
    found
}
