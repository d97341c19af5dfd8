//! A worker on a stage: its runtime and its cluster only pretend.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use daymark_model::PerFamily;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::env::TokenAsk;
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

pub type Outbox = mpsc::UnboundedSender<Message>;

/// Containers that exist in memory; SIGTERM is ignored by those whose command says so.
#[derive(Default)]
pub struct Fake {
    pub containers: Mutex<BTreeMap<String, runtime::ContainerStatus>>,
    pub calls: Mutex<Vec<String>>,
    pub outbox: Mutex<Option<Outbox>>,
    pub volumes: Mutex<PathBuf>,
}

impl Fake {
    pub fn call(&self, text: String) {
        self.calls.lock().expect("lock").push(text);
    }

    pub fn end(&self, id: &str, code: i32) {
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
            ips: PerFamily::single("127.0.0.1".parse().expect("ip")),
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
pub struct Paper {
    pub statuses: Mutex<Vec<PodStatus>>,
    pub events: Mutex<Vec<String>>,
    pub deleted: Mutex<bool>,
    /// Writes to fail before one works.
    pub outage: Mutex<u32>,
    pub objects: Mutex<BTreeMap<String, Arc<Data>>>,
    pub tokens: Mutex<Issued>,
}

/// Tokens that were asked for.
#[derive(Default)]
pub struct Issued {
    pub issued: u32,
    /// After this a token is to be renewed.
    pub life: Option<Duration>,
    pub due: Option<tokio::time::Instant>,
}

#[async_trait]
impl Cluster for Paper {
    async fn object(&self, _: Kind, _: &str, name: &str) -> Result<Option<Arc<Data>>, String> {
        Ok(self.objects.lock().expect("lock").get(name).cloned())
    }

    async fn token(&self, pod: &Pod, ask: &TokenAsk) -> Result<String, String> {
        let mut tokens = self.tokens.lock().expect("lock");
        tokens.issued += 1;
        tokens.due = tokens.life.map(|life| tokio::time::Instant::now() + life);
        Ok(format!("{} for {:?} no. {}", spec::name(pod), ask.audience, tokens.issued))
    }

    fn tokens_due(&self, _: &str) -> Option<tokio::time::Instant> {
        self.tokens.lock().expect("lock").due
    }

    fn forget_pod(&self, _: &str) {}

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

pub struct Stage {
    pub fake: Arc<Fake>,
    pub paper: Arc<Paper>,
    pub tell: Outbox,
    pub pod: Pod,
    pub task: tokio::task::JoinHandle<()>,
    pub _volumes: tempfile::TempDir,
}

impl Stage {
    pub fn set(pod: Pod, prepare: impl FnOnce(&Paper)) -> Self {
        let volumes = tempfile::tempdir().expect("a directory");
        let (fake, paper) = (Arc::new(Fake::default()), Arc::new(Paper::default()));
        *fake.volumes.lock().expect("lock") = volumes.path().to_owned();
        prepare(&paper);
        let ctx = Arc::new(Context {
            backend: fake.clone(),
            cluster: paper.clone(),
            settings: Settings {
                node: "node1".into(),
                node_ips: PerFamily::single("172.30.0.11".parse().expect("ip")),
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

    pub async fn until(&self, what: &str, holds: impl Fn(&PodStatus) -> bool) {
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

    pub async fn until_ready(&self) {
        self.until("ready", ready).await;
    }

    pub fn delete(&mut self, grace: i64) {
        let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now());
        self.pod.metadata.deletion_timestamp = Some(at);
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.tell.send(Message::Pod(Arc::new(self.pod.clone()))).expect("the worker listens");
    }

    pub async fn until_deleted(&self) {
        let gone = timeout(Duration::from_secs(20), async {
            while !*self.paper.deleted.lock().expect("lock") {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(gone.await.is_ok(), "the object was never deleted");
    }

    pub fn calls(&self) -> Vec<String> {
        self.fake.calls.lock().expect("lock").clone()
    }

    pub fn events(&self) -> Vec<String> {
        self.paper.events.lock().expect("lock").clone()
    }
}

pub fn ready(status: &PodStatus) -> bool {
    let conditions = status.conditions.iter().flatten();
    conditions.filter(|c| c.type_ == "Ready").any(|c| c.status == "True")
}
