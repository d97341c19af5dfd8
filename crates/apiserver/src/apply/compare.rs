//! What changed between two states of an object, as sets of fields.

use serde_json::{Map, Value};

use super::set::Set;
use super::shape::Shape;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

pub(super) fn compare(root: Shape, before: &Value, after: &Value) -> Comparison {
    let mut walk = Walk { path: Vec::new(), found: Comparison::default() };
    walk.compare(root, Some(before), Some(after));
    walk.found
}

struct Walk {
    path: Vec<String>,
    found: Comparison,
}

impl Walk {
    fn compare(&mut self, shape: Shape, before: Option<&Value>, after: Option<&Value>) {
        let divided = |value: &Value| shape.has_members(value) || shape.has_items(value);
        let hollow = |value: Option<&Value>| value.is_none_or(is_hollow);
        let fits = |value: Option<&Value>| value.is_none_or(|value| divided(value) || value.is_null());
        let leaf = !fits(before) || !fits(after) || (hollow(before) && hollow(after));
        if leaf {
            match (before, after) {
                (Some(before), Some(after)) if before != after => self.found.modified.insert(&self.path),
                (Some(_), Some(_)) => {}
                _ => self.appear(before, after),
            }
            return;
        }
        if [before, after].into_iter().flatten().any(Value::is_array) {
            self.items(shape, before, after);
        } else {
            self.members(shape, before, after);
        }
        self.appear(before, after);
    }

    fn appear(&mut self, before: Option<&Value>, after: Option<&Value>) {
        match (before, after) {
            (None, Some(_)) => self.found.added.insert(&self.path),
            (Some(_), None) => self.found.removed.insert(&self.path),
            _ => {}
        }
    }

    fn members(&mut self, shape: Shape, before: Option<&Value>, after: Option<&Value>) {
        let empty = Map::new();
        let before = before.and_then(Value::as_object).unwrap_or(&empty);
        let after = after.and_then(Value::as_object).unwrap_or(&empty);
        for (name, value) in before {
            self.step(format!("f:{name}"), shape.member(name), Some(value), after.get(name));
        }
        for (name, value) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
            self.step(format!("f:{name}"), shape.member(name), None, Some(value));
        }
    }

    fn items(&mut self, shape: Shape, before: Option<&Value>, after: Option<&Value>) {
        let before = named_items(shape, before);
        let after = named_items(shape, after);
        for (name, value) in &before {
            let other = after.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
            self.step(name.clone(), shape.item(), Some(value), other);
        }
        for (name, value) in &after {
            if !before.iter().any(|(other, _)| other == name) {
                self.step(name.clone(), shape.item(), None, Some(value));
            }
        }
    }

    fn step(&mut self, name: String, shape: Shape, before: Option<&Value>, after: Option<&Value>) {
        self.path.push(name);
        self.compare(shape, before, after);
        self.path.pop();
    }
}

/// Null, or with nothing in it.
pub(super) fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A list's items by name; of several with one name the last counts.
fn named_items<'v>(shape: Shape, list: Option<&'v Value>) -> Vec<(String, &'v Value)> {
    let mut named: Vec<(String, &'v Value)> = Vec::new();
    for item in list.and_then(Value::as_array).into_iter().flatten() {
        let Ok(name) = shape.item_name(item) else { continue };
        match named.iter_mut().find(|(other, _)| *other == name) {
            Some(known) => known.1 = item,
            None => named.push((name, item)),
        }
    }
    named
}
