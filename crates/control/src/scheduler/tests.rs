//! Where pods go.

use super::*;
use crate::state::State;
use crate::testing::{self, words};

fn node(name: &str, rest: &str) -> String {
    format!(
        "
---
kind: Node
metadata: {{name: {name}, labels: {{kubernetes.io/hostname: {name}}}}}
spec: {{{rest}}}
status: {{allocatable: {{cpu: '2', memory: 1Gi, pods: '10'}}, conditions: [{{type: Ready, status: 'True'}}]}}"
    )
}

fn pod(name: &str, spec: &str) -> String {
    format!(
        "\n---\nkind: Pod\nmetadata: {{namespace: shop, name: {name}}}\nspec: {{containers: [{{name: c}}], {spec}}}"
    )
}

fn owned(name: &str, owner: &str, node: &str) -> String {
    pod(name, &format!("nodeName: '{node}'")).replace(
        "namespace: shop",
        &format!("namespace: shop, ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: {owner}, uid: {owner}-uid, controller: true}}]"),
    )
}

fn place(state: &State, name: &str) -> Vec<String> {
    words(&testing::decide(state, decide, &format!("shop/{name}")))
}

#[test]
fn a_pod_is_bound_and_told() {
    let state = testing::state(&(node("n1", "") + &pod("a", "")));
    assert_eq!(place(&state, "a"), ["bind a to n1", "event Scheduled Successfully assigned shop/a to n1"]);
}

#[test]
fn pods_of_one_owner_spread_even_while_they_are_being_bound() {
    let mut yaml = node("n1", "") + &node("n2", "") + &node("n3", "");
    for i in 0..9 {
        yaml += &owned(&format!("p{i}"), "web", "");
    }
    let mut state = testing::state(&yaml);
    let mut per_node: BTreeMap<String, usize> = BTreeMap::new();
    for i in 0..9 {
        let key = format!("shop/p{i}");
        for action in testing::decide(&state, decide, &key).actions {
            if let Action::Bind { pod, uid, node } = action {
                *per_node.entry(node.clone()).or_default() += 1;
                state.assumed.insert(uid, (pod, node));
            }
        }
    }
    assert_eq!(per_node.values().copied().collect::<Vec<_>>(), [3, 3, 3]);
    assert_eq!(place(&state, "p0"), Vec::<String>::new(), "it is being bound");
}

#[test]
fn reasons_are_counted_and_told_once() {
    let yaml = node("n1", "unschedulable: true")
        + &node("n2", "taints: [{key: gpu, value: a, effect: NoSchedule}]")
        + &node("n3", "")
        + &node("n4", "").replace("status: 'True'", "status: 'Unknown'")
        + &pod("a", "").replace("{name: c}", "{name: c, resources: {requests: {cpu: '3', memory: 2Gi}}}");
    let state = testing::state(&yaml);
    let said = place(&state, "a");
    let message = "0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, \
        1 node(s) had untolerated taint {gpu: a}, 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, \
        1 node(s) were unschedulable.";
    assert_eq!(said[0], format!("event FailedScheduling {message}"));
    assert!(
        said[1].contains(r#""reason":"Unschedulable""#) && said[1].contains("PodScheduled"),
        "{}",
        said[1]
    );

    let told = yaml.replace(
        "kind: Pod\n",
        &format!("kind: Pod\nstatus: {{conditions: [{{type: PodScheduled, status: 'False', reason: Unschedulable, message: '{message}'}}]}}\n"),
    );
    assert_eq!(place(&testing::state(&told), "a"), Vec::<String>::new());
    assert!(place(&testing::state(&pod("a", "")), "a")[0].contains("no nodes available to schedule pods"));
}

#[test]
fn selectors_affinity_and_tolerations_decide() {
    let nodes = node("n1", "") + &node("n2", "taints: [{key: gpu, effect: NoExecute}]");
    let go = |spec: &str| place(&testing::state(&(nodes.clone() + &pod("a", spec))), "a")[0].clone();
    assert_eq!(go("nodeSelector: {kubernetes.io/hostname: n1}"), "bind a to n1");
    assert!(
        go("nodeSelector: {kubernetes.io/hostname: n2}").contains("1 node(s) had untolerated taint {gpu: }")
    );
    assert_eq!(
        go("nodeSelector: {kubernetes.io/hostname: n2}, tolerations: [{operator: Exists}]"),
        "bind a to n2"
    );
    let terms = "tolerations: [{key: gpu, operator: Exists}], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
        {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [n1]}]}]}}}";
    assert_eq!(go(terms), "bind a to n2");
    let by_field =
        terms.replace("matchExpressions", "matchFields").replace("kubernetes.io/hostname", "metadata.name");
    assert_eq!(go(&by_field), "bind a to n2");
}

#[test]
fn a_stale_taint_of_readiness_does_not_hold_up_a_ready_node() {
    let yaml =
        node("n1", "taints: [{key: node.kubernetes.io/not-ready, effect: NoSchedule}]") + &pod("a", "");
    assert_eq!(place(&testing::state(&yaml), "a")[0], "bind a to n1");
}

#[test]
fn pods_and_ports_that_are_taken_count() {
    let mut yaml =
        node("n1", "").replace("pods: '10'", "pods: '1'") + &pod("b", "nodeName: n1") + &pod("a", "");
    assert!(place(&testing::state(&yaml), "a")[0].contains("1 Too many pods"));
    let ports = "{name: c, ports: [{containerPort: 1, hostPort: 80}]}";
    yaml = node("n1", "")
        + &pod("b", "nodeName: n1").replace("{name: c}", ports)
        + &pod("a", "").replace("{name: c}", ports);
    assert!(place(&testing::state(&yaml), "a")[0].contains("free ports"));
}

#[test]
fn less_loaded_nodes_are_preferred() {
    let heavy = pod("b", "nodeName: n1").replace("{name: c}", "{name: c, resources: {requests: {cpu: '1'}}}");
    let yaml = node("n1", "") + &node("n2", "") + &heavy + &pod("a", "");
    assert_eq!(place(&testing::state(&yaml), "a")[0], "bind a to n2");
}

#[test]
fn others_pods_and_gated_pods_wait() {
    let yaml = node("n1", "") + &pod("a", "schedulerName: other") + &pod("b", "schedulingGates: [{name: g}]");
    let state = testing::state(&yaml);
    assert_eq!(place(&state, "a"), Vec::<String>::new());
    assert!(place(&state, "b")[0].contains("SchedulingGated"));
}

#[test]
fn a_pod_waits_for_its_claims() {
    let wants = pod("a", "volumes: [{name: data, persistentVolumeClaim: {claimName: data-a}}]");
    let claim = |phase: &str| {
        format!(
            "\n---\nkind: PersistentVolumeClaim\nmetadata: {{namespace: shop, name: data-a}}\nstatus: {{phase: {phase}}}"
        )
    };
    let said = |yaml: String| place(&testing::state(&(node("n1", "") + &yaml)), "a").remove(0);
    assert_eq!(
        said(wants.clone()),
        "event FailedScheduling 0/1 nodes are available: persistentvolumeclaim \"data-a\" not found."
    );
    let unbound = said(wants.clone() + &claim("Pending"));
    assert!(
        unbound.contains(
            "unbound immediate PersistentVolumeClaims, and this cluster has no storage provisioner"
        ),
        "{unbound}"
    );
    assert_eq!(said(wants + &claim("Bound")), "bind a to n1");
}
