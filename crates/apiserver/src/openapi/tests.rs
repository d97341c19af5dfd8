//! The documents say what kubectl looks for in them.

use serde_json::{Value, json};

use super::*;

fn load(path: &str) -> Value {
    let document = document(&Served::built_in(), path).expect("served");
    serde_json::from_slice(&document.unpack().expect("it is packed")).expect("it is JSON")
}

#[test]
fn the_index_lists_every_document() {
    let index = index(&Served::built_in());
    let paths = index["paths"].as_object().expect("a map");
    assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
    for (path, entry) in paths {
        assert_eq!(
            entry["serverRelativeURL"],
            format!("/openapi/v3/{path}?hash={}", hash(&Served::built_in()))
        );
        assert!(document(&Served::built_in(), path).is_some(), "{path}");
    }
    assert!(document(&Served::built_in(), "apis/nope/v1").is_none());
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    for path in index(&Served::built_in())["paths"].as_object().expect("a map").keys() {
        let document = load(path);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let model = document.pointer(reference.trim_start_matches('#'));
            assert!(model.is_some_and(Value::is_object), "{path}: {reference}");
        }
    }
}

#[test]
fn patches_take_field_validation_and_strategic_merges() {
    let document = load("apis/apps/v1");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let names: Vec<&Value> =
        patch["parameters"].as_array().expect("a list").iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
}

#[test]
fn models_carry_merge_rules() {
    let document = load("apis/apps/v1");
    let models = &document["components"]["schemas"];
    let deployment = &models["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    let containers = &models["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    let spec = &models["io.k8s.api.apps.v1.DeploymentSpec"];
    assert_eq!(spec["required"], json!(["selector", "template"]));
    assert_eq!(spec["properties"]["strategy"]["x-kubernetes-patch-strategy"], "retainKeys");
    assert_eq!(
        models["io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"]["x-kubernetes-map-type"],
        "atomic"
    );
}
