//! Fills in the defaults of a schema.

use serde_json::Value;

use super::structural::Structural;

/// Sets what is missing, or null where null is not allowed; nulls without a default go.
pub fn default(schema: &Structural, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, value| {
                let known = schema.properties.get(name);
                !(value.is_null() && known.is_some_and(|known| !known.nullable && known.default.is_none()))
            });
            for (name, known) in &schema.properties {
                let Some(default) = &known.default else { continue };
                let unset = map.get(name).is_none_or(|value| value.is_null() && !known.nullable);
                if unset {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some(known) = schema.member(name) {
                    one(known, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                items.iter_mut().for_each(|item| one(of, item));
            }
        }
        _ => {}
    }
}

fn one(schema: &Structural, value: &mut Value) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
    default(schema, value);
}
