//! Workers with a runtime and a cluster that only pretend.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};

use super::stage::*;
use super::*;
use crate::env::vars::Data;
use crate::pod::backend::Backend;
use crate::pod::context::{Directory, Snapshot};
use crate::pod::spec;
use crate::pod::worker::Message;
use crate::runtime::ContainerId;

#[tokio::test]
async fn a_pod_comes_up_and_goes_down() {
    let mut stage = Stage::set(simple("Always"), |_| {});
    stage.until_ready().await;
    stage.delete(30);
    stage.until_deleted().await;
    assert_eq!(stage.calls(), ["sandbox web", "create c-0", "signal 15 c-0", "remove sandbox"]);
    assert_eq!(
        stage.events(),
        [
            "Pulled Container image \"web:1\" already present on machine",
            "Created Created container: c",
            "Started Started container c",
            "Killing Stopping container c",
        ]
    );
    let last = stage.paper.statuses.lock().expect("lock").last().cloned().expect("a status");
    assert_eq!(last.phase.as_deref(), Some("Succeeded"));
    stage.tell.send(Message::Gone).expect("the worker listens");
    timeout(Duration::from_secs(5), stage.task).await.expect("the worker ends").expect("well");
}

#[tokio::test]
async fn pre_stop_comes_before_the_signal_and_sigkill_after_the_grace() {
    let mut stage = Stage::set(
        pod(json!({"containers": [{"name": "c", "image": "i", "command": ["stubborn"],
            "lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}}]})),
        |_| {},
    );
    stage.until_ready().await;
    let began = Instant::now();
    stage.delete(1);
    stage.until_deleted().await;
    let calls = stage.calls();
    assert_eq!(calls[2..], ["exec c-0 bye", "signal 15 c-0", "signal 9 c-0", "remove sandbox"]);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1900), "two seconds are left after a hook, not {took:?}");
}

#[tokio::test]
async fn a_shortened_grace_period_takes_effect_at_once() {
    let mut stage = Stage::set(
        pod(json!({"containers": [{"name": "c", "image": "i", "command": ["stubborn"]}]})),
        |_| {},
    );
    stage.until_ready().await;
    stage.delete(300);
    let asked = timeout(Duration::from_secs(5), async {
        while !stage.calls().iter().any(|c| c == "signal 15 c-0") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    asked.await.expect("SIGTERM first");
    stage.delete(0);
    stage.until_deleted().await;
    assert_eq!(stage.calls()[2..], ["signal 15 c-0", "signal 9 c-0", "remove sandbox"]);
}

#[tokio::test]
async fn an_ended_container_is_restarted_and_old_ones_forgotten() {
    let stage = Stage::set(simple("Always"), |_| {});
    stage.until_ready().await;
    stage.fake.end("c-0", 3);
    stage
        .until("one restart", |s| {
            ready(s) && s.container_statuses.as_ref().is_some_and(|c| c[0].restart_count == 1)
        })
        .await;
    stage.fake.end("c-1", 3);
    let waits = |s: &PodStatus| {
        let state = s.container_statuses.as_ref().and_then(|c| c[0].state.clone());
        state.and_then(|s| s.waiting).and_then(|w| w.reason).as_deref() == Some("CrashLoopBackOff")
    };
    stage.until("back-off", waits).await;
    let back_off =
        format!("BackOff Back-off restarting failed container c in pod {}", spec::described(&stage.pod));
    assert!(stage.events().contains(&back_off), "{:?}", stage.events());
}

#[tokio::test]
async fn a_missing_image_is_told_as_kubelet_tells_it() {
    let stage = Stage::set(pod(json!({"containers": [{"name": "c", "image": "absent"}]})), |_| {});
    let pulling = |s: &PodStatus| {
        let state = s.container_statuses.as_ref().and_then(|c| c[0].state.clone());
        state.and_then(|s| s.waiting).and_then(|w| w.reason).as_deref() == Some("ImagePullBackOff")
    };
    stage.until("back-off", pulling).await;
    assert_eq!(
        stage.events(),
        [
            "Pulling Pulling image \"absent\"",
            "Failed Failed to pull image \"absent\": image \"absent\" not found: no such repository",
            "Failed Error: ErrImagePull",
            "BackOff Back-off pulling image \"absent\"",
            "Failed Error: ImagePullBackOff",
        ]
    );
}

#[tokio::test]
async fn a_volume_waits_for_its_config_map() {
    let stage = Stage::set(
        pod(json!({"volumes": [{"name": "v", "configMap": {"name": "cm"}}],
            "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "envFrom": [{"configMapRef": {"name": "cm"}}]}]})),
        |_| {},
    );
    stage.until("waiting", |s| s.phase.as_deref() == Some("Pending")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let data = Arc::new(Data::from([("KEY".into(), b"value".to_vec())]));
    stage.paper.objects.lock().expect("lock").insert("cm".into(), data);
    stage.until_ready().await;
    let failed = "FailedMount MountVolume.SetUp failed for volume \"v\" : configmap \"cm\" not found";
    assert!(stage.events().iter().any(|e| e == failed), "{:?}", stage.events());
    let c = stage.fake.container(&ContainerId("c-0".into())).await.expect("the container");
    assert_eq!(c.spec.env, [("KEY".to_owned(), "value".to_owned())]);
    let file = c.spec.mounts[0].source.join("KEY");
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "value");
    let data = Arc::new(Data::from([("KEY".into(), b"newer".to_vec())]));
    stage.paper.objects.lock().expect("lock").insert("cm".into(), data);
    stage.tell.send(Message::SourcesChanged).expect("the worker listens");
    let updated = timeout(Duration::from_secs(5), async {
        while std::fs::read_to_string(&file).ok().as_deref() != Some("newer") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    updated.await.expect("the volume follows its object");
}

#[tokio::test]
async fn statuses_are_written_when_the_api_server_is_back() {
    let stage = Stage::set(simple("Always"), |paper| *paper.outage.lock().expect("lock") = 3);
    stage.until_ready().await;
}

#[tokio::test]
async fn a_pod_removed_by_force_is_cleaned_up_silently() {
    let stage = Stage::set(simple("Always"), |_| {});
    stage.until_ready().await;
    stage.tell.send(Message::Gone).expect("the worker listens");
    timeout(Duration::from_secs(10), stage.task).await.expect("the worker ends").expect("well");
    assert_eq!(stage.fake.calls.lock().expect("lock")[2..], ["signal 15 c-0", "remove sandbox"]);
    assert!(!*stage.paper.deleted.lock().expect("lock"));
}

#[tokio::test]
async fn readiness_follows_a_real_socket_quickly() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = reserved.local_addr().expect("address").port();
    drop(reserved);
    let probe = json!({"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 1});
    let stage = Stage::set(
        pod(json!({"containers": [{"name": "c", "image": "i", "readinessProbe": probe}]})),
        |_| {},
    );
    stage.until("running", |s| s.phase.as_deref() == Some("Running") && !ready(s)).await;
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("bind");
    let began = Instant::now();
    stage.until_ready().await;
    assert!(began.elapsed() < Duration::from_millis(900), "the first pass is noticed early");
    drop(listener);
    stage.until("unready", |s| !ready(s)).await;
    let refused =
        format!("Unhealthy Readiness probe failed: dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert!(stage.events().contains(&refused), "{:?}", stage.events());
}

#[tokio::test]
async fn reaching_ready_takes_no_polling() {
    let began = Instant::now();
    Stage::set(simple("Always"), |_| {}).until_ready().await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[test]
fn a_name_means_the_younger_pod() {
    let told = |order: [i64; 2]| {
        let directory = Directory::default();
        for second in order {
            let mut pod = simple("Always");
            pod.metadata.uid = Some(format!("u{second}"));
            let mut state = PodState::new(&pod);
            state.start_time = Some(Timestamp::from_second(second).expect("in range"));
            let (pod, state) = (Arc::new(pod), Arc::new(state));
            directory.put(Snapshot { pod, status: PodStatus::default(), state });
        }
        let uid = |directory: &Directory| {
            directory.named("shop", "web").map(|found| spec::uid(&found.pod).to_owned())
        };
        let both = uid(&directory);
        directory.remove("u2");
        (both, uid(&directory))
    };
    for order in [[1, 2], [2, 1]] {
        assert_eq!(told(order), (Some("u2".into()), Some("u1".into())));
    }
}
