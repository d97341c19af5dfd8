//! `metadata.managedFields`: which manager owns which fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::compare::Comparison;
use super::set::Set;

/// The oldest updaters beyond this many are folded into one.
const MAX_UPDATERS: usize = 10;
const FOLDED: &str = "ancient-changes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// What tells entries apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub operation: Operation,
    pub manager: String,
    /// Of an updater; an applier is the same whatever version it applies.
    pub api_version: String,
    pub subresource: String,
}

impl Identity {
    pub fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let api_version = if operation == Operation::Update { api_version } else { "" };
        Self {
            operation,
            manager: manager.to_owned(),
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    api_version: String,
    time: Option<String>,
    fields: Set,
}

/// All entries of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers {
    entries: BTreeMap<Identity, Entry>,
}

/// What is never owned: the identity of the object and what the server writes itself.
pub(super) fn untracked_fields() -> Set {
    let metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut set = Set::default();
    for name in ["apiVersion", "kind", "metadata"] {
        set.insert(&[format!("f:{name}")]);
    }
    for name in metadata {
        set.insert(&["f:metadata".to_owned(), format!("f:{name}")]);
    }
    set
}

impl Managers {
    /// Reads the list; entries that are malformed are left out.
    pub fn decode(list: Option<&Value>) -> Self {
        let mut managers = Self::default();
        for entry in list.and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => continue,
            };
            let identity = Identity::new(text("manager"), operation, text("apiVersion"), text("subresource"));
            let fields = entry.get("fieldsV1").map(Set::decode).unwrap_or_default();
            let time = Some(text("time").to_owned()).filter(|time| !time.is_empty());
            let entry = Entry { api_version: text("apiVersion").to_owned(), time, fields };
            managers.entries.insert(identity, entry);
        }
        managers
    }

    /// The list, appliers first, then by time and name.
    pub fn encode(&self) -> Vec<Value> {
        let mut entries: Vec<(&Identity, &Entry)> = self.entries.iter().collect();
        entries.sort_by_key(|(id, entry)| {
            (id.operation, &entry.time, &id.manager, &entry.api_version, &id.subresource)
        });
        entries.into_iter().map(|(identity, entry)| encode_entry(identity, entry)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn set(&self, identity: &Identity) -> Option<&Set> {
        self.entries.get(identity).map(|entry| &entry.fields)
    }

    /// Gives a manager exactly these fields; its time stays unless one is given.
    pub fn put(&mut self, identity: Identity, api_version: &str, fields: Set, time: Option<&str>) {
        let known = self.entries.get(&identity).and_then(|entry| entry.time.clone());
        let time = time.map(str::to_owned).or(known);
        self.entries.insert(identity, Entry { api_version: api_version.to_owned(), time, fields });
    }

    pub fn touch(&mut self, identity: &Identity, now: &str) {
        if let Some(entry) = self.entries.get_mut(identity) {
            entry.time = Some(now.to_owned());
        }
    }

    /// What all managers own together.
    pub fn everything(&self) -> Set {
        self.entries.values().fold(Set::default(), |all, entry| all.union(&entry.fields))
    }

    /// The fields of others that the changes touch.
    pub fn contested(&self, own: &Identity, changes: &Comparison) -> Vec<(Identity, Set)> {
        let touched = changes.modified.union(&changes.added);
        let others = self.entries.iter().filter(|(identity, _)| *identity != own);
        let contested =
            others.map(|(identity, entry)| (identity.clone(), entry.fields.intersection(&touched)));
        contested.filter(|(_, fields)| !fields.is_empty()).collect()
    }

    /// Takes what changed from everyone but `own`, and forgets who is left with nothing.
    pub fn yield_to(&mut self, own: &Identity, changes: &Comparison) {
        let taken = changes.modified.union(&changes.added).union(&changes.removed);
        for (identity, entry) in &mut self.entries {
            if identity != own {
                entry.fields = entry.fields.difference(&taken);
            }
        }
        self.entries.retain(|_, entry| !entry.fields.is_empty());
    }

    /// Takes from a manager what nobody owns, and the fields that its requests cannot write.
    pub fn strip(&mut self, own: &Identity, reset: &[&str]) {
        if let Some(entry) = self.entries.get_mut(own) {
            entry.fields = entry.fields.difference(&untracked_fields());
            reset.iter().for_each(|field| entry.fields.forget(&format!("f:{field}")));
        }
        self.entries.retain(|_, entry| !entry.fields.is_empty());
    }

    /// Writes an update down: what changed is the updater's, beside what was already its own.
    pub fn record(
        &mut self,
        own: Identity,
        api_version: &str,
        changes: &Comparison,
        reset: &[&str],
        now: &str,
    ) {
        let previous = self.set(&own).cloned().unwrap_or_default();
        self.yield_to(&own, changes);
        let mut taken = changes.modified.union(&changes.added).difference(&untracked_fields());
        reset.iter().for_each(|field| taken.forget(&format!("f:{field}")));
        let kept = previous.difference(&changes.removed);
        let time = (!taken.is_empty()).then_some(now);
        self.put(own.clone(), api_version, kept.union(&taken), time);
        self.strip(&own, reset);
    }

    /// Folds the oldest updaters into one, when there are too many.
    pub fn cap(&mut self) {
        let mut updaters: Vec<Identity> =
            self.entries.keys().filter(|id| id.operation == Operation::Update).cloned().collect();
        if updaters.len() <= MAX_UPDATERS {
            return;
        }
        updaters.sort_by_key(|id| (self.entries.get(id).and_then(|entry| entry.time.clone()), id.clone()));
        for identity in &updaters[..=updaters.len() - MAX_UPDATERS] {
            let Some(entry) = self.entries.remove(identity) else { continue };
            let folded = Identity::new(FOLDED, Operation::Update, &entry.api_version, "");
            let known = self.set(&folded).cloned().unwrap_or_default();
            let (version, time) = (entry.api_version, entry.time);
            self.put(folded, &version, known.union(&entry.fields), time.as_deref());
        }
    }
}

fn encode_entry(identity: &Identity, entry: &Entry) -> Value {
    let mut map = Map::new();
    map.insert("manager".to_owned(), identity.manager.as_str().into());
    map.insert("operation".to_owned(), identity.operation.name().into());
    map.insert("apiVersion".to_owned(), entry.api_version.as_str().into());
    if let Some(time) = &entry.time {
        map.insert("time".to_owned(), time.as_str().into());
    }
    map.insert("fieldsType".to_owned(), "FieldsV1".into());
    map.insert("fieldsV1".to_owned(), entry.fields.encode());
    if !identity.subresource.is_empty() {
        map.insert("subresource".to_owned(), json!(identity.subresource));
    }
    Value::Object(map)
}
