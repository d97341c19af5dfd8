//! What the DaemonSet controller decides.

use serde_json::Value;

use super::*;
use crate::testing::{self, words};

const TEMPLATE: &str = "{metadata: {labels: {app: log}}, spec: {nodeSelector: {disk: ssd}, containers: [{name: c, image: IMAGE}]}}";

fn set(spec: &str) -> String {
    format!(
        "
kind: DaemonSet
metadata: {{namespace: shop, name: log, uid: d, generation: 2, annotations: {{deprecated.daemonset.template.generation: '2'}}}}
spec: {{revisionHistoryLimit: 10, selector: {{matchLabels: {{app: log}}}}, template: {}{spec}}}
",
        TEMPLATE.replace("IMAGE", "two")
    ) + &revision("r1", 1, "one")
        + &revision("r2", 2, "two")
}

fn revision(name: &str, number: u32, image: &str) -> String {
    let template = TEMPLATE.replace("IMAGE", image).replacen('{', "{$patch: replace, ", 1);
    format!(
        "
---
kind: ControllerRevision
metadata:
  namespace: shop
  name: log-{name}
  labels: {{app: log, controller-revision-hash: {name}}}
  ownerReferences: [{{apiVersion: apps/v1, kind: DaemonSet, name: log, uid: d, controller: true}}]
revision: {number}
data: {{spec: {{template: {template}}}}}"
    )
}

/// Nodes in words: name, and what is particular about it.
fn nodes(all: &str) -> String {
    let node = |text: &str| {
        let (name, how) = text.split_once(':').unwrap_or((text, ""));
        let labels = if how == "hdd" { "disk: hdd" } else { "disk: ssd" };
        let spec = match how {
            "repels" => "{taints: [{key: a, effect: NoSchedule}]}",
            "expels" => "{taints: [{key: a, effect: NoExecute}]}",
            "cordoned" => {
                "{unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}"
            }
            "away" => "{taints: [{key: node.kubernetes.io/unreachable, effect: NoExecute}]}",
            _ => "{}",
        };
        format!(
            "\n---\nkind: Node\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec: {spec}\nstatus: {{conditions: [{{type: Ready, status: 'True'}}]}}"
        )
    };
    all.split_whitespace().map(node).collect()
}

/// Pods in words: node, revision, how they are. The later in the list, the younger.
fn pods(all: &str) -> String {
    all.split_whitespace().enumerate().map(|(i, text)| pod(i, text)).collect()
}

fn pod(i: usize, text: &str) -> String {
    let parts: Vec<&str> = text.split(':').collect();
    let [node, revision, how] = parts[..] else { panic!("{text}") };
    let ready = |is: &str, since: &str| {
        format!(
            "{{phase: Running, conditions: [{{type: Ready, status: '{is}', lastTransitionTime: '2026-01-01T00:{since}Z'}}]}}"
        )
    };
    let status = match how {
        "ready" | "ending" => ready("True", "00:00"),
        "new" => ready("True", "09:58"),
        "unready" => ready("False", "00:00"),
        "pending" => "{phase: Pending}".into(),
        "failed" => "{phase: Failed}".into(),
        "done" => "{phase: Succeeded}".into(),
        other => panic!("{other}"),
    };
    let ending = if how == "ending" { "\n  deletionTimestamp: '2026-01-01T00:00:00Z'" } else { "" };
    let bound = if how == "pending" {
        format!(
            "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{{matchFields: [{{key: metadata.name, operator: In, values: [{node}]}}]}}]}}}}}}"
        )
    } else {
        format!("nodeName: {node}")
    };
    format!(
        "
---
kind: Pod
metadata:
  namespace: shop
  name: {node}-{revision}-{i}{ending}
  creationTimestamp: '2026-01-01T00:00:{i:02}Z'
  labels: {{app: log, controller-revision-hash: {revision}}}
  ownerReferences: [{{apiVersion: apps/v1, kind: DaemonSet, name: log, uid: d, controller: true}}]
spec: {{containers: [], {bound}}}
status: {status}"
    )
}

fn decide(yaml: &str) -> Decision {
    testing::decide(&testing::state(yaml), super::decide, "shop/log")
}

/// What happens to pods: `+n1` is created for a node, `-n1-r1-0` deleted.
fn steps(decision: &Decision) -> String {
    let step = |a: &Action| match a {
        Action::Create { body, .. } => {
            let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
            let terms = body.pointer(terms)?;
            assert_eq!(body["metadata"]["labels"][HASH], "r2");
            Some(format!("+{}", terms[0]["matchFields"][0]["values"][0].as_str()?))
        }
        Action::Delete { kind: crate::object::Kind::Pod, key, .. } => Some(format!("-{}", key.name)),
        _ => None,
    };
    decision.actions.iter().filter_map(step).collect::<Vec<_>>().join(" ")
}

fn status(decision: &Decision) -> Value {
    let find = |a: &Action| match a {
        Action::Update { subresource: "status", patch, .. } => Some(patch["status"].clone()),
        _ => None,
    };
    decision.actions.iter().find_map(find).unwrap_or_default()
}

#[test]
fn each_node_that_fits_has_one_pod() {
    let cases = [
        // (nodes, pods, steps)
        ("n1 n2 n3:hdd", "", "+n1 +n2"),
        ("n1 n2:repels n3:expels n4:cordoned n5:away", "", "+n1 +n4 +n5"),
        (
            "n1:repels n2:expels n3:hdd n4:away",
            "n1:r2:ready n2:r2:ready n3:r2:ready n4:r2:ready",
            "-n2-r2-1 -n3-r2-2",
        ),
        ("n1", "n1:r2:pending", ""),
        ("n1", "gone:r2:pending", "+n1 -gone-r2-0"),
        ("n1", "n1:r2:ready gone:r2:ready", ""),
        ("n1 n2", "n1:r2:failed n2:r2:done", "-n1-r2-0 -n2-r2-1"),
        ("n1", "n1:r2:ready n1:r2:ready", "-n1-r2-1"),
        ("n1", "n1:r2:ending", ""),
        ("n1", "n1:r2:ready", ""),
    ];
    for (has, runs, wanted) in cases {
        assert_eq!(steps(&decide(&(set("") + &nodes(has) + &pods(runs)))), wanted, "{has} | {runs}");
    }
}

#[test]
fn updates_keep_to_what_may_be_unavailable_or_surge() {
    let rolling =
        |fields: &str| format!(", updateStrategy: {{type: RollingUpdate, rollingUpdate: {{{fields}}}}}");
    let old = "n1:r1:ready n2:r1:ready n3:r1:ready";
    let one = rolling("maxUnavailable: 1, maxSurge: 0");
    let surge = rolling("maxUnavailable: 0, maxSurge: 1");
    let cases = [
        (one.clone(), old, "-n1-r1-0"),
        (one.clone(), "n1:r2:unready n2:r1:ready n3:r1:ready", ""),
        (one.clone(), "n1:r1:ending n2:r1:ready n3:r1:ready", ""),
        (one.clone(), "n1:r2:unready n2:r1:unready n3:r1:ready", "-n2-r1-1"),
        (one.clone(), "n1:r2:ready n2:r1:ready n3:r1:ready", "-n2-r1-1"),
        (one + ", minReadySeconds: 10", "n1:r2:new n2:r1:ready n3:r1:ready", ""),
        (rolling("maxUnavailable: 50%, maxSurge: 0"), old, "-n1-r1-0 -n2-r1-1"),
        (", updateStrategy: {type: OnDelete}".into(), old, ""),
        (surge.clone(), old, "+n1"),
        (surge.clone(), "n1:r1:ready n2:r1:ready n3:r1:ready n1:r2:unready", ""),
        (surge.clone(), "n1:r1:ready n2:r1:ready n3:r1:ready n1:r2:ready", "-n1-r1-0"),
        (surge.clone(), "n1:r1:unready n2:r1:ready n3:r1:ready n1:r2:unready", "-n1-r1-0"),
        (surge.clone(), "n1:r1:unready n2:r1:unready n3:r1:ready", "+n1 +n2 +n3"),
        (surge, "n1:r2:ready n2:r1:ready n3:r1:ready", "+n2"),
    ];
    for (spec, runs, wanted) in cases {
        let yaml = set(&spec) + &nodes("n1 n2 n3") + &pods(runs);
        assert_eq!(steps(&decide(&yaml)), wanted, "{spec} | {runs}");
    }
}

#[test]
fn a_pod_is_pinned_and_tolerates_what_daemons_must() {
    let decision = decide(&(set("") + &nodes("n1")));
    let Action::Create { body, .. } = &decision.actions[0] else { panic!("a creation") };
    assert_eq!(body["metadata"]["generateName"], "log-");
    assert_eq!(body["metadata"]["labels"]["pod-template-generation"], "2");
    assert_eq!(body["spec"]["nodeName"], Value::Null, "the scheduler binds it");
    let tolerations = body["spec"]["tolerations"].as_array().unwrap();
    let has = |key: &str, effect: &str| {
        tolerations.iter().any(|t| {
            t["key"] == format!("node.kubernetes.io/{key}")
                && t["effect"] == effect
                && t["operator"] == "Exists"
        })
    };
    assert!(
        has("not-ready", "NoExecute")
            && has("unreachable", "NoExecute")
            && has("unschedulable", "NoSchedule")
    );
    assert!(!has("network-unavailable", "NoSchedule"), "only in the host's network");
}

#[test]
fn the_status_counts_nodes() {
    let yaml = set("") + &nodes("n1 n2 n3 n4:hdd n5:repels") + &pods("n1:r2:ready n2:r1:unready n5:r1:ready");
    let expected = serde_json::json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 2,
        "numberMisscheduled": 1, "numberReady": 1, "updatedNumberScheduled": 1, "numberAvailable": 1,
        "numberUnavailable": 2, "observedGeneration": 2});
    assert_eq!(status(&decide(&yaml)), expected);
}

#[test]
fn failures_are_told_and_not_replaced_in_a_hurry() {
    let yaml = set("") + &nodes("n1") + &pods("n1:r2:failed");
    let told = words(&decide(&yaml));
    assert!(
        told.contains(
            &"event FailedDaemonPod Found failed daemon pod shop/n1-r2-0 on node n1, will try to kill it"
                .to_owned()
        ),
        "{told:?}"
    );
    let fresh = yaml
        .replace("creationTimestamp: '2026-01-01T00:00:00Z'", "creationTimestamp: '2026-01-01T00:10:00Z'");
    let decision = decide(&fresh);
    assert_eq!((steps(&decision).as_str(), decision.again), ("", Some(Duration::from_secs(1))));
}

#[test]
fn everything_is_no_selector() {
    let yaml = set("").replace("selector: {matchLabels: {app: log}}", "selector: {}");
    assert_eq!(
        words(&decide(&(yaml + &nodes("n1")))),
        ["event SelectingAll This daemon set is selecting all pods. A non-empty selector is required."]
    );
}
