//! Schemas hold objects to themselves in Kubernetes' words.

use serde_json::{Value, json};

use super::structural::Structural;
use super::{default, prune, rules, validate};
use crate::kinds::field::{Errors, Path};

fn schema() -> Structural {
    Structural::parse(&json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object", "required": ["cron"],
                "x-kubernetes-validations": [
                    {"rule": "self.min <= self.max", "message": "min is above max"},
                    {"rule": "self.cron == oldSelf.cron", "messageExpression": "'cron was ' + oldSelf.cron"},
                ],
                "properties": {
                    "cron": {"type": "string", "minLength": 3, "pattern": "^[*0-9 ]+$"},
                    "min": {"type": "integer", "minimum": 0, "default": 1},
                    "max": {"type": "integer", "exclusiveMaximum": true, "maximum": 10, "default": 5},
                    "mode": {"type": "string", "enum": ["a", "b"]},
                    "port": {"x-kubernetes-int-or-string": true},
                    "when": {"type": "string", "format": "date-time"},
                    "raw": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "parts": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "properties": {
                            "name": {"type": "string"}, "size": {"type": "integer", "default": 7},
                        }},
                    },
                },
            },
        },
    }))
}

fn complaints(spec: Value) -> Vec<String> {
    let mut errors = Errors::default();
    validate::check(&schema(), &json!({"spec": spec}), &Path::new(""), &mut errors);
    errors.into_causes().into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn broken(spec: Value, old: Option<Value>) -> Vec<String> {
    let (new, old) = (json!({"spec": spec}), old.map(|spec| json!({"spec": spec})));
    let mut errors = Errors::default();
    rules::check(&schema(), &new, old.as_ref(), &Path::new(""), &mut errors);
    errors.into_causes().into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let mut object = json!({
        "apiVersion": "x/v1", "metadata": {"name": "a"}, "top": 1,
        "spec": {"cron": "1 2", "extra": {"a": 1}, "raw": {"any": {"thing": 1}}, "max": null,
                 "labels": {"k": "v"}, "parts": [{"name": "p", "other": 1}]},
    });
    assert_eq!(
        prune::prune(&schema(), &mut object),
        ["unknown field \"spec.extra\"", "unknown field \"spec.parts[0].other\"", "unknown field \"top\""]
    );
    default::default(&schema(), &mut object);
    assert_eq!(
        object["spec"],
        json!({"cron": "1 2", "raw": {"any": {"thing": 1}}, "max": 5, "labels": {"k": "v"},
               "parts": [{"name": "p", "size": 7}], "min": 1})
    );
}

#[test]
fn values_are_held_against_their_schema() {
    assert!(complaints(json!({"cron": "1 2", "port": "http", "set": ["a", "b"]})).is_empty());
    assert_eq!(complaints(json!({})), ["spec.cron: Required value"]);
    assert_eq!(
        complaints(json!({"cron": "xx", "min": "a", "max": 10, "mode": "c"})),
        [
            "spec.cron: Invalid value: \"xx\": spec.cron in body should be at least 3 chars long",
            "spec.cron: Invalid value: \"xx\": spec.cron in body should match '^[*0-9 ]+$'",
            "spec.min: Invalid value: \"string\": spec.min in body must be of type integer: \"string\"",
            "spec.max: Invalid value: 10: spec.max in body should be less than 10",
            "spec.mode: Unsupported value: \"c\": supported values: \"a\", \"b\"",
        ]
    );
    assert_eq!(
        complaints(json!({"cron": "1 2", "port": true, "when": "now", "labels": {"a": 1}})),
        [
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            "spec.when: Invalid value: \"now\": spec.when in body must be of type date-time: \"now\"",
            "spec.labels.a: Invalid value: \"integer\": spec.labels.a in body must be of type string: \"integer\"",
        ]
    );
    assert_eq!(
        complaints(json!({"cron": "1 2", "set": ["a", "a"], "parts": [{"name": "p"}, {"name": "p"}]})),
        ["spec.set[1]: Duplicate value: \"a\"", "spec.parts[1]: Duplicate value: {\"name\":\"p\"}"]
    );
}

#[test]
fn rules_are_enforced_and_those_of_changes_only_on_change() {
    let fine = json!({"cron": "1 2", "min": 1, "max": 2});
    assert!(broken(fine.clone(), None).is_empty());
    assert_eq!(
        broken(json!({"cron": "1 2", "min": 3, "max": 2}), None),
        ["spec: Invalid value: min is above max"]
    );
    let moved = json!({"cron": "3 4", "min": 1, "max": 2});
    assert_eq!(broken(moved, Some(fine)), ["spec: Invalid value: cron was 1 2"]);
}
