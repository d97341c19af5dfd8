//! Discovery tells clients what they look for.

use serde_json::{Value, json};

use super::*;

fn find<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    let found = list.as_array().expect("a list").iter().find(|item| item[key] == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn aggregated_discovery_lists_resources_with_their_names() {
    let core = aggregated_core(&Served::built_in());
    assert_eq!(core["apiVersion"], "apidiscovery.k8s.io/v2");
    assert_eq!(core["items"].as_array().map(Vec::len), Some(1));
    let pods = find(&core["items"][0]["versions"][0]["resources"], "resource", "pods");
    assert_eq!(pods["shortNames"], json!(["po"]));
    assert_eq!(pods["categories"], json!(["all"]));
    assert_eq!(pods["scope"], "Namespaced");
    assert_eq!(
        find(&pods["subresources"], "subresource", "eviction")["responseKind"],
        json!({"group": "policy", "version": "v1", "kind": "Eviction"})
    );
    let groups = aggregated_groups(&Served::built_in());
    let apps = groups["items"].as_array().expect("a list").iter().find(|g| g["metadata"]["name"] == "apps");
    let deployments = find(&apps.expect("served")["versions"][0]["resources"], "resource", "deployments");
    assert_eq!(find(&deployments["subresources"], "subresource", "scale")["responseKind"]["kind"], "Scale");
}

#[test]
fn the_newest_version_is_preferred() {
    let group = legacy_group(&Served::built_in(), "autoscaling").expect("served");
    assert_eq!(group["preferredVersion"], json!({"groupVersion": "autoscaling/v2", "version": "v2"}));
    assert_eq!(group["versions"].as_array().map(Vec::len), Some(2));
    assert!(legacy_group(&Served::built_in(), "nope").is_none());
    assert!(legacy_group(&Served::built_in(), "").is_none());
}

#[test]
fn legacy_lists_name_subresources() {
    let core = legacy_resources(&Served::built_in(), "", "v1").expect("served");
    assert_eq!(core["groupVersion"], "v1");
    let token = find(&core["resources"], "name", "serviceaccounts/token");
    assert_eq!((&token["group"], &token["kind"]), (&json!("authentication.k8s.io"), &json!("TokenRequest")));
    assert_eq!(find(&core["resources"], "name", "pods/status")["verbs"], json!(["get", "patch", "update"]));
    assert!(legacy_resources(&Served::built_in(), "apps", "v9").is_none());
    assert_eq!(legacy_core("192.0.2.1:6443")["versions"], json!(["v1"]));
    let groups = legacy_groups(&Served::built_in());
    assert_eq!(find(&groups["groups"], "name", "apps")["preferredVersion"]["version"], "v1");
}
