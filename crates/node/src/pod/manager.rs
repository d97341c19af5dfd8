//! All pods of the node: watches them, gives each its worker, and passes on what the runtime tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::adopt;
use super::cluster::KubeCluster;
use super::context::Context;
use super::sources::Follow;
use super::state::{Observation, PodState, Verdict};
use super::worker::{self, Message};
use super::{Settings, spec};
use crate::runtime::{ContainerState, Runtime, RuntimeEvent, SandboxStatus};

const RETRY: Duration = Duration::from_millis(300);

struct Entry {
    namespace: String,
    inbox: mpsc::UnboundedSender<Message>,
    task: JoinHandle<()>,
}

/// Owns the workers.
pub struct Manager {
    ctx: Arc<Context>,
    cluster: Arc<KubeCluster>,
    runtime: Runtime,
    follow: Follow,
    workers: BTreeMap<String, Entry>,
    /// Sandboxes that outlived the former process and whose pods have not been seen yet.
    orphans: BTreeMap<String, SandboxStatus>,
    /// UIDs of the listing in progress.
    listing: Option<Vec<String>>,
}

impl Manager {
    pub fn new(ctx: Arc<Context>, cluster: Arc<KubeCluster>, runtime: Runtime, follow: Follow) -> Self {
        let (workers, orphans) = (BTreeMap::new(), BTreeMap::new());
        Self { ctx, cluster, runtime, follow, workers, orphans, listing: None }
    }

    /// Runs pods until told to stop; their containers run on.
    pub async fn run(mut self, client: kube::Client, stop: CancellationToken) {
        let mut events = self.runtime.events();
        let found = self.runtime.sandboxes().await;
        self.orphans = found.into_iter().map(|s| (s.spec.uid.clone(), s)).collect();
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.ctx.settings.node));
        let mut pods = std::pin::pin!(watcher(Api::<Pod>::all(client), config));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                event = pods.next() => match event {
                    Some(Ok(event)) => self.on_pod(event),
                    Some(Err(e)) => {
                        tracing::debug!("watching pods: {e}");
                        tokio::time::sleep(RETRY).await;
                    }
                    None => break,
                },
                event = events.recv() => match event {
                    Ok(event) => self.on_runtime(event),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.look_again().await,
                    Err(broadcast::error::RecvError::Closed) => break,
                },
            }
        }
        for entry in self.workers.values() {
            entry.task.abort();
        }
    }

    fn on_pod(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listing = Some(Vec::new()),
            Event::InitApply(pod) => {
                if let Some(listing) = &mut self.listing {
                    listing.push(spec::uid(&pod).to_owned());
                }
                self.apply(pod);
            }
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                for (uid, entry) in &self.workers {
                    if !listed.contains(uid) {
                        let _ = entry.inbox.send(Message::Gone);
                    }
                }
                self.remove_orphans();
            }
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => {
                if let Some(entry) = self.workers.get(spec::uid(&pod)) {
                    let _ = entry.inbox.send(Message::Gone);
                }
            }
        }
        self.reap();
    }

    fn apply(&mut self, pod: Pod) {
        let pod = Arc::new(pod);
        let uid = spec::uid(&pod).to_owned();
        if let Some(entry) = self.workers.get(&uid).filter(|e| !e.task.is_finished()) {
            let _ = entry.inbox.send(Message::Pod(pod));
            return;
        }
        let mut state = PodState::new(&pod);
        match self.orphans.remove(&uid) {
            Some(sandbox) => adopt::adopt(&mut state, &pod, &sandbox),
            None => state.verdict = self.refusal(&pod, &state),
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let channel = (sender.clone(), receiver);
        let run = worker::run(self.ctx.clone(), pod.clone(), state, self.follow.clone(), channel);
        let namespace = spec::namespace(&pod).to_owned();
        let entry = Entry { namespace, inbox: sender, task: tokio::spawn(run) };
        self.workers.insert(uid, entry);
    }

    fn refusal(&self, pod: &Pod, state: &PodState) -> Option<Verdict> {
        if state.settled || state.start_time.is_some() || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let running = self.workers.values().filter(|e| !e.task.is_finished()).count();
        refuse(pod, running, &self.ctx.settings)
    }

    fn remove_orphans(&mut self) {
        for (uid, sandbox) in std::mem::take(&mut self.orphans) {
            let (runtime, pod) = (self.runtime.clone(), sandbox.spec);
            tracing::info!(pod = pod.name, namespace = pod.namespace, "removing a pod that no longer exists");
            tokio::spawn(async move {
                let dir = runtime.volumes_dir(&uid);
                let _ = tokio::task::spawn_blocking(move || crate::volume::release(&dir)).await;
                if let Err(e) = runtime.remove_sandbox(&uid).await {
                    tracing::warn!(pod = pod.name, "cannot remove a sandbox: {e}");
                }
            });
        }
    }

    fn on_runtime(&mut self, event: RuntimeEvent) {
        let (uid, seen) = match event {
            RuntimeEvent::ContainerExited { pod_uid, id, exit } => {
                (pod_uid, Observation::Exited(adopt::runtime_exit(&id.0, &exit)))
            }
            RuntimeEvent::SandboxDied { pod_uid } => (pod_uid, Observation::SandboxLost),
        };
        match self.workers.get(&uid) {
            Some(entry) => {
                let _ = entry.inbox.send(Message::Seen(seen));
            }
            None => self.update_orphan(&uid, seen),
        }
    }

    /// Before its pod is seen, an orphan's changes are kept with it.
    fn update_orphan(&mut self, uid: &str, seen: Observation) {
        let Some(sandbox) = self.orphans.get_mut(uid) else { return };
        match seen {
            Observation::SandboxLost => sandbox.ready = false,
            Observation::Exited(exit) => {
                for c in sandbox.containers.iter_mut().filter(|c| c.id.0 == exit.container_id) {
                    c.state = ContainerState::Exited(crate::runtime::Exit {
                        code: exit.code,
                        signal: exit.signal,
                        reason: exit.reason.clone(),
                        message: exit.message.clone(),
                        started_at: exit.started_at.unwrap_or(exit.finished_at),
                        finished_at: exit.finished_at,
                    });
                }
            }
            _ => {}
        }
    }

    /// Events were lost: everything that has ended is told again, workers ignore what they know.
    async fn look_again(&mut self) {
        for sandbox in self.runtime.sandboxes().await {
            let Some(entry) = self.workers.get(&sandbox.spec.uid) else { continue };
            for c in &sandbox.containers {
                if let ContainerState::Exited(exit) = &c.state {
                    let exit = adopt::runtime_exit(&c.id.0, exit);
                    let _ = entry.inbox.send(Message::Seen(Observation::Exited(exit)));
                }
            }
            if !sandbox.ready {
                let _ = entry.inbox.send(Message::Seen(Observation::SandboxLost));
            }
        }
    }

    /// Forgets workers that ended, and namespaces that have none left.
    fn reap(&mut self) {
        let ended: Vec<String> =
            self.workers.iter().filter(|(_, e)| e.task.is_finished()).map(|(uid, _)| uid.clone()).collect();
        for uid in ended {
            let Some(entry) = self.workers.remove(&uid) else { continue };
            if !self.workers.values().any(|e| e.namespace == entry.namespace) {
                self.cluster.forget_namespace(&entry.namespace);
            }
        }
    }
}

/// Why this node will not run a pod, if so.
pub fn refuse(pod: &Pod, running: usize, settings: &Settings) -> Option<Verdict> {
    let most = settings.max_pods as usize;
    if running >= most {
        return Some(Verdict {
            reason: "OutOfpods".into(),
            message: format!(
                "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: {running}, capacity: {most}"
            ),
        });
    }
    let os = pod.spec.as_ref().and_then(|s| s.os.as_ref()).map(|os| os.name.as_str());
    if let Some(os) = os.filter(|os| *os != "linux") {
        return Some(Verdict {
            reason: "PodOSNotSupported".into(),
            message: format!(
                "Pod was rejected: Failed to admit pod as the OS field ({os}) doesn't match node OS (linux)"
            ),
        });
    }
    None
}
