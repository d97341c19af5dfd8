//! Every way in which a deletion can go.

use super::*;
use crate::schema::schema;

const NOW: &str = "2024-01-01T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn planned(plural: &str, object: Value, options: DeleteOptions) -> Plan {
    plan(schema().resource("", "v1", plural).unwrap(), &object, &options, now())
}

fn marked(plan: Plan) -> Value {
    match plan {
        Plan::Mark(object) => object["metadata"].clone(),
        other => panic!("not marked but {other:?}"),
    }
}

fn running_pod() -> Value {
    json!({
        "metadata": {"name": "p", "generation": 1},
        "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 5}, "status": {"phase": "Running"},
    })
}

fn with_grace(seconds: i64) -> DeleteOptions {
    DeleteOptions { grace: Some(seconds), ..DeleteOptions::default() }
}

#[test]
fn a_running_pod_gets_its_own_grace_or_the_one_asked_for() {
    let metadata = marked(planned("pods", running_pod(), DeleteOptions::default()));
    assert_eq!(metadata["deletionTimestamp"], "2024-01-01T00:00:05Z");
    assert_eq!(metadata["deletionGracePeriodSeconds"], 5);
    assert_eq!(metadata["generation"], 2);
    assert_eq!(marked(planned("pods", running_pod(), with_grace(60)))["deletionGracePeriodSeconds"], 60);
    assert_eq!(planned("pods", running_pod(), with_grace(0)), Plan::Remove);
}

#[test]
fn a_pod_without_node_or_already_finished_goes_at_once() {
    let mut pending = running_pod();
    pending["spec"]["nodeName"] = Value::Null;
    assert_eq!(planned("pods", pending, DeleteOptions::default()), Plan::Remove);
    let mut done = running_pod();
    done["status"]["phase"] = "Succeeded".into();
    assert_eq!(planned("pods", done, DeleteOptions::default()), Plan::Remove);
}

#[test]
fn grace_can_be_shortened_but_not_prolonged() {
    let mut pod = running_pod();
    pod["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:20Z".into();
    pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    assert_eq!(planned("pods", pod.clone(), with_grace(40)), Plan::Wait);
    assert_eq!(planned("pods", pod.clone(), DeleteOptions::default()), Plan::Wait);
    let metadata = marked(planned("pods", pod.clone(), with_grace(10)));
    assert_eq!(metadata["deletionTimestamp"], "2024-01-01T00:00:00Z");
    assert_eq!(metadata["generation"], 1, "only the first request counts");
    assert_eq!(planned("pods", pod, with_grace(0)), Plan::Remove);
}

#[test]
fn finalizers_keep_a_pod_that_its_node_has_ended() {
    let mut pod = running_pod();
    pod["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let metadata = marked(planned("pods", pod, with_grace(0)));
    assert_eq!(metadata["deletionGracePeriodSeconds"], 0);
    assert_eq!(metadata["finalizers"], json!(["example.com/hold"]));
}

#[test]
fn propagation_becomes_finalizers() {
    let object = json!({"metadata": {"finalizers": ["orphan", "x"]}});
    let after = |p| finalizers_after(&object, p);
    assert_eq!(after(None), ["orphan", "x"]);
    assert_eq!(after(Some(Propagation::Background)), ["x"]);
    assert_eq!(after(Some(Propagation::Foreground)), ["x", "foregroundDeletion"]);
    assert_eq!(after(Some(Propagation::Orphan)), ["x", "orphan"]);
    let options = DeleteOptions { propagation: Some(Propagation::Orphan), ..DeleteOptions::default() };
    let plain = json!({"metadata": {"name": "c"}});
    assert_eq!(marked(planned("configmaps", plain.clone(), options))["finalizers"], json!(["orphan"]));
    assert_eq!(planned("configmaps", plain, DeleteOptions::default()), Plan::Remove);
}

#[test]
fn a_second_delete_of_a_held_object_waits() {
    let held = json!({"metadata": {
        "finalizers": ["x"], "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 0,
    }});
    assert_eq!(planned("configmaps", held, DeleteOptions::default()), Plan::Wait);
}

#[test]
fn a_namespace_terminates_before_it_goes() {
    let namespace = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}});
    let Plan::Mark(terminating) = planned("namespaces", namespace, DeleteOptions::default()) else {
        panic!("the namespace was not marked");
    };
    assert_eq!(terminating["status"]["phase"], "Terminating");
    assert_eq!(planned("namespaces", terminating.clone(), DeleteOptions::default()), Plan::Wait);
    let mut empty = terminating;
    empty["spec"]["finalizers"] = json!([]);
    assert_eq!(planned("namespaces", empty, DeleteOptions::default()), Plan::Remove);
}

#[test]
fn options_are_read_and_checked() {
    let options = DeleteOptions::from_value(&json!({
        "gracePeriodSeconds": 3, "propagationPolicy": "Foreground", "dryRun": ["All"],
        "preconditions": {"uid": "u", "resourceVersion": "7"},
    }));
    let expected = DeleteOptions {
        grace: Some(3),
        propagation: Some(Propagation::Foreground),
        uid: Some("u".into()),
        resource_version: Some("7".into()),
        dry_run: true,
    };
    assert_eq!(options.unwrap(), expected);
    assert!(DeleteOptions::from_value(&json!({"propagationPolicy": "Never"})).is_err());
    let both = json!({"propagationPolicy": "Orphan", "orphanDependents": true});
    assert!(DeleteOptions::from_value(&both).is_err());
}
