//! What happens after a container ends.

use serde_json::json;

use super::*;

fn running(policy: &str) -> (Story, String) {
    let mut s = Story::new(simple(policy));
    s.acts();
    s.prepared();
    s.acts();
    let id = s.started("c");
    s.acts();
    (s, id)
}

#[test]
fn the_policy_decides_after_an_exit() {
    let cases = [
        ("Always", 0, "start c#1", "Running"),
        ("Always", 1, "start c#1", "Running"),
        ("OnFailure", 0, "", "Succeeded"),
        ("OnFailure", 1, "start c#1", "Running"),
        ("Never", 0, "", "Succeeded"),
        ("Never", 1, "", "Failed"),
    ];
    for (policy, code, acts, phase) in cases {
        let (mut s, id) = running(policy);
        s.exited(&id, code);
        assert_eq!((s.acts().as_str(), s.phase().as_str()), (acts, phase), "{policy} after {code}");
    }
}

#[test]
fn restarts_back_off_and_show_the_former_end() {
    let (mut s, id) = running("Always");
    s.exited(&id, 7);
    assert_eq!(s.acts(), "start c#1", "the first restart is immediate");
    let id = s.started("c");
    let c = s.container("c");
    assert_eq!(c.restart_count, 1);
    let last = c.last_state.and_then(|l| l.terminated).expect("the former end");
    assert_eq!((last.exit_code, last.container_id.as_deref()), (7, Some("daymark://c-1")));
    s.pass(1);
    s.exited(&id, 7);
    assert_eq!(s.acts(), "");
    assert_eq!(s.shows("c"), "waiting CrashLoopBackOff");
    let message = s.container("c").state.and_then(|s| s.waiting).and_then(|w| w.message).expect("a message");
    assert_eq!(message, "back-off 10s restarting failed container=c pod=web_shop(u1)");
    assert_eq!(s.container("c").last_state.and_then(|l| l.terminated).map(|t| t.exit_code), Some(7));
    assert_eq!((s.phase().as_str(), s.wakes_in()), ("Running", Some(10)));
    s.pass(10);
    assert_eq!(s.acts(), "start c#2");
    let id = s.started("c");
    s.exited(&id, 7);
    assert_eq!(s.wakes_in(), Some(20));
    s.pass(20);
    s.acts();
    let id = s.started("c");
    s.pass(700);
    s.exited(&id, 7);
    assert_eq!(s.acts(), "start c#4", "after ten minutes of life all is forgiven");
}

#[test]
fn an_exit_may_be_heard_of_before_its_start() {
    let mut s = Story::new(simple("Never"));
    s.acts();
    s.prepared();
    s.acts();
    s.exited("c-1", 5);
    assert_eq!(s.shows("c"), "waiting ContainerCreating");
    s.started("c");
    assert_eq!((s.shows("c"), s.phase()), ("terminated Error 5".into(), "Failed".into()));
}

#[test]
fn exits_of_unknown_containers_are_ignored() {
    let (mut s, _) = running("Always");
    s.exited("stranger", 1);
    assert_eq!((s.acts(), s.shows("c")), (String::new(), "running".into()));
}

#[test]
fn a_program_that_cannot_start_counts_as_an_exit() {
    let mut s = Story::new(simple("Never"));
    s.acts();
    s.prepared();
    s.acts();
    let dead = StartError::Dead {
        id: "c-1".into(),
        image: "web:1".into(),
        image_id: "sha256:1".into(),
        message: "exec: \"nope\": executable file not found in $PATH".into(),
    };
    s.see(Observation::Started { container: "c".into(), result: Err(dead) });
    assert_eq!(
        (s.acts(), s.shows("c"), s.phase()),
        (String::new(), "terminated StartError 128".into(), "Failed".into())
    );
    let ended =
        s.state.last_status.container_statuses.as_ref().and_then(|all| all[0].state.clone()?.terminated);
    let started = ended.and_then(|ended| ended.started_at).expect("kubectl prints it");
    assert_eq!(started.0, jiff::Timestamp::UNIX_EPOCH, "it never did");
}

#[test]
fn a_failed_liveness_probe_restarts_with_its_own_grace() {
    let mut s = Story::new(pod(
        json!({"terminationGracePeriodSeconds": 60, "containers": [{"name": "c", "image": "i",
        "livenessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 4}}]}),
    ));
    s.acts();
    s.prepared();
    s.acts();
    let id = s.started("c");
    s.probed("c", &id, ProbeKind::Liveness, false);
    assert_eq!(s.acts(), "kill c in 4s");
    assert_eq!(s.acts(), "");
    s.exited(&id, 137);
    assert_eq!(s.acts(), "start c#1");
    let id = s.started("c");
    assert_eq!(s.acts(), "", "the new life starts without a grudge");
    s.probed("c", &id, ProbeKind::Liveness, true);
    assert_eq!(s.acts(), "");
}

#[test]
fn a_changed_image_restarts_the_container() {
    let (mut s, id) = running("Always");
    s.pod.spec.as_mut().expect("spec").containers[0].image = Some("web:2".into());
    assert_eq!(s.acts(), "kill c in 30s");
    s.exited(&id, 0);
    assert_eq!(s.acts(), "start c#1");
}

#[test]
fn a_lost_sandbox_is_cleared_and_made_anew() {
    let mut s = Story::new(pod(json!({"initContainers": [{"name": "i", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}]})));
    s.acts();
    s.prepared();
    s.acts();
    let i = s.started("i");
    s.exited(&i, 0);
    s.acts();
    s.started("c");
    s.see(Observation::SandboxLost);
    assert_eq!(s.condition("Ready"), "False ContainersNotReady");
    assert_eq!(s.acts(), "clear");
    s.see(Observation::SandboxLost);
    s.see(Observation::SandboxRemoved);
    assert_eq!(s.acts(), "prepare");
    s.prepared();
    assert_eq!(s.acts(), "start i#0", "initialisation is done again");
    let i = s.started("i");
    s.exited(&i, 0);
    assert_eq!(s.acts(), "start c#1");
}

#[test]
fn pods_that_run_too_long_fail() {
    let mut s = Story::new(pod(json!({"activeDeadlineSeconds": 20, "terminationGracePeriodSeconds": 5,
        "containers": [{"name": "c", "image": "i"}]})));
    s.acts();
    s.prepared();
    s.acts();
    let id = s.started("c");
    assert_eq!(s.wakes_in(), Some(20));
    s.pass(20);
    assert_eq!(s.acts(), "kill c in 5s");
    s.exited(&id, 143);
    assert_eq!(s.acts(), "remove");
    s.see(Observation::SandboxRemoved);
    assert_eq!(s.acts(), "", "the object stays");
    assert_eq!((s.phase(), s.status().reason.as_deref()), ("Failed".into(), Some("DeadlineExceeded")));
}
