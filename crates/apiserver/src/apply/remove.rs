//! Takes a set of fields out of an object.

use serde_json::{Map, Value};

use super::set::Set;
use super::shape::Shape;

/// What is left of `value`; `None` if nothing is.
pub(super) fn remove(shape: Shape, value: &Value, gone: &Set) -> Option<Value> {
    match value {
        Value::Object(map) if shape.has_members(value) => {
            let mut left = Map::new();
            for (name, value) in map {
                let step = format!("f:{name}");
                if gone.has(&step) {
                    continue;
                }
                let kept = match gone.below(&step) {
                    Some(below) => remove(shape.member(name), value, below).unwrap_or_default(),
                    None => value.clone(),
                };
                left.insert(name.clone(), kept);
            }
            (!left.is_empty()).then_some(Value::Object(left))
        }
        Value::Array(items) if shape.has_items(value) => {
            let mut left = Vec::new();
            for item in items {
                let step = shape.item_name(item).unwrap_or_default();
                if gone.has(&step) {
                    continue;
                }
                left.push(match gone.below(&step) {
                    Some(below) => remove(shape.item(), item, below).unwrap_or_default(),
                    None => item.clone(),
                });
            }
            (!left.is_empty()).then_some(Value::Array(left))
        }
        Value::Object(_) | Value::Array(_) => None,
        scalar => Some(scalar.clone()),
    }
}
