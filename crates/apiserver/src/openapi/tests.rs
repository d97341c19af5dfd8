//! The documents say what kubectl looks for in them.

use serde_json::{Value, json};

use super::*;

fn load(path: &str) -> Value {
    let document = document(&Served::built_in(), path).expect("served");
    serde_json::from_slice(&unpack(&document.gzip).expect("it is packed")).expect("it is JSON")
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

static V2: LazyLock<Value> = LazyLock::new(|| {
    let packed = document_v2(&Served::built_in()).expect("made");
    serde_json::from_slice(&unpack(&packed).expect("it is packed")).expect("it is JSON")
});

#[test]
fn the_old_document_has_everything_in_the_words_of_swagger() {
    let document = &*V2;
    assert_eq!(document["swagger"], "2.0");
    let mut found = Vec::new();
    references(document, &mut found);
    assert!(found.len() > 1000, "{}", found.len());
    for reference in found {
        let model = document.pointer(reference.trim_start_matches('#'));
        assert!(model.is_some_and(Value::is_object), "{reference}");
    }
    let models = &document["definitions"];
    let deployment = &models["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    assert_eq!(deployment["properties"]["spec"]["$ref"], "#/definitions/io.k8s.api.apps.v1.DeploymentSpec");
    let containers = &models["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["items"], json!({"$ref": "#/definitions/io.k8s.api.core.v1.Container"}));
    assert_eq!(models["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"], "string");
    let port = &models["io.k8s.api.core.v1.ServicePort"];
    assert_eq!(port["properties"]["protocol"].get("default"), None);
    let path = &document["paths"]["/api/v1/namespaces/{namespace}/pods"];
    assert_eq!(
        path["post"]["parameters"][0],
        json!({"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/io.k8s.api.core.v1.Pod"}})
    );
    assert_eq!(path["parameters"][0]["type"], "string");
    assert_eq!(path["get"]["responses"]["200"]["schema"]["$ref"], "#/definitions/io.k8s.api.core.v1.PodList");
}

#[test]
fn no_two_operations_have_one_name() {
    let document = &*V2;
    let mut seen = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in
            item.as_object().expect("an item").iter().filter(|(m, _)| *m != "parameters")
        {
            let id = operation["operationId"].as_str().expect("a name");
            assert!(seen.insert(id.to_owned()), "{method} {path}: {id} twice");
        }
    }
    for id in [
        "createCoreV1NamespacedPod",
        "listCoreV1PodForAllNamespaces",
        "deleteAppsV1CollectionNamespacedDeployment",
        "readAppsV1NamespacedDeploymentScale",
        "replaceRbacAuthorizationV1ClusterRole",
    ] {
        assert!(seen.contains(id), "{id}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
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
