//! What the StatefulSet controller decides.

use serde_json::Value;

use super::*;
use crate::testing::{self, words};

/// `r1` and `r2` are the old and the new revision; the set's template is `r2`'s.
const TEMPLATE: &str = "{metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: IMAGE}]}}";

fn set(replicas: u32, spec: &str, status: &str) -> String {
    format!(
        "
kind: StatefulSet
metadata: {{namespace: shop, name: web, uid: s, generation: 2, annotations: {{why: because}}}}
spec: {{replicas: {replicas}, serviceName: peers, revisionHistoryLimit: 10, selector: {{matchLabels: {{app: web}}}}, template: {}{spec}}}
status: {{observedGeneration: 2, replicas: 0{status}}}
",
        TEMPLATE.replace("IMAGE", "two")
    )
}

fn revision(name: &str, number: u32, image: &str) -> String {
    let template = TEMPLATE.replace("IMAGE", image).replacen('{', "{$patch: replace, ", 1);
    format!(
        "
---
kind: ControllerRevision
metadata:
  namespace: shop
  name: {name}
  labels: {{app: web, controller-revision-hash: {name}}}
  ownerReferences: [{{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: s, controller: true}}]
revision: {number}
data: {{spec: {{template: {template}}}}}"
    )
}

fn both() -> String {
    revision("r1", 1, "one") + &revision("r2", 2, "two")
}

/// Pods in words: ordinal, revision, and how they are (`ready`, `new`: ready since a moment ago, `unready`,
/// `pending`, `failed`, `ending`).
fn pods(all: &str) -> String {
    all.split_whitespace().map(pod).collect()
}

fn pod(text: &str) -> String {
    let parts: Vec<&str> = text.split(':').collect();
    let [ordinal, revision, how] = parts[..] else { panic!("{text}") };
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
        other => panic!("{other}"),
    };
    let ending = if how == "ending" { "\n  deletionTimestamp: '2026-01-01T00:00:00Z'" } else { "" };
    format!(
        "
---
kind: Pod
metadata:
  namespace: shop
  name: web-{ordinal}{ending}
  creationTimestamp: '2026-01-01T00:00:00Z'
  labels: {{app: web, controller-revision-hash: {revision}, statefulset.kubernetes.io/pod-name: web-{ordinal}}}
  ownerReferences: [{{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: s, controller: true}}]
spec: {{containers: []}}
status: {status}"
    )
}

fn decide(yaml: &str) -> Decision {
    testing::decide(&testing::state(yaml), super::decide, "shop/web")
}

/// What happens to pods: `+0@r1` is created from r1, `-0` deleted.
fn steps(decision: &Decision) -> String {
    let step = |a: &Action| match a {
        Action::Create { kind: crate::object::Kind::Pod, body, .. } => {
            let name = body["metadata"]["name"].as_str()?.strip_prefix("web-")?.to_owned();
            Some(format!("+{name}@{}", body["metadata"]["labels"][HASH].as_str()?))
        }
        Action::Delete { kind: crate::object::Kind::Pod, key, .. } => {
            Some(format!("-{}", key.name.strip_prefix("web-")?))
        }
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

const PARALLEL: &str = ", podManagementPolicy: Parallel";
const CURRENT_R1: &str = ", currentRevision: r1, updateRevision: r2, currentReplicas: 3";

#[test]
fn pods_come_and_go_in_order() {
    let cases = [
        // (replicas, more of the spec, pods, steps)
        (3, "", "", "+0@r2"),
        (3, "", "0:r2:unready", ""),
        (3, "", "0:r2:ready", "+1@r2"),
        (3, "", "0:r2:ready 1:r2:ready 2:r2:ready", ""),
        (3, "", "0:r2:ready 2:r2:ready", "+1@r2"),
        (3, "", "0:r2:failed", "-0"),
        (3, "", "0:r2:ending 1:r2:ready 2:r2:ready", ""),
        (3, ", minReadySeconds: 10", "0:r2:new", ""),
        (3, ", minReadySeconds: 1", "0:r2:new", "+1@r2"),
        (3, PARALLEL, "", "+0@r2 +1@r2 +2@r2"),
        (3, PARALLEL, "1:r2:unready", "+0@r2 +2@r2"),
        (3, PARALLEL, "0:r2:failed 1:r2:ready", "-0 +2@r2"),
        // Down, the highest first.
        (1, "", "0:r2:ready 1:r2:ready 2:r2:ready", "-2"),
        (1, "", "0:r2:ready 1:r2:ready 2:r2:ending", ""),
        (1, "", "0:r2:unready 1:r2:ready 2:r2:ready", ""),
        (1, "", "0:r2:ready 1:r2:unready 2:r2:ready", "-2"),
        (1, "", "0:r2:ready 1:r2:unready 2:r2:unready", ""),
        (1, "", "0:r2:ready 1:r2:unready", "-1"),
        (1, PARALLEL, "0:r2:ready 1:r2:unready 2:r2:ready", "-2 -1"),
        (0, "", "0:r2:unready", "-0"),
        // Other first ordinals.
        (2, ", ordinals: {start: 5}", "", "+5@r2"),
        (2, ", ordinals: {start: 5}", "5:r2:ready", "+6@r2"),
        (2, ", ordinals: {start: 1}", "0:r2:ready 1:r2:ready 2:r2:ready", "-0"),
    ];
    for (replicas, spec, has, wanted) in cases {
        let yaml = set(replicas, spec, "") + &both() + &pods(has);
        assert_eq!(steps(&decide(&yaml)), wanted, "{replicas} {spec} {has}");
    }
}

#[test]
fn updates_roll_from_the_last_pod_to_the_partition() {
    let rolling =
        |fields: &str| format!(", updateStrategy: {{type: RollingUpdate, rollingUpdate: {{{fields}}}}}");
    let from = |n: u32| rolling(&format!("partition: {n}"));
    let old = "0:r1:ready 1:r1:ready 2:r1:ready";
    let cases = [
        (from(0), old, "-2"),
        (from(0), "0:r1:ready 1:r1:ready 2:r1:ending", ""),
        (from(0), "0:r1:ready 1:r1:ready", "+2@r2"),
        (from(0), "0:r1:ready 1:r1:ready 2:r2:unready", ""),
        (from(0), "0:r1:ready 1:r1:ready 2:r2:ready", "-1"),
        (from(2), old, "-2"),
        (from(2), "0:r1:ready 1:r1:ready 2:r2:ready", ""),
        (from(2), "1:r1:ready 2:r2:ready", "+0@r1"),
        (from(3), old, ""),
        (from(0) + PARALLEL, "0:r1:ready 1:r1:unready 2:r2:ready", "-1"),
        (", updateStrategy: {type: OnDelete}".into(), old, ""),
        (", updateStrategy: {type: OnDelete}".into(), "0:r1:ready 1:r1:ready", "+2@r2"),
        (rolling("partition: 0, maxUnavailable: 2"), old, "-2 -1"),
        (rolling("partition: 2, maxUnavailable: 3"), old, "-2"),
        (rolling("partition: 0, maxUnavailable: 10%"), old, "-2"),
        (rolling("maxUnavailable: 2") + PARALLEL, "0:r1:ready 1:r1:ready 2:r1:unready", "-2"),
        // Without a partition, as many as are settled come back as they were.
        (", updateStrategy: {type: RollingUpdate}".into(), "1:r1:ready 2:r1:ready", "+0@r1"),
    ];
    for (spec, has, wanted) in cases {
        let yaml = set(3, &spec, CURRENT_R1) + &both() + &pods(has);
        assert_eq!(steps(&decide(&yaml)), wanted, "{spec} {has}");
    }
}

#[test]
fn the_status_counts_pods_by_revision_and_settles_when_all_are_new() {
    let middle = decide(&(set(3, "", CURRENT_R1) + &both() + &pods("0:r1:ready 1:r1:ready 2:r2:unready")));
    let expected = serde_json::json!({"replicas": 3, "readyReplicas": 2, "availableReplicas": 2,
        "currentReplicas": 2, "updatedReplicas": 1, "collisionCount": 0});
    assert_eq!(status(&middle), expected, "the revisions stay");
    let done = status(&decide(&(set(2, "", CURRENT_R1) + &both() + &pods("0:r2:ready 1:r2:ready"))));
    assert_eq!((&done["currentRevision"], &done["currentReplicas"]), (&"r2".into(), &2.into()));
    let first = status(&decide(&(set(1, "", "") + &revision("r2", 2, "two"))));
    assert_eq!((&first["currentRevision"], &first["updateRevision"]), (&"r2".into(), &"r2".into()));
}

#[test]
fn a_pod_knows_its_name_its_service_and_its_claims() {
    let claims = ", volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce]}}]";
    let decision = decide(&(set(1, claims, "") + &both()));
    assert_eq!(words(&decision)[..2], ["create PersistentVolumeClaim data-web-0", "create Pod web-0"]);
    let Action::Create { body, report, .. } = &decision.actions[1] else { panic!("a creation") };
    let meta = &body["metadata"];
    assert_eq!(meta["generateName"], Value::Null);
    assert_eq!(meta["labels"]["statefulset.kubernetes.io/pod-name"], "web-0");
    assert_eq!(meta["labels"]["apps.kubernetes.io/pod-index"], "0");
    assert_eq!(body["spec"]["hostname"], "web-0");
    assert_eq!(body["spec"]["subdomain"], "peers");
    assert_eq!(body["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "data-web-0");
    let said = report.as_ref().unwrap().done.as_ref().unwrap();
    assert_eq!(said.1, "Create Pod web-0 in StatefulSet web successful");
}

#[test]
fn claims_belong_to_whom_the_retention_policy_says() {
    let claim = |owners: &str| {
        format!(
            "\n---\nkind: PersistentVolumeClaim\nmetadata: {{namespace: shop, name: data-web-1, ownerReferences: [{owners}]}}\n"
        )
    };
    let of_set = "{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: s, controller: true}";
    let of_pod = "{apiVersion: v1, kind: Pod, name: web-1, uid: web-1-uid, controller: true}";
    let stranger = "{apiVersion: v1, kind: Pod, name: web-1, uid: other, controller: true}";
    let cases = [
        // (replicas, whenDeleted, whenScaled, owners before, after; `same` for no change)
        (2, "Retain", "Retain", "", "same"),
        (2, "Retain", "Retain", of_set, ""),
        (2, "Delete", "Retain", "", "StatefulSet"),
        (2, "Delete", "Retain", of_set, "same"),
        (2, "Retain", "Delete", "", "same"),
        (1, "Retain", "Delete", "", "Pod"),
        (1, "Delete", "Delete", of_set, "Pod"),
        (2, "Delete", "Delete", of_pod, "StatefulSet"),
        (1, "Delete", "Delete", stranger, "same"),
        (2, "Delete", "Retain", "{apiVersion: v1, kind: X, name: x, uid: x, controller: true}", "same"),
    ];
    for (replicas, deleted, scaled, before, after) in cases {
        let spec = format!(
            ", volumeClaimTemplates: [{{metadata: {{name: data}}}}], persistentVolumeClaimRetentionPolicy: {{whenDeleted: {deleted}, whenScaled: {scaled}}}"
        );
        let yaml = set(replicas, &spec, "") + &both() + &claim(before) + &pods("0:r2:ready 1:r2:ready");
        let found = decide(&yaml).actions.into_iter().find_map(|a| match a {
            Action::Update { kind: crate::object::Kind::PersistentVolumeClaim, patch, .. } => {
                let owners = patch["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
                Some(owners.iter().filter_map(|o| o["kind"].as_str()).collect::<Vec<_>>().join(" "))
            }
            _ => None,
        });
        assert_eq!(found.as_deref().unwrap_or("same"), after, "{replicas} {deleted} {scaled} {before}");
    }
    let spec = ", volumeClaimTemplates: [{metadata: {name: data}}], persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}";
    let stale = set(2, spec, "") + &both() + &claim(of_pod) + &pods("0:r2:ready");
    assert_eq!(steps(&decide(&stale)), "", "a claim of an earlier pod is waited for");
}

#[test]
fn a_pod_that_its_node_refuses_comes_again_after_a_second() {
    let yaml = set(1, "", "") + &both() + &pods("0:r2:failed");
    assert_eq!((steps(&decide(&yaml)).as_str(), decide(&yaml).again), ("-0", None));
    let young = yaml
        .replace("creationTimestamp: '2026-01-01T00:00:00Z'", "creationTimestamp: '2026-01-01T00:10:00Z'");
    assert_eq!((steps(&decide(&young)).as_str(), decide(&young).again), ("", Some(Duration::from_secs(1))));
}

#[test]
fn templates_have_revisions() {
    let fresh = decide(&set(1, "", ""));
    let Action::Create { body, .. } = &fresh.actions[0] else { panic!("a creation") };
    assert_eq!(body["revision"], 1);
    assert_eq!(body["data"]["spec"]["template"]["$patch"], "replace");
    assert_eq!(body["data"]["spec"]["template"]["spec"]["containers"][0]["image"], "two");
    assert_eq!(body["metadata"]["annotations"]["why"], "because");
    let name = body["metadata"]["name"].as_str().unwrap();
    let hash = body["metadata"]["labels"][HASH].as_str().unwrap();
    assert_eq!(name, format!("web-{hash}"));
    assert_eq!(words(&fresh).len(), 1, "and nothing more until it is there");

    let undone = set(1, "", "") + &revision("r1", 1, "two") + &revision("r2", 2, "one");
    assert_eq!(words(&decide(&undone)), [r#"update ControllerRevision r1 {"revision":3}"#]);

    let foreign = set(1, "", "") + &revision(name, 1, "other").replace("uid: s,", "uid: x,");
    assert_eq!(status(&decide(&foreign))["collisionCount"], 1);

    let mut long = set(1, ", revisionHistoryLimit: 1", ", currentRevision: r4")
        .replace("revisionHistoryLimit: 10, ", "");
    for (i, name) in ["r1", "r2", "r3", "r4"].iter().enumerate() {
        long += &revision(name, i as u32, name);
    }
    long += &revision("r5", 9, "two");
    long += &pods("0:r1:ready");
    let deleted: Vec<_> = words(&decide(&long)).into_iter().filter(|w| w.starts_with("delete C")).collect();
    assert_eq!(deleted, ["delete ControllerRevision r2"], "r1 has a pod, r4 is settled, one is kept");
}

#[test]
fn pods_are_adopted_by_name_and_named_again() {
    let orphan = pod("0:r2:ready").split("  ownerReferences").next().unwrap().to_owned();
    let orphan = orphan + "spec: {containers: []}\n";
    let said = words(&decide(&(set(1, "", "") + &both() + &orphan)));
    assert!(said.len() == 1 && said[0].starts_with("update Pod web-0"), "{said:?}");
    let stranger = orphan.replace("web-0", "web-x");
    assert_eq!(steps(&decide(&(set(1, "", "") + &both() + &stranger))), "+0@r2");
    let unnamed = pods("0:r2:ready").replace(", statefulset.kubernetes.io/pod-name: web-0", "");
    let said = words(&decide(&(set(1, "", "") + &both() + &unnamed)));
    assert!(said[0].contains(r#""statefulset.kubernetes.io/pod-name":"web-0""#), "{said:?}");
    let going =
        set(3, "", "").replace("generation: 2", "generation: 2, deletionTimestamp: '2026-01-01T00:00:00Z'");
    assert_eq!(steps(&decide(&(going + &both() + &pods("0:r2:ready")))), "", "nothing more is made");
}
