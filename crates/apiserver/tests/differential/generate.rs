//! Cases for every kind: each operation of `operations.yml` with each object of `minimal.yml`.

use daymark_apiserver::schema::{Resource, schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::case::Case;
use super::data;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Minimal {
    kind: String,
    group: Option<String>,
    version: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    object: Value,
    change: Value,
}

fn read<T: for<'de> Deserialize<'de>>(name: &str) -> Vec<T> {
    let text = std::fs::read_to_string(data(name)).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

pub fn groups() -> Vec<(String, Vec<Case>)> {
    let operations: Vec<Case> = read("operations.yml");
    read::<Minimal>("minimal.yml").iter().map(|minimal| group(minimal, &operations)).collect()
}

fn group(minimal: &Minimal, operations: &[Case]) -> (String, Vec<Case>) {
    let fits = |resource: &&std::sync::Arc<Resource>| {
        resource.kind == minimal.kind
            && minimal.group.as_ref().is_none_or(|group| group == resource.group)
            && minimal.version.as_ref().is_none_or(|version| version == resource.version)
    };
    let resource =
        schema().resources().iter().find(fits).unwrap_or_else(|| panic!("no kind {}", minimal.kind));
    let namespace = minimal.namespace.clone().unwrap_or_else(|| "gen".to_owned());
    let collection = collection(resource, &namespace);
    let name = minimal.name.clone().unwrap_or_else(|| "one".to_owned());
    let mut object = minimal.object.clone();
    object["apiVersion"] = resource.api_version().into();
    object["kind"] = resource.kind.into();
    object["metadata"] = json!({"name": name});
    let fill = |case: &Case| {
        let mut case = case.clone();
        case.at = case.at.replace("{c}", &collection).replace("{n}", &format!("{collection}/{name}"));
        for part in [&mut case.body, &mut case.with] {
            match part.as_str() {
                Some("{object}") => *part = object.clone(),
                Some("{change}") => *part = minimal.change.clone(),
                _ => {}
            }
        }
        if case.media == "apply" && case.body.is_object() {
            case.body["apiVersion"] = resource.api_version().into();
            case.body["kind"] = resource.kind.into();
            if case.body["metadata"]["name"].is_null() {
                case.body["metadata"]["name"] = name.clone().into();
            }
        }
        case
    };
    let mut cases = vec![namespace_case(&namespace), account_case(&namespace)];
    cases.extend(operations.iter().map(fill));
    (resource.qualified(), cases)
}

fn collection(resource: &Resource, namespace: &str) -> String {
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let root = format!("{root}/{}", resource.api_version());
    match resource.namespaced {
        true => format!("{root}/namespaces/{namespace}/{}", resource.plural),
        false => format!("{root}/{}", resource.plural),
    }
}

/// Pods need an account, which no controller makes here.
fn account_case(namespace: &str) -> Case {
    let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    serde_json::from_value(json!({
        "name": "namespace", "do": "PATCH", "type": "apply", "body": object,
        "at": format!("/api/v1/namespaces/{namespace}/serviceaccounts/default?fieldManager=setup"),
    }))
    .unwrap()
}

/// Several groups make the same namespace; whether it is there already is not compared.
fn namespace_case(name: &str) -> Case {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    serde_json::from_value(json!({
        "name": "namespace", "do": "PATCH", "at": format!("/api/v1/namespaces/{name}?fieldManager=setup"),
        "type": "apply", "body": object,
    }))
    .unwrap()
}
