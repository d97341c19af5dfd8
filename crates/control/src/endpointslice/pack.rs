//! From endpoints to slices, with as few writes as possible.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Group, PER_SLICE, TRIGGER_TIME, Wanted};
use crate::action::Action;

/// The writes that make `existing` slices hold what is `wanted`. Creations come before deletions, so
/// that no endpoint is missing in between; a slice without endpoints becomes one with, so that nobody sees
/// both.
pub(crate) fn reconcile(frame: &ObjectMeta, existing: Vec<EndpointSlice>, mut wanted: Wanted) -> Vec<Action> {
    let mut groups: BTreeMap<Group, Vec<EndpointSlice>> = BTreeMap::new();
    let mut useless = Vec::new();
    for slice in existing {
        let group = Group::of(&slice);
        if wanted.contains_key(&group) {
            groups.entry(group).or_default().push(slice);
        } else {
            useless.push(slice);
        }
    }
    let mut actions = Vec::new();
    let mut deletions = Vec::new();
    while let Some((group, endpoints)) = wanted.pop_first() {
        let slices = groups.remove(&group).unwrap_or_default();
        let placeholder = endpoints.is_empty();
        for slice in fill(slices, endpoints) {
            match slice {
                Filled::Kept { old, endpoints } if endpoints.is_empty() && !placeholder => {
                    deletions.push(old)
                }
                Filled::Kept { old, endpoints } => actions.extend(update(frame, &old, endpoints)),
                Filled::Useless(old) => deletions.push(old),
                Filled::New(endpoints) => match take_placeholder(&mut useless, &group) {
                    Some(old) => actions.extend(fill_placeholder(frame, &old, &group, endpoints)),
                    None => actions.push(create(frame, &group, endpoints)),
                },
            }
        }
    }
    deletions.extend(useless);
    actions.extend(deletions.iter().map(|s| Action::delete(s, None)));
    actions
}

enum Filled {
    Kept { old: EndpointSlice, endpoints: Vec<Endpoint> },
    Useless(EndpointSlice),
    New(Vec<Endpoint>),
}

/// Identity of an endpoint across changes of its condition.
fn identity(endpoint: &Endpoint) -> (Option<String>, String) {
    let uid = endpoint.target_ref.as_ref().and_then(|t| t.uid.clone());
    (uid, endpoint.addresses.first().cloned().unwrap_or_default())
}

fn fill(slices: Vec<EndpointSlice>, endpoints: Vec<Endpoint>) -> Vec<Filled> {
    let empty = endpoints.is_empty();
    let mut wanted: BTreeMap<_, Endpoint> = endpoints.into_iter().map(|e| (identity(&e), e)).collect();
    let mut kept: Vec<(EndpointSlice, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let staying = slice.endpoints.iter().flatten().filter_map(|e| wanted.remove(&identity(e))).collect();
        kept.push((slice, staying));
    }
    let mut rest: Vec<Endpoint> = wanted.into_values().collect();
    // Slices that change anyway take newcomers first, then the fullest with room, then new ones.
    kept.sort_by_key(|(old, now)| {
        let changes = old.endpoints.iter().flatten().ne(now.iter());
        (!changes, std::cmp::Reverse(now.len()))
    });
    for (_, endpoints) in &mut kept {
        let room = PER_SLICE.saturating_sub(endpoints.len()).min(rest.len());
        endpoints.extend(rest.drain(..room));
    }
    if empty {
        // One slice stands for "no endpoints", others are not needed.
        let mut kept = kept.into_iter();
        let first = kept.next().map(|(old, endpoints)| Filled::Kept { old, endpoints });
        let surplus = kept.map(|(old, _)| Filled::Useless(old));
        return std::iter::once(first.unwrap_or(Filled::New(Vec::new()))).chain(surplus).collect();
    }
    let mut filled: Vec<_> =
        kept.into_iter().map(|(old, endpoints)| Filled::Kept { old, endpoints }).collect();
    while !rest.is_empty() {
        let n = rest.len().min(PER_SLICE);
        filled.push(Filled::New(rest.drain(..n).collect()));
    }
    filled
}

fn update(frame: &ObjectMeta, old: &EndpointSlice, endpoints: Vec<Endpoint>) -> Option<Action> {
    let mut new = old.clone();
    new.endpoints = Some(endpoints);
    new.metadata.labels = frame.labels.clone();
    new.metadata.owner_references = frame.owner_references.clone();
    if old.endpoints.as_deref().unwrap_or_default() == new.endpoints.as_deref().unwrap_or_default() {
        new.endpoints = old.endpoints.clone();
    } else if let Some(time) = frame.annotations.as_ref().and_then(|a| a.get(TRIGGER_TIME)) {
        // The time tells about a change of endpoints, so it only moves with them.
        new.metadata.annotations.get_or_insert_default().insert(TRIGGER_TIME.into(), time.clone());
    }
    Action::update(old, &new, "")
}

fn take_placeholder(useless: &mut Vec<EndpointSlice>, group: &Group) -> Option<EndpointSlice> {
    let is_empty = |s: &EndpointSlice| s.endpoints.as_ref().is_none_or(|e| e.is_empty());
    let at = useless.iter().position(|s| s.address_type == group.address_type && is_empty(s))?;
    Some(useless.remove(at))
}

fn fill_placeholder(
    frame: &ObjectMeta,
    old: &EndpointSlice,
    group: &Group,
    endpoints: Vec<Endpoint>,
) -> Option<Action> {
    let mut new = old.clone();
    new.metadata.labels = frame.labels.clone();
    new.metadata.owner_references = frame.owner_references.clone();
    new.metadata.annotations = frame.annotations.clone();
    new.endpoints = Some(endpoints);
    new.ports = Some(group.api_ports());
    Action::update(old, &new, "")
}

fn create(frame: &ObjectMeta, group: &Group, endpoints: Vec<Endpoint>) -> Action {
    let slice = EndpointSlice {
        address_type: group.address_type.clone(),
        endpoints: Some(endpoints),
        metadata: frame.clone(),
        ports: Some(group.api_ports()),
    };
    Action::create(&slice, None)
}
