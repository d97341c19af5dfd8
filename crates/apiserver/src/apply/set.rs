//! Sets of fields, as `managedFields` has them (FieldsV1).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::shape::Shape;

/// Field sets nest as deep as objects do; what a client sends deeper than this is cut off.
const MAX_DEPTH: usize = 128;

/// A set of paths. Names of steps are as FieldsV1 writes them: `f:spec`, `k:{"name":"web"}`, `v:"x"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    steps: BTreeMap<String, Step>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Step {
    /// The path up to here is in the set.
    member: bool,
    below: Set,
}

impl Set {
    pub fn is_empty(&self) -> bool {
        self.steps.values().all(|step| !step.member && step.below.is_empty())
    }

    pub fn insert(&mut self, path: &[String]) {
        if let Some((first, rest)) = path.split_first() {
            let step = self.steps.entry(first.clone()).or_default();
            if rest.is_empty() {
                step.member = true;
            } else {
                step.below.insert(rest);
            }
        }
    }

    /// Drops a step and all below it.
    pub fn forget(&mut self, step: &str) {
        self.steps.remove(step);
    }

    /// Whether the path of this one step is in the set.
    pub fn has(&self, step: &str) -> bool {
        self.steps.get(step).is_some_and(|step| step.member)
    }

    /// What lies below a step.
    pub fn below(&self, step: &str) -> Option<&Set> {
        self.steps.get(step).map(|step| &step.below).filter(|below| !below.is_empty())
    }

    pub fn union(&self, other: &Set) -> Set {
        let mut union = self.clone();
        for (name, theirs) in &other.steps {
            let ours = union.steps.entry(name.clone()).or_default();
            ours.member |= theirs.member;
            ours.below = ours.below.union(&theirs.below);
        }
        union
    }

    pub fn intersection(&self, other: &Set) -> Set {
        let steps = self.steps.iter().filter_map(|(name, ours)| {
            let theirs = other.steps.get(name)?;
            let both =
                Step { member: ours.member && theirs.member, below: ours.below.intersection(&theirs.below) };
            both.occupied().then(|| (name.clone(), both))
        });
        Set { steps: steps.collect() }
    }

    pub fn difference(&self, other: &Set) -> Set {
        let steps = self.steps.iter().filter_map(|(name, ours)| {
            let rest = match other.steps.get(name) {
                None => ours.clone(),
                Some(theirs) => Step {
                    member: ours.member && !theirs.member,
                    below: ours.below.difference(&theirs.below),
                },
            };
            rest.occupied().then(|| (name.clone(), rest))
        });
        Set { steps: steps.collect() }
    }

    /// With every declared field that is only implied by what lies below it: owning `spec.replicas` means
    /// owning `spec`, but owning an entry of a map does not mean owning the map's other entries.
    pub fn with_named_fields(&self, shape: Shape) -> Set {
        let steps = self.steps.iter().map(|(name, step)| {
            let field = name.strip_prefix("f:");
            let inner = match field {
                Some(field) => shape.member(field),
                None => shape.item(),
            };
            let implied = !step.below.is_empty() && field.is_some_and(|field| shape.declares(field));
            (
                name.clone(),
                Step { member: step.member || implied, below: step.below.with_named_fields(inner) },
            )
        });
        Set { steps: steps.collect() }
    }

    /// Every path in the set as messages write it: `.spec.ports[port=80,protocol="TCP"].nodePort`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_paths("", &mut found);
        found
    }

    fn collect_paths(&self, prefix: &str, found: &mut Vec<String>) {
        let members = self.steps.iter().filter(|(_, step)| step.member);
        found.extend(members.map(|(name, _)| format!("{prefix}{}", display(name))));
        for (name, step) in &self.steps {
            step.below.collect_paths(&format!("{prefix}{}", display(name)), found);
        }
    }

    /// FieldsV1.
    pub fn encode(&self) -> Value {
        let mut map = Map::new();
        for (name, step) in self.steps.iter().filter(|(_, step)| step.occupied()) {
            let mut below = step.below.encode();
            if step.member
                && let Value::Object(below) = &mut below
                && !below.is_empty()
            {
                below.shift_insert(0, ".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(name.clone(), below);
        }
        Value::Object(map)
    }

    /// Reads FieldsV1; what is malformed is left out.
    pub fn decode(fields: &Value) -> Set {
        Self::decode_below(fields, 0)
    }

    fn decode_below(fields: &Value, depth: usize) -> Set {
        let mut set = Set::default();
        let Value::Object(map) = fields else { return set };
        for (name, inner) in map.iter().filter(|_| depth < MAX_DEPTH) {
            let Some(name) = canonical(name) else { continue };
            let below = Self::decode_below(inner, depth + 1);
            let member = inner.get(".").is_some() || below.is_empty();
            set.steps.insert(name, Step { member, below });
        }
        set
    }
}

impl Step {
    fn occupied(&self) -> bool {
        self.member || !self.below.is_empty()
    }
}

/// The paths that a value has: its leaves, the items of its lists, and what is empty.
pub(super) fn of_value(shape: Shape, value: &Value) -> Set {
    let mut set = Set::default();
    match value {
        Value::Object(map) if shape.has_members(value) => {
            for (name, value) in map {
                let inner = shape.member(name);
                let below = of_value(inner, value);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                let entry = shape.is_entry(name);
                let leaf = !inner.has_members(value) && !listlike(inner, value);
                set.steps.insert(format!("f:{name}"), Step { member: leaf || empty || entry, below });
            }
        }
        Value::Array(items) if shape.has_items(value) => {
            for item in items {
                if let Ok(name) = shape.item_name(item) {
                    set.steps.insert(name, Step { member: true, below: of_value(shape.item(), item) });
                }
            }
        }
        _ => {}
    }
    set.steps.retain(|_, step| step.occupied());
    set
}

/// A list that is merged item by item; null is an empty one.
fn listlike(shape: Shape, value: &Value) -> bool {
    shape.has_items(value)
}

/// The name of a step in the one form that is compared; `None` if it is no step.
fn canonical(name: &str) -> Option<String> {
    let (tag, rest) = name.split_once(':')?;
    match tag {
        "f" => Some(name.to_owned()),
        "v" => Some(format!("v:{}", serde_json::from_str::<Value>(rest).ok()?)),
        "i" => Some(format!("i:{}", rest.parse::<i64>().ok()?)),
        "k" => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(rest).ok()?;
            Some(format!("k:{}", Value::Object(keys.into_iter().collect())))
        }
        _ => None,
    }
}

/// One step as messages write it.
pub(super) fn display(name: &str) -> String {
    let (tag, rest) = name.split_once(':').unwrap_or(("f", name));
    match tag {
        "f" => format!(".{rest}"),
        "v" => format!("[={rest}]"),
        "i" => format!("[{rest}]"),
        _ => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
    }
}
