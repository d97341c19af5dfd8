//! Takes out of an object what its schema does not know.

use serde_json::{Map, Value};

use super::structural::Structural;

const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Prunes a whole object and answers the paths of what went, sorted, each as `unknown field "spec.x"`.
pub fn prune(schema: &Structural, object: &mut Value) -> Vec<String> {
    let mut walk = Walk { path: String::new(), unknown: Vec::new() };
    if let Value::Object(map) = object {
        walk.object(schema, map, true, !schema.preserve);
    }
    walk.unknown.sort();
    walk.unknown.iter().map(|path| format!("unknown field {path:?}")).collect()
}

struct Walk {
    path: String,
    unknown: Vec<String>,
}

impl Walk {
    /// `strict` is off where unknown fields are preserved: then only known parts are looked into.
    fn object(&mut self, schema: &Structural, map: &mut Map<String, Value>, embedded: bool, strict: bool) {
        let len = self.path.len();
        let mut gone = Vec::new();
        for (name, value) in map.iter_mut() {
            if embedded && META.contains(&name.as_str()) {
                continue;
            }
            self.step(name);
            match (schema.member(name), &schema.additional) {
                (Some(known), _) => self.value(Some(known), value),
                (None, Some(_)) if strict => self.value(None, value),
                (None, Some(_)) => {}
                (None, None) if strict => {
                    self.unknown.push(self.path.clone());
                    gone.push(name.clone());
                }
                (None, None) => {}
            }
            self.path.truncate(len);
        }
        for name in gone {
            map.shift_remove(&name);
        }
    }

    fn value(&mut self, schema: Option<&Structural>, value: &mut Value) {
        let strict = schema.is_none_or(|schema| !schema.preserve);
        match (value, schema) {
            (Value::Object(map), Some(schema)) => self.object(schema, map, schema.embedded, strict),
            (Value::Object(map), None) => self.object(&Structural::default(), map, false, true),
            (Value::Array(items), _) => {
                let len = self.path.len();
                for (at, item) in items.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{at}]"));
                    match schema.and_then(|schema| schema.items.as_deref()) {
                        Some(of) => self.value(Some(of), item),
                        None if strict => self.value(None, item),
                        None => {}
                    }
                    self.path.truncate(len);
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, name: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
    }
}
