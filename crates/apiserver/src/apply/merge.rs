//! Merges a configuration into an object: what the configuration says wins, what it doesn't say stays.

use serde_json::Value;

use super::compare::is_hollow;
use super::shape::Shape;

pub(super) fn merge(shape: Shape, live: &Value, config: &Value) -> Value {
    match (live, config) {
        _ if is_hollow(live) && is_hollow(config) => config.clone(),
        (Value::Object(old), Value::Object(new)) if shape.has_members(config) => {
            let mut merged = old.clone();
            for (name, value) in new {
                let value = match old.get(name) {
                    Some(old) => merge(shape.member(name), old, value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(old), Value::Array(new)) if shape.has_items(config) => {
            Value::Array(merge_items(shape, old, new))
        }
        // An explicit null does not delete what is merged part by part.
        (Value::Object(_), Value::Null) if shape.has_members(live) => live.clone(),
        (Value::Array(_), Value::Null) if shape.has_items(live) => live.clone(),
        _ => config.clone(),
    }
}

/// Merges lists: the configuration's items in its order, and those that only the object has as near as
/// possible to where they were.
fn merge_items(shape: Shape, live: &[Value], config: &[Value]) -> Vec<Value> {
    let name = |item: &Value| shape.item_name(item).unwrap_or_default();
    let ours: Vec<String> = config.iter().map(name).collect();
    let theirs: Vec<String> = live.iter().map(name).collect();
    let find = |name: &str| theirs.iter().position(|other| other == name).map(|at| &live[at]);
    let merged = |at: usize| match find(&ours[at]) {
        Some(old) => merge(shape.item(), old, &config[at]),
        None => config[at].clone(),
    };
    // The items that both have, in the configuration's order: the next one is waited for.
    let mut shared = ours.iter().filter(|name| theirs.contains(name)).peekable();
    let mut done: Vec<&String> = Vec::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut left, mut right) = (0, 0);
    while left < theirs.len() || right < ours.len() {
        if left < theirs.len() && right < ours.len() {
            let (old, new) = (&theirs[left], &ours[right]);
            if old == new {
                out.push(merged(right));
                done.push(new);
                (left, right) = (left + 1, right + 1);
                shared.next();
                continue;
            }
            if ours.contains(old) && shared.peek().is_some_and(|next| *next != old) {
                left += 1;
                continue;
            }
        }
        if left < theirs.len() {
            if !ours.contains(&theirs[left]) {
                out.push(live[left].clone());
                left += 1;
                continue;
            }
            if done.contains(&&theirs[left]) {
                left += 1;
            }
        }
        if right < ours.len() {
            out.push(merged(right));
            done.push(&ours[right]);
            if shared.peek() == Some(&&ours[right]) {
                shared.next();
            }
            right += 1;
        }
    }
    out
}
