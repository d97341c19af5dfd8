//! What the ReplicaSet controller decides.

use super::*;
use crate::testing::{self, words};

fn set(replicas: u32) -> String {
    format!(
        "
kind: ReplicaSet
metadata: {{namespace: shop, name: web, uid: web-uid, generation: 1}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}
status: {{replicas: 0, observedGeneration: 1}}
"
    )
}

fn pod(name: &str, rest: &str) -> String {
    format!(
        "
---
kind: Pod
metadata:
  namespace: shop
  name: {name}
  labels: {{app: web}}
  ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: web-uid, controller: true}}]
{rest}"
    )
}

const READY: &str = "spec: {nodeName: n1, containers: []}
status: {phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T00:09:50Z'}]}";

fn decide(yaml: &str) -> Decision {
    testing::decide(&testing::state(yaml), super::decide, "shop/web")
}

#[test]
fn missing_pods_are_created_from_the_template() {
    let decision = decide(&set(2));
    assert_eq!(words(&decision), ["create Pod web-", "create Pod web-"]);
    let Action::Create { body, namespace, .. } = &decision.actions[0] else { panic!("a creation") };
    assert_eq!(namespace, "shop");
    assert_eq!(body["metadata"]["labels"]["app"], "web");
    assert_eq!(body["metadata"]["ownerReferences"][0]["controller"], true);
    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "web-uid");
    assert_eq!(body["spec"]["containers"][0]["image"], "i");
}

#[test]
fn ended_and_ending_pods_do_not_count() {
    let yaml = set(1)
        + &pod("done", "status: {phase: Failed}")
        + &pod("going", "")
            .replace("name: going", "name: going\n  deletionTimestamp: '2026-01-01T00:00:00Z'");
    let decision = decide(&yaml);
    assert_eq!(
        words(&decision),
        ["create Pod web-", r#"update ReplicaSet/status web {"status":{"terminatingReplicas":1}}"#]
    );
}

#[test]
fn the_least_useful_pod_goes_first() {
    let yaml = set(1) + &pod("ready", READY) + &pod("pending", "spec: {containers: []}");
    assert_eq!(words(&decide(&yaml))[0], "delete Pod pending");
    let cheap = pod("cheap", READY)
        .replace("labels:", "annotations: {controller.kubernetes.io/pod-deletion-cost: '-5'}\n  labels:");
    let yaml = set(1) + &pod("ready", READY) + &cheap;
    assert_eq!(words(&decide(&yaml))[0], "delete Pod cheap");
}

#[test]
fn crowded_nodes_lose_pods_first() {
    let other = READY.replace("n1", "n2");
    let yaml = set(2) + &pod("a", READY) + &pod("b", READY) + &pod("c", &other);
    let first = words(&decide(&yaml)).remove(0);
    assert!(first == "delete Pod a" || first == "delete Pod b", "{first}");
}

#[test]
fn orphans_are_adopted_before_anything_is_created() {
    let yaml = set(1) + "\n---\nkind: Pod\nmetadata: {namespace: shop, name: lone, labels: {app: web}}\n";
    let decision = decide(&yaml);
    assert_eq!(decision.actions.len(), 1);
    let Action::Update { key, patch, .. } = &decision.actions[0] else { panic!("an update") };
    assert_eq!(&*key.name, "lone");
    assert_eq!(patch["metadata"]["ownerReferences"][0]["name"], "web");
}

#[test]
fn a_pod_that_no_longer_matches_is_released_and_replaced() {
    let yaml = set(1) + &pod("gone", READY).replace("app: web", "app: debug");
    let all = words(&decide(&yaml));
    assert_eq!(all, [r#"update Pod gone {"metadata":{"ownerReferences":null}}"#, "create Pod web-"]);
}

#[test]
fn status_counts_ready_and_available() {
    let decision = decide(&(set(1) + &pod("a", READY)));
    assert_eq!(
        words(&decision),
        [
            r#"update ReplicaSet/status web {"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"readyReplicas":1,"replicas":1}}"#
        ]
    );
    let patient = set(1).replace("  replicas: 1", "  replicas: 1\n  minReadySeconds: 30");
    let decision = decide(&(patient + &pod("a", READY)));
    assert_eq!(
        words(&decision),
        [
            r#"update ReplicaSet/status web {"status":{"fullyLabeledReplicas":1,"readyReplicas":1,"replicas":1}}"#
        ]
    );
    assert_eq!(decision.again, Some(std::time::Duration::from_secs(20)));
}

#[test]
fn a_failure_becomes_a_condition_and_goes_away_again() {
    let mut state = testing::state(&set(1));
    let task = crate::task::Task::new(crate::task::Controller::ReplicaSet, ObjectName::new("shop", "web"));
    state.failures.insert(task, "quota".into());
    let decision = testing::decide(&state, super::decide, "shop/web");
    let Action::Update { patch, .. } = &decision.actions[0] else { panic!("status first") };
    assert_eq!(patch["status"]["conditions"][0]["reason"], "FailedCreate");
    assert_eq!(patch["status"]["conditions"][0]["message"], "quota");
    assert_eq!(words(&decision)[1], "create Pod web-");
}

#[test]
fn a_set_that_is_being_deleted_is_left_alone() {
    let yaml = set(3).replace("generation: 1}", "generation: 1, deletionTimestamp: '2026-01-01T00:00:00Z'}");
    assert_eq!(words(&decide(&yaml)), Vec::<String>::new());
}
