//! What the disruption controller decides.

use serde_json::{Value, json};

use super::*;
use crate::testing::{self, words};

fn budget(spec: &str, status: &str) -> String {
    format!(
        "
kind: PodDisruptionBudget
metadata: {{namespace: shop, name: pdb, generation: 3}}
spec: {{selector: {{matchLabels: {{app: web}}}}, {spec}}}
status: {{currentHealthy: 0, desiredHealthy: 0, expectedPods: 0, disruptionsAllowed: 0{status}}}
---
kind: StatefulSet
metadata: {{namespace: shop, name: web, uid: s}}
spec: {{replicas: 4, serviceName: w, selector: {{matchLabels: {{app: web}}}}, template: {{}}}}
"
    )
}

/// Pods in words: `ready`, `unready`, `ending`; `alone` is ready and has no owner, `odd` an owner nobody knows.
fn pods(all: &str) -> String {
    let pod = |(i, how): (usize, &str)| {
        let owner = match how {
            "alone" => "",
            "odd" => "ownerReferences: [{apiVersion: x/v1, kind: X, name: x, uid: x, controller: true}], ",
            _ => {
                "ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: s, controller: true}], "
            }
        };
        let ending = if how == "ending" { "deletionTimestamp: '2026-01-01T00:00:00Z', " } else { "" };
        let ready = if how == "unready" { "False" } else { "True" };
        format!(
            "\n---\nkind: Pod\nmetadata: {{namespace: shop, name: p{i}, {owner}{ending}labels: {{app: web}}}}\nstatus: {{phase: Running, conditions: [{{type: Ready, status: '{ready}'}}]}}"
        )
    };
    all.split_whitespace().enumerate().map(pod).collect()
}

fn decide(yaml: &str) -> Decision {
    testing::decide(&testing::state(yaml), super::decide, "shop/pdb")
}

fn status(decision: &Decision) -> Value {
    let find = |a: &Action| match a {
        Action::Update { subresource: "status", patch, .. } => Some(patch["status"].clone()),
        _ => None,
    };
    decision.actions.iter().find_map(find).unwrap_or_default()
}

#[test]
fn room_is_what_is_healthy_beyond_what_must_be() {
    let cases = [
        // (spec, pods, expected pods, must be healthy, are healthy, may be disrupted)
        ("minAvailable: 2", "ready ready ready", [3, 2, 3, 1]),
        ("minAvailable: 3", "ready ready ready", [3, 3, 3, 0]),
        ("minAvailable: 2", "ready unready ending", [3, 2, 1, 0]),
        ("minAvailable: 50%", "ready ready ready", [4, 2, 3, 1]),
        ("minAvailable: 30%", "ready ready", [4, 2, 2, 0]),
        ("maxUnavailable: 1", "ready ready ready ready", [4, 3, 4, 1]),
        ("maxUnavailable: 1", "ready ready ready", [4, 3, 3, 0]),
        ("maxUnavailable: 30%", "ready ready ready ready", [4, 2, 4, 2]),
        ("maxUnavailable: 100%", "ready", [4, 0, 1, 1]),
        ("minAvailable: 1", "alone alone", [2, 1, 2, 1]),
        ("minAvailable: 0", "", [0, 0, 0, 0]),
    ];
    for (spec, has, [pods_, must, are, may]) in cases {
        let status = status(&decide(&(budget(spec, "") + &pods(has))));
        let read = |field: &str| status[field].as_i64().unwrap_or(0);
        let found = ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"].map(read);
        assert_eq!(found, [pods_, must, are, may], "{spec} | {has}");
        let condition = &status["conditions"][0];
        let wanted = if may > 0 { "SufficientPods" } else { "InsufficientPods" };
        assert_eq!(condition["reason"], wanted, "{spec} | {has}");
        assert_eq!(status["observedGeneration"], 3);
    }
}

#[test]
fn allowed_evictions_count_until_their_pods_go() {
    let recent = ", disruptedPods: {p0: '2026-01-01T00:09:00Z', gone: '2026-01-01T00:09:59Z'}";
    let decision = decide(&(budget("minAvailable: 1", recent) + &pods("ready ready ready")));
    assert_eq!(status(&decision)["disruptionsAllowed"], 1);
    assert_eq!(status(&decision)["disruptedPods"], json!({"gone": null}));
    assert_eq!(decision.again, Some(Duration::from_secs(60)));
    let old = ", disruptedPods: {p0: '2026-01-01T00:00:00Z'}";
    let decision = decide(&(budget("minAvailable: 1", old) + &pods("ready ready ready")));
    assert_eq!(status(&decision)["disruptionsAllowed"], 2);
    assert!(words(&decision)[0].starts_with("event NotDeleted"), "{:?}", words(&decision));
}

#[test]
fn what_cannot_be_known_allows_nothing() {
    let decision = decide(&(budget("maxUnavailable: 1", "") + &pods("ready odd")));
    assert_eq!(status(&decision)["conditions"][0]["reason"], "SyncFailed");
    assert_eq!(status(&decision)["conditions"][0]["message"], "found no controllers for pod \"p1\"");
    let unmanaged = words(&decide(&(budget("maxUnavailable: 1", "") + &pods("ready alone"))));
    assert!(unmanaged[0].starts_with("event UnmanagedPods"), "{unmanaged:?}");
    let none = words(&decide(&budget("minAvailable: 1", "")));
    assert_eq!(none[0], "event NoPods No matching pods found");
}
