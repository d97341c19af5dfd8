//! A new process takes over what an older one left.

use daymark_model::PerFamily;
use serde_json::json;

use super::*;
use crate::pod::adopt::adopt;
use crate::runtime::{self, ContainerId, ContainerSpec, ContainerState, SandboxSpec, SandboxStatus};

fn sandbox(ready: bool, containers: &[(&str, &str, u32, Option<i32>)]) -> SandboxStatus {
    let at = Timestamp::from_second(1_699_999_000).expect("in range");
    let spec = SandboxSpec {
        uid: "u1".into(),
        namespace: "shop".into(),
        name: "web".into(),
        hostname: "web".into(),
        domain: None,
        resolv_conf: String::new(),
        host_aliases: vec![],
        host_network: false,
        sysctls: Default::default(),
        pids_limit: None,
        annotation: String::new(),
    };
    let container = |(name, id, attempt, code): &(&str, &str, u32, Option<i32>)| runtime::ContainerStatus {
        id: ContainerId((*id).into()),
        pod_uid: "u1".into(),
        spec: ContainerSpec { name: (*name).into(), attempt: *attempt, ..ContainerSpec::default() },
        created_at: at,
        state: match code {
            None => ContainerState::Running { pid: 7, started_at: at },
            Some(code) => ContainerState::Exited(runtime::Exit {
                code: *code,
                signal: None,
                reason: "Error".into(),
                message: String::new(),
                started_at: at,
                finished_at: at,
            }),
        },
    };
    SandboxStatus {
        spec,
        ips: PerFamily::single("10.244.1.9".parse().expect("ip")),
        ready,
        created_at: at,
        link: None,
        netns: "/proc/1/ns/net".into(),
        containers: containers.iter().map(container).collect(),
    }
}

fn known(restarts: i32, id: &str, ready: bool) -> Pod {
    let mut p = pod(
        json!({"containers": [{"name": "c", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]}),
    );
    p.status = serde_json::from_value(json!({"phase": "Running", "startTime": "2023-11-14T22:00:00Z",
        "podIP": "10.244.1.9", "podIPs": [{"ip": "10.244.1.9"}],
        "containerStatuses": [{"name": "c", "image": "i", "imageID": "sha256:1", "containerID": format!("daymark://{id}"),
            "ready": ready, "started": true, "restartCount": restarts,
            "lastState": {"terminated": {"exitCode": 9, "containerID": "daymark://c-0", "reason": "Error"}},
            "state": {"running": {"startedAt": "2023-11-14T22:00:01Z"}}}]}))
    .ok();
    p
}

fn adopted(p: Pod, found: Option<SandboxStatus>) -> Story {
    let mut s = Story::new(p);
    if let Some(found) = found {
        let pod = s.pod.clone();
        adopt(&mut s.state, &pod, &found);
    }
    s
}

#[test]
fn running_containers_run_on_untouched() {
    let mut s = adopted(
        known(2, "c-2", true),
        Some(sandbox(true, &[("c", "c-1", 1, Some(9)), ("c", "c-2", 2, None)])),
    );
    assert_eq!(s.acts(), "");
    let c = s.container("c");
    assert_eq!((c.restart_count, c.ready, c.started), (2, true, Some(true)));
    assert_eq!(c.container_id.as_deref(), Some("daymark://c-2"));
    assert_eq!(
        c.last_state.and_then(|l| l.terminated).and_then(|t| t.container_id).as_deref(),
        Some("daymark://c-1")
    );
    assert_eq!(s.status().start_time.map(|t| t.0.to_string()).as_deref(), Some("2023-11-14T22:00:00Z"));
    assert_eq!(s.condition("Ready"), "True");
}

#[test]
fn a_container_restarted_unseen_counts_and_proves_itself_anew() {
    let mut s = adopted(known(2, "c-2", true), Some(sandbox(true, &[("c", "c-3", 3, None)])));
    assert_eq!(s.acts(), "");
    assert_eq!((s.container("c").restart_count, s.container("c").ready), (3, false));
}

#[test]
fn one_that_ended_meanwhile_is_restarted() {
    let mut s = adopted(known(0, "c-1", true), Some(sandbox(true, &[("c", "c-1", 0, Some(3))])));
    assert_eq!(s.acts(), "start c#1");
}

#[test]
fn after_a_reboot_everything_is_made_anew() {
    let mut s = adopted(known(2, "c-2", true), None);
    assert_eq!(s.acts(), "prepare");
    assert_eq!(s.condition("Ready"), "False ContainersNotReady");
    s.prepared();
    assert_eq!(s.acts(), "start c#3");
    s.started("c");
    let last = s.container("c").last_state.and_then(|l| l.terminated).expect("the former life");
    assert_eq!(
        (last.reason.as_deref(), last.container_id.as_deref()),
        (Some("Unknown"), Some("daymark://c-2"))
    );
}

#[test]
fn a_dead_sandbox_is_cleared_first() {
    let mut s = adopted(known(0, "c-1", true), Some(sandbox(false, &[("c", "c-1", 0, Some(255))])));
    assert_eq!(s.acts(), "clear");
    s.see(Observation::SandboxRemoved);
    assert_eq!(s.acts(), "prepare");
}

#[test]
fn finished_pods_stay_finished() {
    let mut p = simple("Never");
    p.status = serde_json::from_value(json!({"phase": "Succeeded", "message": "done"})).ok();
    let mut s = adopted(p, None);
    assert_eq!(s.acts(), "");
    assert_eq!((s.phase(), s.status().message.as_deref()), ("Succeeded".into(), Some("done")));
    s.delete(30);
    assert_eq!(s.acts(), "remove");
    s.see(Observation::SandboxRemoved);
    assert_eq!(s.acts(), "delete");
}

#[test]
fn a_deletion_in_progress_goes_on() {
    let mut p = known(0, "c-1", true);
    p.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    p.metadata.deletion_grace_period_seconds = Some(10);
    let mut s = adopted(p, Some(sandbox(true, &[("c", "c-1", 0, None)])));
    assert_eq!(s.acts(), "kill c in 10s");
}
