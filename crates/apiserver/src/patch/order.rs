//! The order of merged lists: as the patch asks, with the items that only the server has in between.

use serde_json::{Map, Value};

use super::directives::{PATCH, go};

/// Whether the lists hold maps; mixed lists and lists of lists are errors.
pub(super) fn holds_maps(original: &[Value], patch: &[Value]) -> Result<bool, String> {
    let mut kinds = original.iter().chain(patch).map(Value::is_object);
    let first = kinds.next().unwrap_or(false);
    if original.iter().chain(patch).any(Value::is_array) {
        return Err("lists of lists are not supported".to_owned());
    }
    if kinds.any(|kind| kind != first) {
        return Err("list element types are not identical".to_owned());
    }
    Ok(first)
}

pub(super) fn key_of<'a>(item: &'a Map<String, Value>, merge_key: &str) -> Result<&'a Value, String> {
    item.get(merge_key).ok_or_else(|| {
        format!("map: {} does not contain declared merge key: {merge_key}", go(&Value::Object(item.clone())))
    })
}

/// What identifies an item: its merge key, or itself where there is none.
fn identity<'a>(item: &'a Value, merge_key: &str) -> Result<&'a Value, String> {
    match item {
        Value::Object(map) if !merge_key.is_empty() => key_of(map, merge_key),
        item => Ok(item),
    }
}

/// The place of each item of `items` in `order`.
fn places(items: &[Value], order: &[Value], merge_key: &str) -> Result<Vec<Option<usize>>, String> {
    let order: Vec<&Value> = order.iter().map(|o| identity(o, merge_key)).collect::<Result<_, _>>()?;
    items.iter().map(|item| identity(item, merge_key).map(|id| order.iter().position(|o| *o == id))).collect()
}

/// Arranges merged items: those of `wanted` in its order, the rest in `server`'s order, each of the rest
/// before the first item that follows it on the server.
pub(super) fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    server: &[Value],
    merge_key: &str,
) -> Result<Vec<Value>, String> {
    let in_wanted = places(&merged, wanted, merge_key)?;
    let on_server = places(&merged, server, merge_key)?;
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for ((item, wanted), server) in merged.into_iter().zip(in_wanted).zip(on_server) {
        match wanted {
            Some(place) => ours.push((place, server, item)),
            None => theirs.push((server, item)),
        }
    }
    ours.sort_by_key(|(place, ..)| *place);
    theirs.sort_by_key(|(place, _)| *place);
    let mut ours = ours.into_iter().peekable();
    let mut arranged = Vec::new();
    for (place, item) in theirs {
        while let Some((_, _, ours)) =
            ours.next_if(|(_, other, _)| !matches!((place, *other), (Some(a), Some(b)) if a < b))
        {
            arranged.push(ours);
        }
        arranged.push(item);
    }
    arranged.extend(ours.map(|(_, _, item)| item));
    Ok(arranged)
}

/// Refuses a `$setElementOrder` that contradicts the order of the patch's own items.
pub(super) fn check_order(patch: &[Value], wanted: &[Value], merge_key: &str) -> Result<(), String> {
    if patch.is_empty() || wanted.is_empty() {
        return Ok(());
    }
    let mut rest = wanted.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let id = identity(item, merge_key)?;
        let mut found = false;
        for next in rest.by_ref() {
            if identity(next, merge_key)? == id {
                found = true;
                break;
            }
        }
        if !found {
            let (patch, wanted) = (go(&Value::Array(patch.to_vec())), go(&Value::Array(wanted.to_vec())));
            return Err(format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{wanted}\n"
            ));
        }
    }
    Ok(())
}
