//! What the Endpoints controller and the mirror decide.

use super::*;
use crate::testing::{self, words};

const SERVICE: &str = "
kind: Service
metadata: {namespace: shop, name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
kind: Pod
metadata: {namespace: shop, name: a, labels: {app: web}}
spec: {nodeName: n1, containers: []}
status: {phase: Running, podIP: 10.0.0.2, conditions: [{type: Ready, status: 'True'}]}
---
kind: Pod
metadata: {namespace: shop, name: b, labels: {app: web}}
spec: {nodeName: n1, containers: []}
status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'False'}]}
";

fn decide(yaml: &str) -> Decision {
    testing::decide(&testing::state(yaml), super::decide, "shop/web")
}

#[test]
fn endpoints_hold_ready_and_unready_addresses() {
    let decision = decide(SERVICE);
    let Action::Create { body, .. } = &decision.actions[0] else { panic!("a creation") };
    let subset = &body["subsets"][0];
    assert_eq!(subset["addresses"][0]["ip"], "10.0.0.2");
    assert_eq!(subset["notReadyAddresses"][0]["targetRef"]["name"], "b");
    assert_eq!(subset["ports"], serde_json::json!([{"port": 8080, "protocol": "TCP"}]));
    assert_eq!(body["metadata"]["labels"][MANAGED_BY], MANAGER);
}

#[test]
fn endpoints_hold_addresses_of_the_primary_family_alone() {
    let dual = SERVICE
        .replace("spec: {selector", "spec: {ipFamilies: [IPv6, IPv4], selector")
        .replace("podIP: 10.0.0.2", "podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]");
    let decision = decide(&dual);
    let Action::Create { body, .. } = &decision.actions[0] else { panic!("a creation") };
    assert_eq!(body["subsets"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["subsets"][0]["addresses"][0]["ip"], "fd00::2");
    assert_eq!(body["subsets"][0]["notReadyAddresses"], serde_json::Value::Null, "it has no such address");
}

#[test]
fn endpoints_go_with_their_service_unless_they_are_a_lock() {
    let alone = "kind: Endpoints\nmetadata: {namespace: shop, name: web}\n";
    assert_eq!(words(&decide(alone)), ["delete Endpoints web"]);
    let lock =
        alone.replace("name: web", "name: web, annotations: {control-plane.alpha.kubernetes.io/leader: x}");
    assert_eq!(words(&decide(&lock)), Vec::<String>::new());
}

const HAND_MADE: &str = "
kind: Service
metadata: {namespace: shop, name: web}
spec: {ports: [{port: 80}]}
---
kind: Endpoints
metadata: {namespace: shop, name: web, labels: {a: b}}
subsets: [{addresses: [{ip: 192.0.2.7}, {ip: '2001:db8::7'}], ports: [{port: 3306}]}]
";

#[test]
fn hand_made_endpoints_are_mirrored_by_family() {
    let decision = testing::decide(&testing::state(HAND_MADE), mirror::decide, "shop/web");
    let families: Vec<_> = decision
        .actions
        .iter()
        .map(|a| match a {
            Action::Create { body, .. } => {
                assert_eq!(body["metadata"]["labels"]["kubernetes.io/service-name"], "web");
                assert_eq!(body["ports"][0]["port"], 3306);
                (
                    body["addressType"].as_str().unwrap(),
                    body["endpoints"][0]["addresses"][0].as_str().unwrap(),
                )
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(families, [("IPv4", "192.0.2.7"), ("IPv6", "2001:db8::7")]);
}

#[test]
fn nothing_is_mirrored_for_selecting_services_or_against_the_owners_will() {
    let selecting = HAND_MADE.replace("spec: {", "spec: {selector: {a: b}, ");
    let unwilling = HAND_MADE.replace("{a: b}", "{endpointslice.kubernetes.io/skip-mirror: 'true'}");
    for yaml in [selecting, unwilling] {
        let decision = testing::decide(&testing::state(&yaml), mirror::decide, "shop/web");
        assert_eq!(words(&decision), Vec::<String>::new());
    }
}
