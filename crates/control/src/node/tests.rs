//! What becomes of silent nodes and their pods.

use super::*;
use crate::config::ControllersConfig;
use crate::state::State;
use crate::testing::{self, decide_at, words};

fn node(name: &str, ready: &str, taints: &str) -> String {
    format!(
        "
---
kind: Node
metadata: {{name: {name}}}
spec: {{taints: [{taints}]}}
status: {{conditions: [{{type: Ready, status: '{ready}'}}]}}"
    )
}

fn pod(name: &str, node: &str, tolerations: &str) -> String {
    format!(
        "
---
kind: Pod
metadata: {{namespace: shop, name: {name}}}
spec: {{nodeName: {node}, containers: [], tolerations: [{tolerations}]}}
status: {{phase: Running, conditions: [{{type: Ready, status: 'True'}}]}}"
    )
}

const UNREACHABLE: &str = "{key: node.kubernetes.io/unreachable, effect: NoSchedule}, {key: node.kubernetes.io/unreachable, effect: NoExecute}";

fn health(state: &State, at: u64) -> crate::action::Decision {
    decide_at(state, health::decide, "n1", at, &ControllersConfig::default())
}

#[test]
fn a_silent_node_becomes_unknown_and_is_looked_at_in_time() {
    let state = testing::state(&(node("n1", "True", "") + &node("n2", "True", "")));
    let calm = health(&state, 4);
    assert_eq!((words(&calm), calm.again), (vec![], Some(std::time::Duration::from_secs(1))));
    let said = words(&health(&state, 5));
    assert!(
        said[0].starts_with("update Node/status n1")
            && said[0].contains("Kubelet stopped posting node status.")
    );
    assert!(said[0].contains(r#""status":"Unknown""#));
    assert_eq!(said[1], "event NodeNotReady Node n1 status is now: NodeNotReady");
}

#[test]
fn a_node_that_is_not_ready_is_tainted_and_its_pods_are_not_ready() {
    let yaml =
        node("n1", "Unknown", "") + &node("n2", "True", "") + &pod("a", "n1", "") + &pod("b", "n2", "");
    let said = words(&health(&testing::state(&yaml), 9));
    assert!(said[0].contains("update Node/status n1"), "missing conditions are added: {}", said[0]);
    let yaml = yaml.replace(
        "conditions: [{type: Ready, status: 'Unknown'}]",
        "conditions: [{type: Ready, status: Unknown}, {type: MemoryPressure, status: Unknown}, {type: DiskPressure, status: Unknown}, {type: PIDPressure, status: Unknown}]",
    );
    let said = words(&health(&testing::state(&yaml), 9));
    assert!(
        said[0].contains(r#""effect":"NoSchedule","key":"node.kubernetes.io/unreachable""#),
        "{}",
        said[0]
    );
    assert!(said[0].contains(r#""effect":"NoExecute""#));
    assert!(said[1].starts_with("update Pod/status a") && said[1].contains(r#""status":"False""#));
    assert_eq!(said[2], "event NodeNotReady Node is not ready");
    assert_eq!(said.len(), 3, "pods elsewhere are left alone");
}

#[test]
fn taints_go_when_the_node_is_back_and_nothing_is_evicted_when_no_node_is_well() {
    let back = node("n1", "True", UNREACHABLE);
    assert_eq!(words(&health(&testing::state(&back), 0)), [r#"update Node n1 {"spec":{"taints":null}}"#]);
    let alone = node("n1", "False", "{key: node.kubernetes.io/not-ready, effect: NoExecute}");
    let said = words(&health(&testing::state(&alone), 0));
    assert!(!said[0].contains("NoExecute"), "{}", said[0]);
}

fn evict(yaml: &str, at: u64) -> crate::action::Decision {
    decide_at(&testing::state(yaml), eviction::decide, "shop/a", at, &ControllersConfig::default())
}

#[test]
fn pods_leave_after_their_toleration() {
    let tainted = node("n1", "Unknown", UNREACHABLE);
    let default =
        "{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 300}";
    for tolerations in ["", default] {
        let yaml = tainted.clone() + &pod("a", "n1", tolerations);
        assert_eq!(evict(&yaml, 4).again, Some(std::time::Duration::from_secs(6)));
        assert_eq!(words(&evict(&yaml, 10))[1], "delete Pod a");
    }
    let patient = tainted.clone() + &pod("a", "n1", &default.replace("300", "60"));
    assert_eq!(evict(&patient, 10).again, Some(std::time::Duration::from_secs(50)));
    let stoic = tainted.clone() + &pod("a", "n1", "{operator: Exists}");
    assert_eq!((words(&evict(&stoic, 999)), evict(&stoic, 999).again), (vec![], None));
    let other = node("n1", "True", "{key: gpu, effect: NoExecute}") + &pod("a", "n1", "");
    assert_eq!(words(&evict(&other, 0))[1], "delete Pod a");
}

#[test]
fn pods_of_a_node_that_is_gone_are_removed_by_force_after_a_while() {
    let state = testing::state(&pod("a", "nowhere", ""));
    let config = ControllersConfig::default();
    let early = decide_at(&state, cleanup::decide, "shop/a", 1, &config);
    assert_eq!((words(&early), early.again), (vec![], Some(std::time::Duration::from_secs(1))));
    assert_eq!(words(&decide_at(&state, cleanup::decide, "shop/a", 2, &config))[1], "delete Pod a grace 0");
}

#[test]
fn the_oldest_terminated_pods_go_first() {
    let ended = |name: &str, second: u32| {
        pod(name, "n1", "").replace("phase: Running", "phase: Succeeded").replace(
            "namespace: shop",
            &format!("namespace: shop, creationTimestamp: '2026-01-01T00:00:{second:02}Z'"),
        )
    };
    let state =
        testing::state(&(ended("new", 3) + &ended("old", 1) + &ended("mid", 2) + &pod("alive", "n1", "")));
    let config = ControllersConfig { terminated_pods: 2, ..Default::default() };
    assert_eq!(
        words(&decide_at(&state, cleanup::decide_terminated, "", 0, &config)),
        ["delete Pod old grace 0"]
    );
}
