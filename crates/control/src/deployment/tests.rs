//! What the Deployment controller decides.

use super::*;
use crate::testing::{self, words};
use serde_json::Value;

const TEMPLATE: &str = "{metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: 'web:2'}]}}";
const OLD: &str = "{metadata: {labels: {app: web, pod-template-hash: old}}, spec: {containers: [{name: c, image: 'web:1'}]}}";
const NEW: &str = "{metadata: {labels: {app: web, pod-template-hash: new}}, spec: {containers: [{name: c, image: 'web:2'}]}}";

fn deployment(replicas: u32, rest: &str) -> String {
    format!(
        "
kind: Deployment
metadata: {{namespace: shop, name: web, uid: d, generation: 2, annotations: {{deployment.kubernetes.io/revision: '2'}}}}
spec: {{replicas: {replicas}, progressDeadlineSeconds: 600, revisionHistoryLimit: 10, selector: {{matchLabels: {{app: web}}}}, template: {TEMPLATE}{rest}}}
status: {{observedGeneration: 2, conditions: [{{type: Progressing, status: 'True', reason: ReplicaSetUpdated, lastUpdateTime: '2026-01-01T00:09:00Z', lastTransitionTime: '2026-01-01T00:09:00Z'}}]}}
"
    )
}

/// A ReplicaSet: name, template, revision, size, pods, available, and the desired replicas it was sized for.
fn set(name: &str, template: &str, revision: u32, size: u32, available: u32, desired: u32) -> String {
    let max = desired + desired.div_ceil(4);
    format!(
        "
---
kind: ReplicaSet
metadata:
  namespace: shop
  name: {name}
  generation: 1
  creationTimestamp: '2026-01-01T00:00:0{revision}Z'
  labels: {{app: web}}
  annotations: {{deployment.kubernetes.io/revision: '{revision}', deployment.kubernetes.io/desired-replicas: '{desired}', deployment.kubernetes.io/max-replicas: '{max}'}}
  ownerReferences: [{{apiVersion: apps/v1, kind: Deployment, name: web, uid: d, controller: true}}]
spec: {{replicas: {size}, selector: {{matchLabels: {{app: web}}}}, template: {template}}}
status: {{replicas: {size}, readyReplicas: {available}, availableReplicas: {available}, observedGeneration: 1}}"
    )
}

fn decide(yaml: &str) -> Decision {
    testing::decide(&testing::state(yaml), super::decide, "shop/web")
}

/// New sizes of ReplicaSets, in order.
fn sizes(decision: &Decision) -> Vec<(String, i64)> {
    let size = |a: &Action| match a {
        Action::Update { key, patch, subresource: "", .. } => {
            Some((key.name.to_string(), patch["spec"]["replicas"].as_i64()?))
        }
        _ => None,
    };
    decision.actions.iter().filter_map(size).collect()
}

fn status(decision: &Decision) -> Value {
    let find = |a: &Action| match a {
        Action::Update { subresource: "status", patch, .. } => Some(patch["status"].clone()),
        _ => None,
    };
    decision.actions.iter().find_map(find).unwrap_or_default()
}

fn condition(decision: &Decision, kind: &str) -> Value {
    let status = status(decision);
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|c| c["type"] == kind).unwrap_or_default()
}

#[test]
fn a_new_deployment_gets_a_replica_set_with_its_hash() {
    let fresh = deployment(3, "")
        .split("status:")
        .next()
        .unwrap()
        .replace(", annotations: {deployment.kubernetes.io/revision: '2'}", "");
    let decision = decide(&fresh);
    let Action::Create { body, .. } = &decision.actions[0] else { panic!("a creation") };
    let name = body["metadata"]["name"].as_str().unwrap();
    let hash = name.strip_prefix("web-").unwrap();
    assert_eq!(body["metadata"]["labels"]["pod-template-hash"], hash);
    assert_eq!(body["spec"]["selector"]["matchLabels"]["pod-template-hash"], hash);
    assert_eq!(body["spec"]["template"]["metadata"]["labels"]["pod-template-hash"], hash);
    assert_eq!(body["spec"]["replicas"], 3);
    let annotations = &body["metadata"]["annotations"];
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "1");
    assert_eq!(annotations["deployment.kubernetes.io/max-replicas"], "4");
    assert_eq!(
        words(&decision)[1],
        format!("event ScalingReplicaSet Scaled up replica set {name} from 0 to 3")
    );
    assert_eq!(condition(&decision, "Progressing")["reason"], "NewReplicaSetCreated");
    assert_eq!(condition(&decision, "Available")["reason"], "MinimumReplicasUnavailable");
    assert_eq!(status(&decision)["observedGeneration"], 2);
}

#[test]
fn a_rollout_surges_first() {
    let decision = decide(&(deployment(4, "") + &set("web-old", OLD, 1, 4, 4, 4)));
    let Action::Create { body, .. } = &decision.actions[0] else { panic!("a creation") };
    assert_eq!(body["spec"]["replicas"], 1, "4 + 25% - 4");
    assert_eq!(body["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
}

#[test]
fn old_pods_go_as_new_ones_become_available() {
    let step = |new_size, new_available, old_size| {
        let yaml = deployment(4, "")
            + &set("web-old", OLD, 1, old_size, old_size, 4)
            + &set("web-new", NEW, 2, new_size, new_available, 4);
        sizes(&decide(&yaml))
    };
    assert_eq!(step(1, 0, 4), [("web-old".to_owned(), 3)], "one may be unavailable");
    assert_eq!(step(1, 0, 3), [("web-new".to_owned(), 2)]);
    assert_eq!(step(2, 0, 3), [], "nothing more until one is available");
    assert_eq!(step(2, 1, 3), [("web-old".to_owned(), 2)]);
    assert_eq!(step(4, 4, 1), [("web-old".to_owned(), 0)]);
    assert_eq!(step(4, 4, 0), []);
}

#[test]
fn unhealthy_old_pods_go_first() {
    let yaml = deployment(4, "") + &set("web-old", OLD, 1, 4, 1, 4) + &set("web-new", NEW, 2, 1, 0, 4);
    assert_eq!(sizes(&decide(&yaml)), [("web-old".to_owned(), 3)]);
}

#[test]
fn limits_are_rounded_in_favour_of_progress() {
    let of = |strategy: &str, replicas| {
        let yaml =
            deployment(replicas, &format!(", strategy: {{type: RollingUpdate, rollingUpdate: {strategy}}}"));
        let state = testing::state(&yaml);
        let d = state.deployments.get(&ObjectName::new("shop", "web")).unwrap().clone();
        limits(d.spec.as_ref().unwrap())
    };
    assert_eq!(of("{maxSurge: 25%, maxUnavailable: 25%}", 3), (1, 0));
    assert_eq!(of("{maxSurge: 0, maxUnavailable: 10%}", 3), (0, 1), "never both zero");
    assert_eq!(of("{maxSurge: 2, maxUnavailable: 50%}", 5), (2, 2));
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let recreate = deployment(2, ", strategy: {type: Recreate}");
    let running = recreate.clone() + &set("web-old", OLD, 1, 2, 2, 2);
    assert_eq!(sizes(&decide(&running)), [("web-old".to_owned(), 0)]);
    let ending = recreate + &set("web-old", OLD, 1, 0, 0, 2);
    let pod = "\n---\nkind: Pod\nmetadata: {namespace: shop, name: p, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-old, uid: web-old-uid, controller: true}]}\nstatus: {phase: Running}";
    assert!(!words(&decide(&(ending.clone() + pod))).iter().any(|w| w.starts_with("create")));
    let Action::Create { body, .. } = &decide(&ending).actions[0] else { panic!("a creation") };
    assert_eq!(body["spec"]["replicas"], 2);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let yaml = deployment(8, "") + &set("web-old", OLD, 1, 3, 3, 4) + &set("web-new", NEW, 2, 2, 2, 4);
    assert_eq!(sizes(&decide(&yaml)), [("web-old".to_owned(), 6), ("web-new".to_owned(), 4)]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let yaml = deployment(5, ", paused: true") + &set("web-old", OLD, 1, 4, 4, 4);
    let decision = decide(&yaml);
    assert_eq!(sizes(&decision), [("web-old".to_owned(), 5)]);
    assert_eq!(condition(&decision, "Progressing")["reason"], "DeploymentPaused");
    assert!(!words(&decision).iter().any(|w| w.starts_with("create")));
}

#[test]
fn rolling_back_gives_an_old_set_a_new_revision() {
    let yaml = deployment(4, "") + &set("web-new", NEW, 1, 0, 0, 4) + &set("web-old", OLD, 2, 4, 4, 4);
    let said = words(&decide(&yaml));
    assert!(said[0].starts_with("update ReplicaSet web-new"), "{said:?}");
    assert!(said[0].contains(r#""deployment.kubernetes.io/revision":"3""#), "{}", said[0]);
    assert!(said[0].contains(r#""deployment.kubernetes.io/revision-history":"1""#), "{}", said[0]);
    assert!(
        said[1].contains(r#""deployment.kubernetes.io/revision":"3""#),
        "the Deployment follows: {said:?}"
    );
}

#[test]
fn completion_and_lateness_are_told_in_kubectls_words() {
    let yaml = deployment(2, "") + &set("web-new", NEW, 2, 2, 2, 2);
    let decision = decide(&yaml);
    assert_eq!(condition(&decision, "Progressing")["reason"], "NewReplicaSetAvailable");
    assert_eq!(
        condition(&decision, "Progressing")["message"],
        "ReplicaSet \"web-new\" has successfully progressed."
    );
    assert_eq!(condition(&decision, "Available")["status"], "True");
    assert_eq!(status(&decision)["updatedReplicas"], 2);

    let stuck = deployment(2, "").replace("progressDeadlineSeconds: 600", "progressDeadlineSeconds: 30");
    let decision = decide(&(stuck.clone() + &set("web-new", NEW, 2, 2, 0, 2)));
    let progressing = condition(&decision, "Progressing");
    // Two pods appeared since the last look: that is progress.
    assert_eq!(progressing["reason"], "ReplicaSetUpdated");
    let stuck =
        stuck.replace("observedGeneration: 2", "observedGeneration: 2, replicas: 2, updatedReplicas: 2");
    let progressing = condition(&decide(&(stuck + &set("web-new", NEW, 2, 2, 0, 2))), "Progressing");
    assert_eq!(
        (&progressing["reason"], &progressing["status"]),
        (&"ProgressDeadlineExceeded".into(), &"False".into())
    );
}

#[test]
fn it_comes_back_when_the_deadline_passes() {
    let waiting = deployment(2, "")
        .replace("observedGeneration: 2", "observedGeneration: 2, replicas: 2, updatedReplicas: 2");
    let decision = decide(&(waiting + &set("web-new", NEW, 2, 2, 0, 2)));
    assert_eq!(decision.again, Some(std::time::Duration::from_secs(541)));
}

#[test]
fn old_sets_beyond_the_history_are_deleted() {
    let limited = deployment(2, "").replace("revisionHistoryLimit: 10", "revisionHistoryLimit: 1");
    let other = OLD.replace("web:1", "web:0");
    let yaml = limited
        + &set("web-a", &other, 1, 0, 0, 2)
        + &set("web-b", OLD, 2, 0, 0, 2)
        + &set("web-new", NEW, 3, 2, 2, 2);
    assert!(words(&decide(&yaml)).contains(&"delete ReplicaSet web-a".to_owned()));
    assert!(!words(&decide(&yaml)).contains(&"delete ReplicaSet web-b".to_owned()));
}

#[test]
fn a_taken_name_counts_as_collision() {
    let state = testing::state(&deployment(1, ""));
    let d = state.deployments.get(&ObjectName::new("shop", "web")).unwrap().clone();
    let name = format!("web-{}", crate::template::hash(&d.spec.as_ref().unwrap().template, None));
    let foreign = set(&name, OLD, 1, 0, 0, 1).replace("uid: d,", "uid: other,");
    let decision = decide(&(deployment(1, "") + &foreign));
    assert_eq!(status(&decision)["collisionCount"], 1);
    assert!(!words(&decision).iter().any(|w| w.starts_with("create")));
}

#[test]
fn nothing_to_do_says_nothing() {
    let done = deployment(2, "").replace(
        "observedGeneration: 2, conditions: [{type: Progressing, status: 'True', reason: ReplicaSetUpdated,",
        "observedGeneration: 2, replicas: 2, updatedReplicas: 2, readyReplicas: 2, availableReplicas: 2, conditions: [{type: Available, status: 'True', reason: MinimumReplicasAvailable}, {type: Progressing, status: 'True', reason: NewReplicaSetAvailable,",
    );
    assert_eq!(words(&decide(&(done + &set("web-new", NEW, 2, 2, 2, 2)))), Vec::<String>::new());
}

#[test]
fn an_orphan_that_matches_is_adopted() {
    let orphan = set("web-old", OLD, 1, 4, 4, 4).split("  ownerReferences").next().unwrap().to_owned()
        + "spec: {replicas: 4, selector: {matchLabels: {app: web}}, template: "
        + OLD
        + "}";
    let said = words(&decide(&(deployment(4, "") + &orphan)));
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("update ReplicaSet web-old") && said[0].contains("ownerReferences"));
}
