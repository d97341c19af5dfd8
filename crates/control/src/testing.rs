//! Helpers of tests: objects from YAML, states from objects, decisions in words.

use std::time::Duration;

use daymark_model::ObjectName;
use jiff::Timestamp;
use serde_json::Value;

use crate::action::{Action, Decision};
use crate::config::ControllersConfig;
use crate::object::{Kind, Object};
use crate::state::State;
use crate::view::View;

/// The fixed "now" of tests.
pub const NOW: &str = "2026-01-01T00:10:00Z";

/// An object from YAML that states its kind.
pub fn object(yaml: &str) -> Object {
    let mut value: Value = serde_yaml::from_str(yaml).expect("YAML");
    let name = value["kind"].as_str().expect("a kind");
    let kind = Kind::named(name).unwrap_or_else(|| panic!("kind {name}"));
    let meta = &mut value["metadata"];
    let name = meta["name"].as_str().unwrap_or_default().to_owned();
    for (field, default) in [("uid", format!("{name}-uid")), ("resourceVersion", "1".to_owned())] {
        if meta[field].is_null() {
            meta[field] = Value::String(default);
        }
    }
    kind.parse(&value.to_string()).expect("an object of its kind")
}

/// A state that knows the objects of a stream of YAML documents.
pub fn state(yaml: &str) -> State {
    let mut state = State::default();
    for document in yaml.split("\n---").filter(|d| !d.trim().is_empty()) {
        state.upsert(object(document), Duration::ZERO);
    }
    state
}

/// What a controller decides about `key` (`namespace/name`) at [`NOW`], `at` seconds after the start.
pub fn decide_at(
    state: &State,
    controller: fn(&View<'_>, &ObjectName) -> Decision,
    key: &str,
    at: u64,
    config: &ControllersConfig,
) -> Decision {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    let now: Timestamp = NOW.parse().expect("a time");
    let view = View { state, config, now, at: Duration::from_secs(at) };
    controller(&view, &ObjectName::new(namespace, name))
}

/// As [`decide_at`] at the start with the default settings.
pub fn decide(state: &State, controller: fn(&View<'_>, &ObjectName) -> Decision, key: &str) -> Decision {
    decide_at(state, controller, key, 0, &ControllersConfig::default())
}

/// Actions in words, a line each.
pub fn words(decision: &Decision) -> Vec<String> {
    decision.actions.iter().map(word).collect()
}

fn word(action: &Action) -> String {
    match action {
        Action::Create { kind, body, .. } => {
            let meta = &body["metadata"];
            let name = meta["name"].as_str().or(meta["generateName"].as_str()).unwrap_or_default();
            format!("create {} {name}", kind.name())
        }
        Action::Update { kind, key, subresource, patch } => {
            let mut patch = patch.clone();
            if let Some(meta) = patch["metadata"].as_object_mut() {
                meta.remove("resourceVersion");
                if meta.is_empty() {
                    patch.as_object_mut().expect("an object").remove("metadata");
                }
            }
            let slash = if subresource.is_empty() { "" } else { "/" };
            format!("update {}{slash}{subresource} {} {patch}", kind.name(), key.name)
        }
        Action::Delete { kind, key, grace, .. } => match grace {
            Some(grace) => format!("delete {} {} grace {grace}", kind.name(), key.name),
            None => format!("delete {} {}", kind.name(), key.name),
        },
        Action::Bind { pod, node, .. } => format!("bind {} to {node}", pod.name),
        Action::Event(note) => format!("event {} {}", note.reason, note.message),
        Action::EmptyNamespace { name } => format!("empty namespace {name}"),
    }
}
