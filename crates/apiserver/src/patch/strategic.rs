//! Strategic merge: a patch is merged into an object by the patch strategies of the schema table.

use serde_json::{Map, Value};

use super::directives::{DELETE_FROM, ORDER, PATCH, clean, discard_nulls, go, retain_keys};
use super::order;
use crate::schema::{Schema, Ty, Type, schema};

type Object = Map<String, Value>;

/// Where in the schema the merge is.
#[derive(Clone, Copy)]
pub(super) enum Node<'a> {
    Struct(&'a Type),
    /// A map, or something that the schema doesn't know.
    Open,
}

/// How one field is patched.
pub(super) struct Field<'a> {
    pub node: Node<'a>,
    /// `merge`, `replace` or nothing.
    pub strategy: &'static str,
    pub merge_key: &'static str,
}

impl<'a> Node<'a> {
    pub(super) fn field(self, name: &str) -> Field<'a> {
        let schema: &'static Schema = schema();
        let found = match self {
            Node::Struct(ty) => schema.field(ty, name),
            Node::Open => None,
        };
        let Some(field) = found else { return Field { node: Node::Open, strategy: "", merge_key: "" } };
        let inner = match &field.ty {
            Ty::List(of) => of,
            ty => ty,
        };
        Field {
            node: if let Ty::Struct(id) = inner { Node::Struct(schema.get(*id)) } else { Node::Open },
            strategy: field.patch_strategy.split(',').find(|s| *s != "retainKeys").unwrap_or(""),
            merge_key: field.merge_key,
        }
    }
}

/// Merges `patch` into `original`; the error is a message about a malformed patch.
pub(super) fn merge_map(mut original: Object, mut patch: Object, node: Node<'_>) -> Result<Object, String> {
    if let Some(directive) = patch.get(PATCH) {
        return match directive.as_str() {
            Some("replace") => {
                patch.shift_remove(PATCH);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(bad_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, node)?;
    for (key, value) in patch {
        match key.strip_prefix(DELETE_FROM) {
            Some(list) => delete_from_list(&mut original, list, value),
            None => merge_field(&mut original, key, value, node)?,
        }
    }
    Ok(original)
}

fn merge_field(original: &mut Object, key: String, mut patch: Value, node: Node<'_>) -> Result<(), String> {
    if patch.is_null() {
        original.shift_remove(&key);
        return Ok(());
    }
    let field = node.field(&key);
    match (original.get_mut(&key), patch) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            *old = if field.strategy == "replace" {
                new
            } else {
                merge_map(std::mem::take(old), new, field.node)?
            };
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            *old = merge_list(std::mem::take(old), new, &field)?;
        }
        (old, new) => {
            patch = new;
            discard_nulls(&mut patch);
            match (old, clean(patch)) {
                (Some(old), new) => *old = new.unwrap_or_default(),
                (None, Some(new)) => {
                    original.insert(key, new);
                }
                (None, None) => {}
            }
        }
    }
    Ok(())
}

fn merge_list(original: Vec<Value>, patch: Vec<Value>, field: &Field<'_>) -> Result<Vec<Value>, String> {
    if field.strategy != "merge" {
        return Ok(patch);
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let maps = order::holds_maps(&original, &patch)?;
    if !maps {
        let mut merged: Vec<Value> = Vec::new();
        for item in original.iter().chain(&patch) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return order::arrange(merged, &patch, &original, "");
    }
    if field.merge_key.is_empty() {
        return Err("cannot merge lists without a merge key".to_owned());
    }
    let (original, patch) = apply_list_directives(original, patch, field.merge_key)?;
    let mut merged = original.clone();
    for item in &patch {
        let Value::Object(item) = item else { continue };
        let key = order::key_of(item, field.merge_key)?;
        match merged.iter_mut().find(|old| old.get(field.merge_key) == Some(key)) {
            Some(Value::Object(old)) => *old = merge_map(std::mem::take(old), item.clone(), field.node)?,
            _ => merged.push(Value::Object(item.clone())),
        }
    }
    order::arrange(merged, &patch, &original, field.merge_key)
}

/// Takes the items with a `$patch` directive out of the patch and does what they say to the original.
fn apply_list_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), String> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Some((directive, object)) = item.get(PATCH).zip(item.as_object()) else {
            rest.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let key = order::key_of(object, merge_key)?;
                original.retain(|old| old.get(merge_key) != Some(key));
            }
            Some("replace") => replace = true,
            Some("merge") => return Err("merging lists cannot yet be specified in the patch".to_owned()),
            _ => return Err(bad_directive(directive, object)),
        }
    }
    if replace { Ok((rest, Vec::new())) } else { Ok((original, rest)) }
}

/// Handles `$setElementOrder/LIST` together with the patch of that list.
fn merge_ordered_lists(original: &mut Object, patch: &mut Object, node: Node<'_>) -> Result<(), String> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(ORDER)).cloned().collect();
    for directive in directives {
        let wanted = list_of(patch.shift_remove(&directive).unwrap_or_default())?;
        let name = &directive[ORDER.len()..];
        let field = node.field(name);
        let old = original.get(name).cloned().map(list_of).transpose()?;
        let new = patch.shift_remove(name).map(list_of).transpose()?;
        order::check_order(new.as_deref().unwrap_or_default(), &wanted, field.merge_key)?;
        let server_order = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (Some(old), None) => old,
            (None, Some(new)) => match clean(Value::Array(new)) {
                Some(Value::Array(cleaned)) => cleaned,
                _ => continue,
            },
            (Some(old), Some(new)) => merge_list(old, new, &field)?,
            (None, None) => continue,
        };
        let arranged = order::arrange(merged, &wanted, &server_order, field.merge_key)?;
        original.insert(name.to_owned(), Value::Array(arranged));
    }
    Ok(())
}

/// `$deleteFromPrimitiveList/LIST`.
fn delete_from_list(original: &mut Object, list: &str, gone: Value) {
    if let (Some(Value::Array(items)), Value::Array(gone)) = (original.get_mut(list), gone) {
        items.retain(|item| !gone.contains(item));
    }
}

fn list_of(value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(items) => Ok(items),
        Value::String(_) => Err("expected a []interface {}, but received a string".to_owned()),
        _ => Err("expected a []interface {}, but received something else".to_owned()),
    }
}

fn bad_directive(directive: &Value, map: &Object) -> String {
    format!("unknown patch type: {} in map: {}", go(directive), go(&Value::Object(map.clone())))
}
