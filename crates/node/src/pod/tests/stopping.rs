//! Graceful deletion.

use serde_json::json;

use super::*;

fn running() -> (Story, String) {
    let mut s = Story::new(simple("Always"));
    s.acts();
    s.prepared();
    s.acts();
    let id = s.started("c");
    s.acts();
    (s, id)
}

#[test]
fn containers_then_sandbox_then_object() {
    let (mut s, id) = running();
    s.delete(30);
    assert_eq!(s.acts(), "kill c in 30s");
    assert_eq!((s.acts(), s.condition("Ready")), (String::new(), "True".into()), "it serves until it ends");
    s.exited(&id, 0);
    assert_eq!(s.acts(), "remove");
    assert_eq!(s.condition("Ready"), "False PodCompleted");
    assert_eq!((s.phase(), s.shows("c")), ("Succeeded".into(), "terminated Completed 0".into()));
    s.see(Observation::SandboxRemoved);
    assert_eq!(s.acts(), "delete");
    assert_eq!(s.acts(), "");
    assert_eq!(s.status().pod_ip.as_deref(), Some("10.244.1.5"), "the address stays in the last status");
}

#[test]
fn a_killed_container_leaves_a_failed_pod() {
    let (mut s, id) = running();
    s.delete(0);
    assert_eq!(s.acts(), "kill c in 0s");
    s.exited(&id, 137);
    s.acts();
    assert_eq!(s.phase(), "Failed");
}

#[test]
fn the_grace_period_can_only_shrink() {
    let (mut s, _) = running();
    s.delete(30);
    s.acts();
    s.pass(10);
    s.delete(60);
    assert_eq!(s.acts(), "", "never longer");
    s.delete(5);
    assert_eq!(s.acts(), "kill c in 5s");
    s.delete(25);
    assert_eq!(s.acts(), "");
}

#[test]
fn a_pod_deleted_before_it_began_is_just_removed() {
    let mut s = Story::new(simple("Always"));
    s.delete(30);
    assert_eq!(s.acts(), "remove");
    s.see(Observation::SandboxRemoved);
    assert_eq!(s.acts(), "delete");
}

#[test]
fn what_is_in_flight_is_waited_for() {
    let mut s = Story::new(simple("Always"));
    s.acts();
    s.delete(30);
    assert_eq!(s.acts(), "", "the sandbox is being made");
    s.prepared();
    assert_eq!(s.acts(), "remove");
    let mut s = Story::new(simple("Always"));
    s.acts();
    s.prepared();
    s.acts();
    s.delete(30);
    assert_eq!(s.acts(), "", "the container is being started");
    s.see(Observation::Started { container: "c".into(), result: Err(StartError::Cancelled) });
    assert_eq!(s.acts(), "remove");
}

#[test]
fn a_start_that_lands_during_deletion_is_killed() {
    let mut s = Story::new(simple("Always"));
    s.acts();
    s.prepared();
    s.acts();
    s.delete(30);
    s.acts();
    s.started("c");
    assert_eq!(s.acts(), "kill c in 30s");
}

#[test]
fn nothing_is_restarted_while_stopping() {
    let mut s =
        Story::new(pod(json!({"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]})));
    s.acts();
    s.prepared();
    s.acts();
    let (c, d) = (s.started("c"), s.started("d"));
    s.delete(30);
    assert_eq!(s.acts(), "kill c in 30s, kill d in 30s");
    s.exited(&c, 1);
    assert_eq!((s.acts(), s.shows("c")), (String::new(), "terminated Error 1".into()));
    s.exited(&d, 0);
    assert_eq!(s.acts(), "remove");
}

#[test]
fn sidecars_stop_last_and_in_reverse() {
    let side = |name: &str| json!({"name": name, "image": "i", "restartPolicy": "Always"});
    let mut s = Story::new(pod(json!({"initContainers": [side("a"), side("b")],
        "containers": [{"name": "c", "image": "i"}]})));
    s.acts();
    s.prepared();
    s.acts();
    let a = s.started("a");
    s.acts();
    let b = s.started("b");
    s.acts();
    let c = s.started("c");
    s.delete(30);
    assert_eq!(s.acts(), "kill c in 30s");
    s.pass(4);
    s.exited(&c, 0);
    assert_eq!(s.acts(), "kill b in 26s");
    s.exited(&b, 0);
    assert_eq!(s.acts(), "kill a in 26s");
    s.exited(&a, 0);
    assert_eq!(s.acts(), "remove");
}

#[test]
fn a_refused_pod_fails_without_running() {
    let mut s = Story::new(simple("Always"));
    s.state.verdict =
        Some(super::super::state::Verdict { reason: "OutOfpods".into(), message: "full".into() });
    assert_eq!(s.acts(), "remove");
    s.see(Observation::SandboxRemoved);
    assert_eq!(s.acts(), "");
    let status = s.status();
    assert_eq!(
        (s.phase().as_str(), status.reason.as_deref(), status.message.as_deref()),
        ("Failed", Some("OutOfpods"), Some("full"))
    );
    s.delete(0);
    assert_eq!(s.acts(), "delete");
}
