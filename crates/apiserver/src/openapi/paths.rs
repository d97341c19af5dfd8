//! The paths of a document: what can be done with each resource, and with which parameters.

use serde_json::{Map, Value, json};

use super::models::Models;
use crate::custom::{Custom, Served};
use crate::schema::{Gvk, Resource};

const PATCH_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// One operation's place and kind.
#[derive(Clone, Copy)]
struct Operation<'a> {
    resource: &'a Resource,
    gvk: Gvk<'a>,
    /// The subresource, or nothing.
    sub: &'a str,
    /// In all namespaces at once.
    everywhere: bool,
}

/// All paths of a group version; the types that they speak of are added to `models`.
pub(super) fn of(served: &Served, group: &str, version: &str, models: &mut Models) -> Map<String, Value> {
    let mut paths = Map::new();
    for resource in served.resources().iter().filter(|r| r.group == group && r.version == version) {
        let root =
            if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let collection = match resource.namespaced {
            true => format!("{root}/namespaces/{{namespace}}/{}", resource.plural),
            false => format!("{root}/{}", resource.plural),
        };
        let main = Operation { resource, gvk: resource.gvk(), sub: "", everywhere: false };
        let has = |verb: &str| resource.verbs.contains(&verb);
        let collection_verbs: Vec<&str> =
            ["list", "create", "deletecollection"].into_iter().filter(|verb| has(verb)).collect();
        paths.insert(collection.clone(), main.item(&collection_verbs, false, models));
        if resource.namespaced && has("list") {
            let everywhere = Operation { everywhere: true, ..main };
            paths.insert(format!("{root}/{}", resource.plural), everywhere.item(&["list"], false, models));
        }
        let verbs: Vec<&str> =
            ["get", "update", "patch", "delete"].into_iter().filter(|verb| has(verb)).collect();
        if !verbs.is_empty() {
            paths.insert(format!("{collection}/{{name}}"), main.item(&verbs, true, models));
        }
        for sub in resource.subresources.iter().filter_map(|name| resource.subresource(name)) {
            let operation = Operation { resource, gvk: sub.gvk, sub: sub.name, everywhere: false };
            let item = operation.item(sub.verbs, true, models);
            paths.insert(format!("{collection}/{{name}}/{}", sub.name), item);
        }
    }
    paths
}

impl Operation<'_> {
    /// The path item for some verbs.
    fn item(&self, verbs: &[&str], named: bool, models: &mut Models) -> Value {
        let mut item = Map::new();
        for verb in verbs {
            item.insert(method(verb).to_owned(), self.operation(verb, models));
        }
        let mut parameters = Vec::new();
        if named {
            parameters.push(json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}}));
        }
        if self.resource.namespaced && !self.everywhere {
            parameters.push(json!({"name": "namespace", "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}}));
        }
        item.insert("parameters".to_owned(), parameters.into());
        Value::Object(item)
    }

    fn operation(&self, verb: &str, models: &mut Models) -> Value {
        let gvk = self.gvk;
        let list = self.resource.list_kind();
        let custom = self.resource.custom.as_deref().filter(|_| gvk == self.resource.gvk());
        let answer = match (verb, custom) {
            ("list", Some(custom)) => Some(models.custom_list(gvk, custom)),
            ("deletecollection" | "delete", _) | (_, None) => self.built_in(verb, &list, models),
            (_, Some(custom)) => Some(models.custom(gvk, custom)),
        };
        let answer = answer.unwrap_or_default();
        self.described(verb, answer, custom, models)
    }

    fn built_in(&self, verb: &str, list: &str, models: &mut Models) -> Option<Value> {
        let gvk = self.gvk;
        match verb {
            "list" => models.kind(Gvk { kind: list, ..gvk }),
            "deletecollection" | "delete" => models.kind(Gvk { group: "", version: "v1", kind: "Status" }),
            _ => models.kind(gvk),
        }
    }

    fn described(&self, verb: &str, answer: Value, custom: Option<&Custom>, models: &mut Models) -> Value {
        let gvk = self.gvk;
        let name = match verb {
            "get" => "read",
            "update" => "replace",
            "deletecollection" => "delete",
            other => other,
        };
        let collection = if verb == "deletecollection" { "Collection" } else { "" };
        let (scope, spread) = match (self.resource.namespaced, self.everywhere) {
            (true, true) => ("", "ForAllNamespaces"),
            (true, false) => ("Namespaced", ""),
            (false, _) => ("", ""),
        };
        let action = match verb {
            "create" => "post",
            "update" => "put",
            other => other,
        };
        let Resource { group, version, kind, .. } = self.resource;
        let (place, sub) = (in_one_word(group) + &capital(version), capital(self.sub));
        let mut operation = json!({
            "operationId": format!("{name}{place}{collection}{scope}{kind}{sub}{spread}"),
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": gvk.group, "version": gvk.version, "kind": gvk.kind},
        });
        let parameters = parameters(verb);
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        let body = match verb {
            "create" | "update" => match custom {
                Some(custom) => Some(models.custom(gvk, custom)),
                None => models.kind(gvk),
            },
            "delete" | "deletecollection" => {
                models.kind(Gvk { group: "meta.k8s.io", version: "v1", kind: "DeleteOptions" })
            }
            _ => None,
        };
        if let Some(schema) = body {
            operation["requestBody"] = json!({"content": {"*/*": {"schema": schema}}});
        }
        if verb == "patch" {
            let spoken = PATCH_TYPES.iter().filter(|ty| custom.is_none() || !ty.contains("strategic"));
            let content: Map<String, Value> =
                spoken.map(|ty| ((*ty).to_owned(), json!({"schema": {"type": "object"}}))).collect();
            operation["requestBody"] = json!({"content": content});
        }
        operation
    }
}

/// `Core` of the core group, `RbacAuthorization` of `rbac.authorization.k8s.io`.
fn in_one_word(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    let parts = group.strip_suffix(".k8s.io").unwrap_or(group).split(['.', '-']);
    parts.map(capital).collect()
}

fn method(verb: &str) -> &'static str {
    match verb {
        "create" => "post",
        "update" => "put",
        "patch" => "patch",
        "delete" | "deletecollection" => "delete",
        _ => "get",
    }
}

fn parameters(verb: &str) -> Vec<Value> {
    let (text, number, truth) = ("string", "integer", "boolean");
    let listing = [
        ("labelSelector", text),
        ("fieldSelector", text),
        ("limit", number),
        ("continue", text),
        ("resourceVersion", text),
        ("resourceVersionMatch", text),
        ("timeoutSeconds", number),
        ("watch", truth),
        ("allowWatchBookmarks", truth),
        ("sendInitialEvents", truth),
    ];
    let deleting = [
        ("dryRun", text),
        ("gracePeriodSeconds", number),
        ("orphanDependents", truth),
        ("propagationPolicy", text),
    ];
    let writing = [("dryRun", text), ("fieldManager", text), ("fieldValidation", text)];
    let known: Vec<(&str, &str)> = match verb {
        "list" => listing.to_vec(),
        "create" | "update" => writing.to_vec(),
        "patch" => [&writing[..], &[("force", truth)]].concat(),
        "delete" => deleting.to_vec(),
        "deletecollection" => [&listing[..4], &deleting].concat(),
        _ => Vec::new(),
    };
    known
        .into_iter()
        .map(|(name, ty)| json!({"name": name, "in": "query", "schema": {"type": ty, "uniqueItems": true}}))
        .collect()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}
