//! What the EndpointSlice controller decides.

use super::*;
use crate::testing::{self, words};
use serde_json::Value;

const SERVICE: &str = "
kind: Service
metadata: {namespace: shop, name: web, labels: {team: a}}
spec: {clusterIP: 10.96.0.9, ipFamilies: [IPv4], selector: {app: web}, ports: [{name: http, port: 80, targetPort: web}]}
";

fn pod(name: &str, ip: &str, port: u16, ready: bool) -> String {
    let ready = if ready { "True" } else { "False" };
    format!(
        "
---
kind: Pod
metadata: {{namespace: shop, name: {name}, labels: {{app: web}}}}
spec: {{nodeName: n1, containers: [{{name: c, ports: [{{name: web, containerPort: {port}}}]}}]}}
status: {{phase: Running, podIP: {ip}, conditions: [{{type: Ready, status: '{ready}', lastTransitionTime: '2026-01-01T00:00:07Z'}}]}}"
    )
}

fn decide(yaml: &str) -> Decision {
    testing::decide(&testing::state(yaml), super::decide, "shop/web")
}

fn created(decision: &Decision) -> Vec<&Value> {
    decision
        .actions
        .iter()
        .filter_map(|a| if let Action::Create { body, .. } = a { Some(body) } else { None })
        .collect()
}

#[test]
fn a_ready_pod_becomes_an_endpoint() {
    let node = "\n---\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}\n";
    let decision = decide(&(SERVICE.to_owned() + node + &pod("a", "10.0.0.1", 8080, true)));
    let slice = created(&decision)[0];
    assert_eq!(slice["metadata"]["generateName"], "web-");
    assert_eq!(slice["metadata"]["labels"][SERVICE_NAME], "web");
    assert_eq!(slice["metadata"]["labels"][MANAGED_BY], MANAGER);
    assert_eq!(slice["metadata"]["labels"]["team"], "a");
    assert_eq!(slice["metadata"]["annotations"][TRIGGER_TIME], "2026-01-01T00:00:07Z");
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Service");
    assert_eq!(slice["ports"], serde_json::json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    let endpoint = &slice["endpoints"][0];
    assert_eq!(endpoint["addresses"][0], "10.0.0.1");
    assert_eq!(
        endpoint["conditions"],
        serde_json::json!({"ready": true, "serving": true, "terminating": false})
    );
    assert_eq!((&endpoint["nodeName"], &endpoint["zone"]), (&"n1".into(), &"z1".into()));
    assert_eq!(endpoint["targetRef"]["name"], "a");
}

#[test]
fn pods_with_another_number_behind_the_name_get_their_own_slice() {
    let yaml = SERVICE.to_owned() + &pod("a", "10.0.0.1", 8080, true) + &pod("b", "10.0.0.2", 9090, true);
    let decision = decide(&yaml);
    let ports: Vec<_> = created(&decision).iter().map(|s| s["ports"][0]["port"].clone()).collect();
    assert_eq!(ports, [8080, 9090]);
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    let going = pod("b", "10.0.0.2", 8080, true).replace(
        "labels: {app: web}",
        "labels: {app: web}, deletionTimestamp: '2026-01-01T00:00:40Z', deletionGracePeriodSeconds: 30",
    );
    let yaml = SERVICE.to_owned() + &pod("a", "10.0.0.1", 8080, false) + &going;
    let decision = decide(&yaml);
    let slice = created(&decision)[0];
    let conditions: Vec<_> =
        slice["endpoints"].as_array().unwrap().iter().map(|e| &e["conditions"]).collect();
    assert_eq!(*conditions[0], serde_json::json!({"ready": false, "serving": false, "terminating": false}));
    assert_eq!(*conditions[1], serde_json::json!({"ready": false, "serving": true, "terminating": true}));
    assert_eq!(slice["metadata"]["annotations"][TRIGGER_TIME], "2026-01-01T00:00:10Z");

    let published = yaml.replace("selector:", "publishNotReadyAddresses: true, selector:");
    let decision = decide(&published);
    assert_eq!(created(&decision)[0]["endpoints"][0]["conditions"]["ready"], true);
}

#[test]
fn pods_without_address_or_life_are_left_out_and_an_empty_slice_stands_for_none() {
    let yaml = SERVICE.to_owned()
        + &pod("a", "10.0.0.1", 8080, true).replace("phase: Running", "phase: Failed")
        + &pod("b", "''", 8080, true);
    let decision = decide(&yaml);
    assert_eq!(words(&decision), ["create EndpointSlice web-"]);
    assert_eq!(created(&decision)[0]["endpoints"], serde_json::json!([]));
}

#[test]
fn the_empty_slice_becomes_the_first_one_with_endpoints() {
    let yaml = SERVICE.to_owned()
        + &pod("a", "10.0.0.1", 8080, true)
        + "
---
kind: EndpointSlice
metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web,
  endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}}
addressType: IPv4
endpoints: []
ports: []";
    let decision = decide(&yaml);
    let [Action::Update { key, patch, .. }] = decision.actions.as_slice() else {
        panic!("one update: {:?}", words(&decision));
    };
    assert_eq!(&*key.name, "web-1");
    assert_eq!(patch["endpoints"][0]["addresses"][0], "10.0.0.1");
    assert_eq!(patch["ports"][0]["port"], 8080);
}

/// Applies a decision as the API server would, so that a second look can be taken.
fn settle(state: &mut crate::state::State, decision: Decision) -> Vec<String> {
    let said = words(&decision);
    for (i, action) in decision.actions.into_iter().enumerate() {
        match action {
            Action::Create { kind, mut body, .. } => {
                body["metadata"]["name"] = format!("web-{i}").into();
                body["metadata"]["uid"] = format!("slice-{i}").into();
                body["metadata"]["resourceVersion"] = "5".into();
                state.upsert(kind.parse(&body.to_string()).unwrap(), std::time::Duration::ZERO);
            }
            Action::Update { key, .. } => panic!("update of {key}"),
            Action::Delete { .. } => panic!("deletion"),
            _ => {}
        }
    }
    said
}

#[test]
fn what_is_right_is_left_alone_and_changes_stay_in_their_slice() {
    let mut yaml = SERVICE.to_owned();
    for i in 0..150 {
        yaml += &pod(&format!("p{i:03}"), &format!("10.0.1.{i}"), 8080, true);
    }
    let mut state = testing::state(&yaml);
    let decision = testing::decide(&state, super::decide, "shop/web");
    let sizes: Vec<_> = created(&decision).iter().map(|s| s["endpoints"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [100, 50]);
    settle(&mut state, decision);
    assert_eq!(words(&testing::decide(&state, super::decide, "shop/web")), Vec::<String>::new());

    let unready =
        pod("p120", "10.0.1.120", 8080, false).replace("name: p120", "name: p120, resourceVersion: '9'");
    state.upsert(testing::object(unready.trim().trim_start_matches("---")), std::time::Duration::ZERO);
    let said = words(&testing::decide(&state, super::decide, "shop/web"));
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("update EndpointSlice web-1 "), "only the slice that holds it");

    let another = pod("q", "10.0.2.1", 8080, true);
    state.upsert(testing::object(another.trim().trim_start_matches("---")), std::time::Duration::ZERO);
    let said = words(&testing::decide(&state, super::decide, "shop/web"));
    assert_eq!(said.len(), 1, "newcomers join a slice that changes anyway");
}

#[test]
fn each_family_of_the_service_has_slices_that_come_and_go_with_it() {
    let service =
        |families: &str| SERVICE.replace("ipFamilies: [IPv4]", &format!("ipFamilies: [{families}]"));
    let both = "podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]";
    let pods = pod("a", "10.0.0.1", 8080, true).replace("podIP: 10.0.0.1", both)
        + &pod("old", "10.0.0.2", 8080, true);
    let mut state = testing::state(&(service("IPv6, IPv4") + &pods));
    let decision = testing::decide(&state, super::decide, "shop/web");
    let mut slices: Vec<(String, Vec<String>)> = created(&decision)
        .iter()
        .map(|slice| {
            let endpoints = slice["endpoints"].as_array().unwrap();
            let ips = endpoints.iter().map(|e| e["addresses"][0].as_str().unwrap().to_owned()).collect();
            (slice["addressType"].as_str().unwrap().to_owned(), ips)
        })
        .collect();
    slices.sort();
    let strings = |ips: &[&str]| ips.iter().map(|ip| (*ip).to_owned()).collect::<Vec<_>>();
    let (four, six) = (strings(&["10.0.0.1", "10.0.0.2"]), strings(&["fd00::1"]));
    assert_eq!(slices, [("IPv4".to_owned(), four), ("IPv6".to_owned(), six)]);

    settle(&mut state, decision);
    let single = service("IPv6").replace("name: web,", "name: web, resourceVersion: '9',");
    state.upsert(testing::object(&single), std::time::Duration::ZERO);
    let said = words(&testing::decide(&state, super::decide, "shop/web"));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("delete EndpointSlice web-"), "{said:?}");
}

#[test]
fn external_names_lose_their_slices_and_foreign_slices_are_left_alone() {
    let slice = "
---
kind: EndpointSlice
metadata: {namespace: shop, name: web-x, labels: {kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}}
addressType: IPv4
endpoints: []
---
kind: EndpointSlice
metadata: {namespace: shop, name: hand-made, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: []";
    let service = SERVICE.replace("spec: {", "spec: {type: ExternalName, ");
    assert_eq!(words(&decide(&(service + slice))), ["delete EndpointSlice web-x"]);
    let unselected = SERVICE.replace("selector: {app: web}, ", "");
    assert_eq!(words(&decide(&(unselected + slice))), Vec::<String>::new());
}

#[test]
fn hints_for_zones_and_nodes() {
    let nodes = "\n---\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}\n";
    let hints = |how: &str, nodes: &str| {
        let service = SERVICE.replace("spec: {", &format!("spec: {{trafficDistribution: {how}, "));
        let decision = decide(
            &(service + nodes + &pod("a", "10.0.0.1", 8080, true) + &pod("b", "10.0.0.2", 8080, false)),
        );
        let slice = created(&decision)[0].clone();
        assert_eq!(slice["endpoints"][1]["hints"], Value::Null, "not ready");
        slice["endpoints"][0]["hints"].clone()
    };
    assert_eq!(hints("PreferSameZone", nodes), serde_json::json!({"forZones": [{"name": "z1"}]}));
    assert_eq!(
        hints("PreferSameNode", nodes),
        serde_json::json!({"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]})
    );
    assert_eq!(hints("PreferClose", ""), Value::Null, "no zone, no hint");
}

#[test]
fn headless_services_name_their_pods() {
    let service = SERVICE.replace("clusterIP: 10.96.0.9", "clusterIP: None");
    let named = pod("a", "10.0.0.1", 8080, true)
        .replace("nodeName: n1,", "nodeName: n1, hostname: db-0, subdomain: web,");
    let decision = decide(&(service + &named));
    let slice = created(&decision)[0];
    assert_eq!(slice["metadata"]["labels"][HEADLESS], "");
    assert_eq!(slice["endpoints"][0]["hostname"], "db-0");
}
