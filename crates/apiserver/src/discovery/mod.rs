//! Discovery documents, aggregated and legacy.

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::custom::Served;
use crate::schema::Resource;

/// `/api` as `APIGroupDiscoveryList` (`apidiscovery.k8s.io/v2`).
pub fn aggregated_core(served: &Served) -> Value {
    aggregated(served, |group| group.is_empty())
}

/// `/apis` as `APIGroupDiscoveryList` (`apidiscovery.k8s.io/v2`).
pub fn aggregated_groups(served: &Served) -> Value {
    aggregated(served, |group| !group.is_empty())
}

/// `/api`: `APIVersions`; `address` is what clients dial, as in `192.0.2.1:6443`.
pub fn legacy_core(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`: `APIGroupList`.
pub fn legacy_groups(served: &Served) -> Value {
    let named = groups(served).into_iter().filter(|group| !group.is_empty());
    let groups: Vec<Value> = named.map(|group| api_group(served, group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`: `APIGroup`.
pub fn legacy_group(served: &Served, group: &str) -> Option<Value> {
    let group = groups(served).into_iter().find(|known| !known.is_empty() && *known == group)?;
    let mut document = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Value::Object(document), Value::Object(fields)) = (&mut document, api_group(served, group)) {
        document.extend(fields);
    }
    Some(document)
}

/// `/api/v1` and `/apis/GROUP/VERSION`: `APIResourceList`.
pub fn legacy_resources(served: &Served, group: &str, version: &str) -> Option<Value> {
    let found: Vec<&Resource> = resources(served, group, version).collect();
    let group_version = found.first()?.api_version();
    let listed: Vec<Value> = found.into_iter().flat_map(api_resources).collect();
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed,
    }))
}

/// Each group once, in the table's order.
fn groups(served: &Served) -> Vec<&'static str> {
    let mut found: Vec<&'static str> = Vec::new();
    for (group, _) in served.group_versions() {
        if !found.contains(&group) {
            found.push(group);
        }
    }
    found
}

/// The versions of a group, the preferred one first.
fn versions(served: &Served, group: &str) -> Vec<&'static str> {
    served.group_versions().into_iter().filter(|(g, _)| *g == group).map(|(_, version)| version).collect()
}

fn resources<'a>(
    served: &'a Served,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a Resource> + use<'a> {
    let of = move |r: &&Resource| r.group == group && r.version == version;
    served.resources().iter().map(|resource| &**resource).filter(of)
}

fn aggregated(served: &Served, wanted: fn(&str) -> bool) -> Value {
    let found = groups(served).into_iter().filter(|group| wanted(group));
    let items: Vec<Value> = found.map(|group| group_discovery(served, group)).collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    })
}

fn group_discovery(served: &Served, group: &'static str) -> Value {
    let versions: Vec<Value> = versions(served, group)
        .into_iter()
        .map(|version| {
            let resources: Vec<Value> = resources(served, group, version).map(resource_discovery).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

fn resource_discovery(resource: &Resource) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .filter_map(|name| resource.subresource(name))
        .map(|sub| {
            let gvk = sub.gvk;
            json!({
                "subresource": sub.name,
                "responseKind": {"group": gvk.group, "version": gvk.version, "kind": gvk.kind},
                "verbs": sub.verbs,
            })
        })
        .collect();
    if let Value::Object(entry) = &mut entry {
        put_names(entry, resource);
        if !subresources.is_empty() {
            entry.insert("subresources".to_owned(), subresources.into());
        }
    }
    entry
}

fn put_names(entry: &mut Map<String, Value>, resource: &Resource) {
    if !resource.short_names.is_empty() {
        entry.insert("shortNames".to_owned(), json!(resource.short_names));
    }
    if !resource.categories.is_empty() {
        entry.insert("categories".to_owned(), json!(resource.categories));
    }
}

fn api_group(served: &Served, group: &'static str) -> Value {
    let versions: Vec<Value> = versions(served, group)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// The resource itself and its subresources.
fn api_resources(resource: &Resource) -> Vec<Value> {
    let mut own = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": resource.verbs,
    });
    if let Value::Object(own) = &mut own {
        put_names(own, resource);
    }
    let mut listed = vec![own];
    for sub in resource.subresources.iter().filter_map(|name| resource.subresource(name)) {
        let mut entry = json!({
            "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
            "namespaced": resource.namespaced, "kind": sub.gvk.kind, "verbs": sub.verbs,
        });
        if (sub.gvk.group, sub.gvk.version) != (resource.group, resource.version) {
            entry["group"] = sub.gvk.group.into();
            entry["version"] = sub.gvk.version.into();
        }
        listed.push(entry);
    }
    listed
}
