//! From a bound pod to a ready one, and what can stand in between.

use serde_json::json;

use super::*;

#[test]
fn a_pod_without_probes_is_ready_as_soon_as_it_runs() {
    let mut s = Story::new(simple("Always"));
    assert_eq!(s.acts(), "prepare");
    assert_eq!((s.phase(), s.shows("c")), ("Pending".into(), "waiting ContainerCreating".into()));
    assert_eq!(s.condition("PodReadyToStartContainers"), "False");
    assert_eq!(s.condition("Ready"), "False ContainersNotReady");
    s.prepared();
    assert_eq!(s.acts(), "start c#0");
    assert_eq!(s.acts(), "", "nothing is begun twice");
    s.pass(1);
    s.started("c");
    assert_eq!(s.acts(), "");
    assert_eq!((s.phase(), s.shows("c")), ("Running".into(), "running".into()));
    for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(s.condition(kind), "True", "{kind}");
    }
}

#[test]
fn the_whole_status_is_as_kubelet_writes_it() {
    let mut s = Story::new(simple("Always"));
    s.acts();
    s.prepared();
    s.acts();
    s.pass(2);
    s.started("c");
    let condition = |kind: &str, at: &str| json!({"type": kind, "status": "True", "lastTransitionTime": at, "observedGeneration": 3});
    let (t0, t2) = ("2023-11-14T22:13:20Z", "2023-11-14T22:13:22Z");
    let want = json!({
        "phase": "Running", "hostIP": "172.30.0.11", "hostIPs": [{"ip": "172.30.0.11"}],
        "podIP": "10.244.1.5", "podIPs": [{"ip": "10.244.1.5"}, {"ip": "fd00:10:244:1::5"}], "startTime": t0, "qosClass": "BestEffort",
        "observedGeneration": 3,
        "conditions": [
            condition("PodReadyToStartContainers", t0), condition("Initialized", t0), condition("Ready", t2),
            condition("ContainersReady", t2), condition("PodScheduled", t0),
        ],
        "containerStatuses": [{
            "name": "c", "image": "web:1", "imageID": "sha256:1", "containerID": "daymark://c-1",
            "ready": true, "started": true, "restartCount": 0, "lastState": {},
            "state": {"running": {"startedAt": t2}},
        }],
    });
    let got = serde_json::to_value(s.status()).expect("json");
    assert_eq!(got, want, "{got:#}");
}

#[test]
fn transition_times_move_only_with_the_condition() {
    let mut s = Story::new(simple("Always"));
    s.acts();
    let since = |s: &Story, kind: &str| {
        let all = s.status().conditions.expect("conditions");
        all.into_iter().find(|c| c.type_ == kind).and_then(|c| c.last_transition_time).expect("a time").0
    };
    let first = since(&s, "Ready");
    s.pass(5);
    s.acts();
    assert_eq!(since(&s, "Ready"), first);
    s.prepared();
    s.acts();
    s.started("c");
    assert_eq!(since(&s, "Ready"), s.now);
}

#[test]
fn init_containers_run_one_after_the_other() {
    let mut s = Story::new(pod(json!({"restartPolicy": "Always",
        "initContainers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]})));
    s.acts();
    s.prepared();
    assert_eq!(s.acts(), "start a#0");
    assert_eq!(s.shows("c"), "waiting PodInitializing");
    let a = s.started("a");
    assert_eq!(s.acts(), "");
    assert_eq!(
        (s.phase(), s.condition("Initialized")),
        ("Pending".into(), "False ContainersNotInitialized".into())
    );
    s.exited(&a, 0);
    assert_eq!(s.acts(), "start b#0");
    let b = s.started("b");
    s.exited(&b, 0);
    assert_eq!(s.acts(), "start c#0, start d#0");
    assert_eq!(s.condition("Initialized"), "True");
    assert!(s.container("a").ready, "a finished init container is ready");
    s.started("c");
    assert_eq!(s.condition("Ready"), "False ContainersNotReady");
    s.started("d");
    assert_eq!(s.condition("Ready"), "True");
}

#[test]
fn failing_init_containers_follow_the_restart_policy() {
    for (policy, acts, phase) in
        [("Always", "start a#1", "Pending"), ("OnFailure", "start a#1", "Pending"), ("Never", "", "Failed")]
    {
        let mut s = Story::new(pod(json!({"restartPolicy": policy,
            "initContainers": [{"name": "a", "image": "i"}], "containers": [{"name": "c", "image": "i"}]})));
        s.acts();
        s.prepared();
        s.acts();
        let a = s.started("a");
        s.exited(&a, 1);
        assert_eq!((s.acts().as_str(), s.phase().as_str()), (acts, phase), "{policy}");
    }
}

#[test]
fn sidecars_start_before_the_others_and_run_beside_them() {
    let mut s = Story::new(pod(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always",
            "startupProbe": {"tcpSocket": {"port": 1}}}, {"name": "b", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}]})));
    s.acts();
    s.prepared();
    assert_eq!(s.acts(), "start side#0");
    let side = s.started("side");
    assert_eq!(s.acts(), "", "the next one waits for its startup probe");
    s.probed("side", &side, ProbeKind::Startup, true);
    assert_eq!(s.acts(), "start b#0");
    let b = s.started("b");
    s.exited(&b, 0);
    assert_eq!(s.acts(), "start c#0");
    let c = s.started("c");
    assert_eq!(s.condition("Ready"), "True");
    s.exited(&side, 3);
    assert_eq!(s.acts(), "start side#1", "a sidecar is restarted whatever the policy");
    s.started("side");
    s.exited(&c, 0);
    assert_eq!(s.acts(), "kill side in 30s", "when the main containers are done, sidecars go");
    assert_eq!(s.phase(), "Succeeded");
    s.pass(1);
    assert_eq!(s.acts(), "", "the grace period is not extended");
}

#[test]
fn readiness_and_startup_probes_gate() {
    let probe = json!({"tcpSocket": {"port": 80}});
    let mut s = Story::new(pod(json!({"containers": [{"name": "c", "image": "i",
        "startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe}]})));
    s.acts();
    s.prepared();
    s.acts();
    let id = s.started("c");
    let kinds = |s: &Story| {
        let wanted = crate::pod::probes::wanted(&s.pod, &s.state);
        wanted.iter().map(|k| k.kind.title()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(kinds(&s), "Startup");
    assert_eq!(s.container("c").started, Some(false));
    s.probed("c", &id, ProbeKind::Startup, true);
    assert_eq!(kinds(&s), "Readiness Liveness");
    assert_eq!((s.container("c").started, s.container("c").ready), (Some(true), false));
    s.probed("c", "another", ProbeKind::Readiness, true);
    assert!(!s.container("c").ready, "verdicts of former lives do not count");
    s.probed("c", &id, ProbeKind::Readiness, true);
    assert_eq!(s.condition("Ready"), "True");
    s.probed("c", &id, ProbeKind::Readiness, false);
    assert_eq!(s.condition("Ready"), "False ContainersNotReady");
    s.delete(30);
    s.acts();
    assert_eq!(kinds(&s), "Readiness", "a terminating endpoint may still serve");
}

#[test]
fn readiness_gates_hold_the_pod_back() {
    let mut p = simple("Always");
    p.spec.as_mut().expect("spec").readiness_gates =
        serde_json::from_value(json!([{"conditionType": "example.com/lb"}])).expect("gates");
    let mut s = Story::new(p);
    s.acts();
    s.prepared();
    s.acts();
    s.started("c");
    assert_eq!(
        (s.condition("ContainersReady"), s.condition("Ready")),
        ("True".into(), "False ReadinessGatesNotReady".into())
    );
    s.pod.status =
        serde_json::from_value(json!({"conditions": [{"type": "example.com/lb", "status": "True"}]})).ok();
    assert_eq!(s.condition("Ready"), "True");
}

#[test]
fn image_trouble_is_named_and_tried_again_later() {
    let mut s = Story::new(simple("Always"));
    s.acts();
    s.prepared();
    s.acts();
    s.blocked("c", "ErrImagePull");
    assert_eq!((s.acts(), s.shows("c")), (String::new(), "waiting ErrImagePull".into()));
    s.pass(3);
    assert_eq!((s.acts(), s.shows("c")), (String::new(), "waiting ImagePullBackOff".into()));
    let message = s.container("c").state.and_then(|s| s.waiting).and_then(|w| w.message).expect("a message");
    assert_eq!(message, "Back-off pulling image \"web:1\": ErrImagePull: why");
    assert_eq!(s.wakes_in(), Some(7));
    s.pass(7);
    assert_eq!(s.acts(), "start c#0");
    s.blocked("c", "ErrImagePull");
    s.pass(3);
    assert_eq!(s.wakes_in(), Some(17), "the next wait is longer");
    assert_eq!(s.container("c").restart_count, 0);
}

#[test]
fn configuration_errors_are_retried_soon() {
    let mut s = Story::new(simple("Always"));
    s.acts();
    s.prepared();
    s.acts();
    s.blocked("c", "CreateContainerConfigError");
    assert_eq!(s.shows("c"), "waiting CreateContainerConfigError");
    s.pass(2);
    assert_eq!(s.acts(), "start c#0");
}

#[test]
fn failed_mounts_are_retried_with_growing_waits() {
    let mut s = Story::new(simple("Always"));
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert_eq!(s.acts(), "prepare");
        s.see(Observation::Prepared(Err("configmap \"x\" not found".into())));
        let super::super::state::Sandbox::Failed { until, .. } = s.state.sandbox else { panic!("failed") };
        waits.push(until.duration_since(s.now).as_millis());
        s.now = until;
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 5000, 5000]);
    assert_eq!(s.shows("c"), "waiting ContainerCreating");
}

#[test]
fn pods_are_classed_by_their_resources() {
    let class = |resources: serde_json::Value| {
        super::super::qos::class(&pod(
            json!({"containers": [{"name": "c", "image": "i", "resources": resources}]}),
        ))
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
    assert_eq!(
        class(json!({"limits": {"cpu": "1000m", "memory": "1Gi"}, "requests": {"cpu": "1"}})),
        "Guaranteed"
    );
    assert_eq!(
        class(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})),
        "Burstable"
    );
}

#[test]
fn ephemeral_containers_run_once_beside_the_others_and_count_for_nothing() {
    let mut s = Story::new(simple("Always"));
    s.acts();
    s.prepared();
    s.acts();
    let main = s.started("c");
    let added = serde_json::from_value(json!([{"name": "look", "image": "i", "targetContainerName": "c"}]));
    s.pod.spec.as_mut().expect("a spec").ephemeral_containers = added.expect("containers");
    assert_eq!(s.acts(), "start look#0");
    let id = s.started("look");
    s.acts();
    let shown = |s: &Story| s.status().ephemeral_container_statuses.expect("statuses")[0].clone();
    assert!(shown(&s).state.expect("a state").running.is_some() && !shown(&s).ready);
    s.exited(&id, 3);
    assert_eq!(s.acts(), "", "it is not restarted");
    assert_eq!(shown(&s).state.expect("a state").terminated.expect("an end").exit_code, 3);
    assert_eq!((s.phase(), s.condition("Ready")), ("Running".into(), "True".into()));
    s.exited(&main, 0);
    s.pass(20);
    assert_eq!(s.acts(), "start c#1");
    s.started("c");
    s.delete(5);
    assert_eq!(s.acts(), "kill c in 5s");
}
