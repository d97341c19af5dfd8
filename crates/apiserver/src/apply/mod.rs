//! Server-side apply (KEP-555): who owns which field, and merging by it.
//!
//! An apply is: merge the configuration into the object; take out what this manager applied before, no
//! longer does, and nobody else owns; compare before and after; refuse to change what others own, unless
//! forced; write down who owns what. Any other write only compares and writes down.

mod compare;
mod conflict;
mod managers;
mod merge;
mod remove;
mod set;
mod shape;
mod validate;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::custom::Custom;
use crate::error::ApiError;
use crate::schema::{Gvk, Resource, schema};
use compare::compare;
use managers::{Identity, Managers, Operation};
use set::Set;
use shape::Shape;

/// What apply must know of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Kind<'a> {
    gvk: Gvk<'a>,
    custom: Option<&'a Custom>,
    has_status: bool,
}

impl<'a> From<Gvk<'a>> for Kind<'a> {
    fn from(gvk: Gvk<'a>) -> Self {
        match schema().by_kind(gvk.group, gvk.version, gvk.kind) {
            Some(resource) => resource.into(),
            None => Self { gvk, custom: None, has_status: false },
        }
    }
}

impl<'a> From<&'a Resource> for Kind<'a> {
    fn from(resource: &'a Resource) -> Self {
        let has_status = resource.subresources.contains(&"status");
        Self { gvk: resource.gvk(), custom: resource.custom.as_deref(), has_status }
    }
}

/// Who owns what was there before anything was tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Merges `config` into `live` (nothing, on creation) on behalf of `manager`, and answers the new object
/// with its `managedFields`. `now` is an RFC 3339 time. Conflicts with other managers are a 409 with one
/// cause each, unless `force` takes their fields over. What `config` leaves out and only this manager
/// applied before, is removed.
pub fn apply<'a>(
    kind: impl Into<Kind<'a>>,
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    subresource: &str,
    now: &str,
) -> Result<Value, ApiError> {
    let kind = kind.into();
    let (gvk, root) = (kind.gvk, Shape::of_kind(kind));
    if config.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    validate::validate(root, gvk, config)?;
    let reset = reset_fields(kind, subresource);
    let mut config = config.clone();
    if let Value::Object(config) = &mut config {
        config.retain(|name, _| !reset.contains(&name.as_str()));
    }
    let api_version = gvk.api_version();
    let mut before = live.cloned().unwrap_or_else(|| blank(gvk));
    let mut managers = Managers::decode(take_managed_fields(&mut before).as_ref());
    if managers.is_empty() && live.is_some() {
        let untracked = compare(root, &schema().empty(gvk), &before);
        let mut owned = untracked.added.union(&untracked.modified);
        owned = owned.difference(&managers::untracked_fields());
        reset.iter().for_each(|field| owned.forget(&format!("f:{field}")));
        let first = Identity::new(BEFORE_FIRST_APPLY, Operation::Update, &api_version, "");
        managers.put(first, &api_version, owned, Some(now));
    }
    let own = Identity::new(manager, Operation::Apply, &api_version, subresource);
    let last = managers.set(&own).cloned();
    let merged = merge::merge(root, &before, &config);
    let applied = set::of_value(root, &config);
    managers.put(own.clone(), &api_version, applied, None);
    let after = match last {
        Some(last) if !last.is_empty() => prune(root, &merged, &managers, &last),
        _ => merged,
    };
    let changes = compare(root, &before, &after);
    let contested = managers.contested(&own, &changes);
    if !force && !contested.is_empty() {
        return Err(conflict::error(&contested));
    }
    managers.yield_to(&own, &changes);
    managers.strip(&own, reset);
    if after != before {
        managers.touch(&own, now);
    }
    let mut result = after;
    put_managed_fields(&mut result, managers.encode());
    drop_nulls(&mut result);
    Ok(result)
}

/// Writes `metadata.managedFields` of `new` for a write other than apply: what changed belongs to
/// `manager` now and to nobody else. A client may empty the list (`[]` or `[{}]`) to start over, or edit
/// it; a list that it leaves out stays as it was. An object that nobody tracks yet is tracked from its
/// creation or its first apply on.
pub fn track<'a>(
    kind: impl Into<Kind<'a>>,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    subresource: &str,
    now: &str,
) {
    let kind = kind.into();
    let (gvk, root) = (kind.gvk, Shape::of_kind(kind));
    let mut before = old.cloned().unwrap_or_else(|| blank(gvk));
    let recorded = take_managed_fields(&mut before);
    let given = take_managed_fields(new);
    let mut managers = if given.as_ref().is_some_and(is_reset) {
        Managers::default()
    } else {
        let given = Managers::decode(given.as_ref());
        // Subresources are not the place to edit who owns what.
        if given.is_empty() || !subresource.is_empty() { Managers::decode(recorded.as_ref()) } else { given }
    };
    let untracked = managers.is_empty() && old.is_some_and(|old| old.pointer("/metadata/uid").is_some());
    if !untracked {
        let api_version = gvk.api_version();
        let own = Identity::new(manager, Operation::Update, &api_version, subresource);
        let reset = reset_fields(kind, subresource);
        managers.record(own, &api_version, &compare(root, &before, new), reset, now);
        managers.cap();
    }
    put_managed_fields(new, managers.encode());
}

/// What a request to that subresource (or none) cannot write, and so cannot own.
fn reset_fields(kind: Kind<'_>, subresource: &str) -> &'static [&'static str] {
    match subresource {
        "" if kind.has_status => &["status"],
        "status" => &["spec"],
        _ => &[],
    }
}

/// Takes out of `merged` what `last` had, the managers no longer have, and nobody else has.
fn prune(root: Shape, merged: &Value, managers: &Managers, last: &Set) -> Value {
    let last = last.with_named_fields(root);
    let pruned = remove::remove(root, merged, &last).unwrap_or_default();
    let all = set::of_value(root, merged).with_named_fields(root);
    let kept = set::of_value(root, &pruned).with_named_fields(root);
    let owned = managers.everything().with_named_fields(root);
    let with_owned = remove::remove(root, merged, &all.difference(&kept.union(&owned))).unwrap_or_default();
    // What hung below something that was removed, but was never applied, comes back.
    let kept = set::of_value(root, &with_owned).with_named_fields(root);
    let gone = all.difference(&kept).intersection(&last);
    remove::remove(root, merged, &gone).unwrap_or_default()
}

/// An object of that kind with nothing in it.
fn blank(gvk: Gvk<'_>) -> Value {
    let mut map = Map::new();
    map.insert("kind".to_owned(), gvk.kind.into());
    map.insert("apiVersion".to_owned(), gvk.api_version().into());
    Value::Object(map)
}

fn take_managed_fields(obj: &mut Value) -> Option<Value> {
    obj.get_mut("metadata")?.as_object_mut()?.shift_remove("managedFields").filter(|fields| !fields.is_null())
}

fn put_managed_fields(obj: &mut Value, entries: Vec<Value>) {
    let Value::Object(map) = obj else { return };
    if entries.is_empty() {
        return;
    }
    let metadata = map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(metadata) = metadata {
        metadata.insert("managedFields".to_owned(), entries.into());
    }
}

/// An empty list, or a list of one empty entry.
fn is_reset(fields: &Value) -> bool {
    match fields.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([entry]) => entry.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Objects are stored without nulls; a configuration may have some.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    } else if let Value::Array(items) = value {
        items.iter_mut().for_each(drop_nulls);
    }
}
