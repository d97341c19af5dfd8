//! Workers with a runtime and a cluster that only pretend.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::*;
use crate::env::dns::Resolver;
use crate::env::vars::{Data, Kind};
use crate::image::ImageError;
use crate::pod::backend::Backend;
use crate::pod::context::{Clock, Cluster, Context, Directory, Settings, WriteError};
use crate::pod::events::PodEvent;
use crate::pod::spec;
use crate::pod::worker::{self, Message};
use crate::runtime::{
    self, ContainerId, ContainerSpec, ContainerState, ImageInfo, PullPolicy, PullSecrets, RuntimeError,
    SandboxSpec, SandboxStatus,
};

type Outbox = mpsc::UnboundedSender<Message>;

/// Containers that exist in memory; SIGTERM is ignored by those whose command says so.
#[derive(Default)]
struct Fake {
    containers: Mutex<BTreeMap<String, runtime::ContainerStatus>>,
    calls: Mutex<Vec<String>>,
    outbox: Mutex<Option<Outbox>>,
    volumes: Mutex<PathBuf>,
}

impl Fake {
    fn call(&self, text: String) {
        self.calls.lock().expect("lock").push(text);
    }

    fn end(&self, id: &str, code: i32) {
        let at = Timestamp::now();
        let exit = runtime::Exit {
            code,
            signal: None,
            reason: if code == 0 { "Completed" } else { "Error" }.into(),
            message: String::new(),
            started_at: at,
            finished_at: at,
        };
        if let Some(c) = self.containers.lock().expect("lock").get_mut(id) {
            c.state = ContainerState::Exited(exit.clone());
        }
        if let Some(outbox) = self.outbox.lock().expect("lock").as_ref() {
            let exit = crate::pod::adopt::runtime_exit(id, &exit);
            outbox.send(Message::Seen(Observation::Exited(exit))).ok();
        }
    }
}

#[async_trait]
impl Backend for Fake {
    async fn create_sandbox(&self, spec: SandboxSpec) -> runtime::Result<SandboxStatus> {
        self.call(format!("sandbox {}", spec.name));
        Ok(SandboxStatus {
            spec,
            ip: "127.0.0.1".parse().expect("ip"),
            ready: true,
            created_at: Timestamp::now(),
            link: None,
            netns: PathBuf::new(),
            containers: vec![],
        })
    }

    async fn remove_sandbox(&self, _uid: &str) -> runtime::Result<()> {
        self.call("remove sandbox".into());
        Ok(())
    }

    async fn ensure_image(
        &self,
        image: &str,
        policy: PullPolicy,
        _: &PullSecrets,
    ) -> Result<ImageInfo, ImageError> {
        if image == "absent" {
            return Err(match policy {
                PullPolicy::Never => ImageError::NeverPull { image: image.into() },
                _ => ImageError::NotFound { image: image.into(), cause: "no such repository".into() },
            });
        }
        Ok(ImageInfo {
            id: "sha256:f".into(),
            tags: vec![],
            digests: vec![],
            size: 1,
            builtin: false,
            config: Default::default(),
        })
    }

    async fn create_container(&self, uid: &str, spec: ContainerSpec) -> runtime::Result<ContainerId> {
        let id = format!("{}-{}", spec.name, spec.attempt);
        self.call(format!("create {id}"));
        let status = runtime::ContainerStatus {
            id: ContainerId(id.clone()),
            pod_uid: uid.into(),
            spec,
            created_at: Timestamp::now(),
            state: ContainerState::Created,
        };
        self.containers.lock().expect("lock").insert(id.clone(), status);
        Ok(ContainerId(id))
    }

    async fn start_container(&self, id: &ContainerId) -> runtime::Result<()> {
        let mut all = self.containers.lock().expect("lock");
        let c = all.get_mut(&id.0).expect("created");
        c.state = ContainerState::Running { pid: 1, started_at: Timestamp::now() };
        Ok(())
    }

    async fn kill_container(&self, id: &ContainerId, signal: i32) -> runtime::Result<()> {
        self.call(format!("signal {signal} {id}"));
        let stubborn = {
            let all = self.containers.lock().expect("lock");
            all.get(&id.0).is_some_and(|c| c.spec.command.as_deref() == Some(&["stubborn".to_owned()]))
        };
        if signal == libc::SIGKILL || !stubborn {
            self.end(&id.0, if signal == libc::SIGKILL { 137 } else { 0 });
        }
        Ok(())
    }

    async fn stop_signal(&self, _: &ContainerId) -> runtime::Result<i32> {
        Ok(libc::SIGTERM)
    }

    async fn remove_container(&self, id: &ContainerId) -> runtime::Result<()> {
        self.call(format!("forget {id}"));
        Ok(())
    }

    async fn container(&self, id: &ContainerId) -> runtime::Result<runtime::ContainerStatus> {
        let all = self.containers.lock().expect("lock");
        all.get(&id.0).cloned().ok_or(RuntimeError::NoContainer { id: id.0.clone() })
    }

    async fn run(&self, id: &ContainerId, argv: &[String]) -> runtime::Result<(i32, String)> {
        self.call(format!("exec {id} {}", argv.join(" ")));
        Ok((0, String::new()))
    }

    async fn log_path(&self, id: &ContainerId) -> runtime::Result<PathBuf> {
        Err(RuntimeError::NoContainer { id: id.0.clone() })
    }

    async fn termination_message_path(&self, id: &ContainerId) -> runtime::Result<PathBuf> {
        Err(RuntimeError::NoContainer { id: id.0.clone() })
    }

    fn volumes_dir(&self, uid: &str) -> PathBuf {
        self.volumes.lock().expect("lock").join(uid)
    }
}

#[derive(Default)]
struct Paper {
    statuses: Mutex<Vec<PodStatus>>,
    events: Mutex<Vec<String>>,
    deleted: Mutex<bool>,
    /// Writes to fail before one works.
    outage: Mutex<u32>,
    objects: Mutex<BTreeMap<String, Arc<Data>>>,
}

#[async_trait]
impl Cluster for Paper {
    async fn object(&self, _: Kind, _: &str, name: &str) -> Result<Option<Arc<Data>>, String> {
        Ok(self.objects.lock().expect("lock").get(name).cloned())
    }

    async fn write_status(&self, _: &Pod, status: &PodStatus) -> Result<(), WriteError> {
        let mut outage = self.outage.lock().expect("lock");
        if *outage > 0 {
            *outage -= 1;
            return Err(WriteError::Retry("away".into()));
        }
        self.statuses.lock().expect("lock").push(status.clone());
        Ok(())
    }

    async fn delete_pod(&self, _: &Pod) -> Result<(), WriteError> {
        *self.deleted.lock().expect("lock") = true;
        Ok(())
    }

    async fn service_variables(&self, _: &str, _: bool) -> Vec<(String, String)> {
        vec![]
    }

    fn event(&self, event: PodEvent) {
        self.events.lock().expect("lock").push(format!("{} {}", event.reason, event.message));
    }
}

struct Stage {
    fake: Arc<Fake>,
    paper: Arc<Paper>,
    tell: Outbox,
    pod: Pod,
    task: tokio::task::JoinHandle<()>,
    _volumes: tempfile::TempDir,
}

impl Stage {
    fn set(pod: Pod, prepare: impl FnOnce(&Paper)) -> Self {
        let volumes = tempfile::tempdir().expect("a directory");
        let (fake, paper) = (Arc::new(Fake::default()), Arc::new(Paper::default()));
        *fake.volumes.lock().expect("lock") = volumes.path().to_owned();
        prepare(&paper);
        let ctx = Arc::new(Context {
            backend: fake.clone(),
            cluster: paper.clone(),
            settings: Settings {
                node: "node1".into(),
                node_ip: "172.30.0.11".parse().expect("ip"),
                dns_ip: "10.96.0.10".parse().expect("ip"),
                domain: "cluster.local".into(),
                host_resolver: Resolver::default(),
                cpu: 1000,
                memory: 1 << 30,
                max_pods: 10,
            },
            directory: Directory::default(),
            clock: Clock::start(),
        });
        let (tell, inbox) = mpsc::unbounded_channel();
        *fake.outbox.lock().expect("lock") = Some(tell.clone());
        let state = PodState::new(&pod);
        let run = worker::run(
            ctx,
            Arc::new(pod.clone()),
            state,
            Arc::new(|_, _, _, _| None),
            (tell.clone(), inbox),
        );
        Self { fake, paper, tell, pod, task: tokio::spawn(run), _volumes: volumes }
    }

    async fn until(&self, what: &str, holds: impl Fn(&PodStatus) -> bool) {
        let seen = timeout(Duration::from_secs(20), async {
            loop {
                if self.paper.statuses.lock().expect("lock").last().is_some_and(&holds) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let last = || self.paper.statuses.lock().expect("lock").last().cloned();
        assert!(seen.await.is_ok(), "never came: {what}; last status {:#?}", last());
    }

    async fn until_ready(&self) {
        self.until("ready", ready).await;
    }

    fn delete(&mut self, grace: i64) {
        let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now());
        self.pod.metadata.deletion_timestamp = Some(at);
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.tell.send(Message::Pod(Arc::new(self.pod.clone()))).expect("the worker listens");
    }

    async fn until_deleted(&self) {
        let gone = timeout(Duration::from_secs(20), async {
            while !*self.paper.deleted.lock().expect("lock") {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(gone.await.is_ok(), "the object was never deleted");
    }

    fn calls(&self) -> Vec<String> {
        self.fake.calls.lock().expect("lock").clone()
    }

    fn events(&self) -> Vec<String> {
        self.paper.events.lock().expect("lock").clone()
    }
}

fn ready(status: &PodStatus) -> bool {
    let conditions = status.conditions.iter().flatten();
    conditions.filter(|c| c.type_ == "Ready").any(|c| c.status == "True")
}

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
