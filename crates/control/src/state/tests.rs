//! What changes touch.

use super::*;
use crate::task::Controller;

fn object(yaml: &str) -> Object {
    crate::testing::object(yaml)
}

fn controllers(tasks: &[Task]) -> Vec<(Controller, String)> {
    let mut all: Vec<_> = tasks.iter().map(|t| (t.controller, t.key.to_string())).collect();
    all.sort();
    all.dedup();
    all
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web, uid: s, resourceVersion: '1'}
spec: {selector: {app: web}, ports: [{port: 80}]}";

fn pod(version: u32, app: &str, node: &str) -> Object {
    object(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{namespace: shop, name: p, uid: p, resourceVersion: '{version}', labels: {{app: {app}}}}}
spec: {{nodeName: '{node}', containers: []}}"
    ))
}

#[test]
fn a_pod_touches_the_services_that_select_it_before_or_after() {
    let mut state = State::default();
    state.upsert(object(SERVICE), Duration::ZERO);
    let tasks = state.upsert(pod(2, "web", ""), Duration::ZERO);
    let expected = [
        (Controller::Scheduler, "shop/p".to_owned()),
        (Controller::EndpointSlice, "shop/web".to_owned()),
        (Controller::Endpoints, "shop/web".to_owned()),
    ];
    assert_eq!(controllers(&tasks), expected);
    let tasks = state.upsert(pod(3, "other", ""), Duration::ZERO);
    assert_eq!(controllers(&tasks), expected, "it leaves the Service");
    let tasks = state.upsert(pod(4, "other", ""), Duration::ZERO);
    assert_eq!(controllers(&tasks), expected[..1]);
}

#[test]
fn binding_ends_an_assumption_and_an_unknown_node_is_remembered() {
    let mut state = State::default();
    state.assumed.insert("p".into(), (ObjectName::new("shop", "p"), "n1".into()));
    let tasks = state.upsert(pod(2, "web", "n1"), Duration::from_secs(3));
    assert!(state.assumed.is_empty());
    assert_eq!(controllers(&tasks), [(Controller::PodCleanup, "shop/p".to_owned())]);
    assert_eq!(state.node_absent["n1"], Duration::from_secs(3));
}

#[test]
fn only_a_renewal_counts_as_sign_of_life() {
    let lease = |version: u32, second: u32| {
        object(&format!(
            "
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {{namespace: kube-node-lease, name: n1, uid: l, resourceVersion: '{version}'}}
spec: {{renewTime: '2026-01-01T00:00:{second:02}.000000Z'}}"
        ))
    };
    let mut state = State::default();
    state.upsert(lease(1, 1), Duration::from_secs(1));
    state.upsert(lease(2, 1), Duration::from_secs(2));
    assert_eq!(state.lease_seen["n1"], Duration::from_secs(1));
    state.upsert(lease(3, 2), Duration::from_secs(3));
    assert_eq!(state.lease_seen["n1"], Duration::from_secs(3));
    state.forgive_leases(Duration::from_secs(5));
    assert_eq!(state.lease_seen["n1"], Duration::from_secs(8));
}

#[test]
fn endpoints_without_a_service_are_looked_at_if_we_made_them() {
    let made = "kind: Endpoints\nmetadata: {namespace: shop, name: web}";
    let ours = made
        .replace("name: web", "name: web, labels: {endpoints.kubernetes.io/managed-by: endpoint-controller}");
    let touched = |yaml: &str| controllers(&State::default().upsert(object(yaml), Duration::ZERO));
    let both = [Controller::Endpoints, Controller::EndpointsMirror].map(|c| (c, "shop/web".to_owned()));
    assert_eq!(touched(made), both[1..], "their Service may be about to come");
    assert_eq!(touched(&ours), both);
    let mut state = State::default();
    state.upsert(object(made), Duration::ZERO);
    state.upsert(object(SERVICE), Duration::ZERO);
    let tasks = state.deleted(object(SERVICE), Duration::ZERO);
    assert!(controllers(&tasks).contains(&(Controller::Endpoints, "shop/web".to_owned())));
}
