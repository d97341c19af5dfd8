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

use super::admission;
use super::adopt;
use super::cluster::KubeCluster;
use super::context::Context;
use super::sources::Follow;
use super::spec;
use super::state::{Observation, PodState, Verdict};
use super::worker::{self, Message};
use crate::runtime::{ContainerState, Runtime, RuntimeEvent, SandboxStatus};

const RETRY: Duration = Duration::from_millis(300);

struct Entry {
    /// As it was when it was first seen.
    pod: Arc<Pod>,
    inbox: mpsc::UnboundedSender<Message>,
    task: JoinHandle<()>,
    /// Its object is gone, it was refused or it had ended before: it has no claim on the node.
    out: bool,
}

impl Entry {
    fn gone(&mut self) {
        self.out = true;
        let _ = self.inbox.send(Message::Gone);
    }
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
    /// The listing in progress.
    listing: Vec<Pod>,
}

impl Manager {
    pub fn new(ctx: Arc<Context>, cluster: Arc<KubeCluster>, runtime: Runtime, follow: Follow) -> Self {
        let (workers, orphans) = (BTreeMap::new(), BTreeMap::new());
        Self { ctx, cluster, runtime, follow, workers, orphans, listing: Vec::new() }
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
            Event::Init => self.listing.clear(),
            Event::InitApply(pod) => self.listing.push(pod),
            Event::InitDone => self.on_listing(),
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => {
                if let Some(entry) = self.workers.get_mut(spec::uid(&pod)) {
                    entry.gone();
                }
            }
        }
        self.reap();
    }

    /// Pods that run already come first: what they hold is not given to new ones.
    fn on_listing(&mut self) {
        let mut listed = std::mem::take(&mut self.listing);
        for (uid, entry) in &mut self.workers {
            if !listed.iter().any(|pod| spec::uid(pod) == uid) {
                entry.gone();
            }
        }
        listed.sort_by_key(|pod| pod.status.as_ref().is_none_or(|s| s.start_time.is_none()));
        listed.into_iter().for_each(|pod| self.apply(pod));
        self.remove_orphans();
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
        let out = state.settled || state.verdict.is_some();
        let (sender, receiver) = mpsc::unbounded_channel();
        let channel = (sender.clone(), receiver);
        let run = worker::run(self.ctx.clone(), pod.clone(), state, self.follow.clone(), channel);
        let entry = Entry { pod, inbox: sender, task: tokio::spawn(run), out };
        self.workers.insert(uid, entry);
    }

    fn refusal(&self, pod: &Pod, state: &PodState) -> Option<Verdict> {
        if state.settled || state.start_time.is_some() || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let active = self.workers.values().filter(|e| !e.out && !e.task.is_finished());
        let active: Vec<&Pod> = active.map(|e| &*e.pod).filter(|other| !self.has_ended(other)).collect();
        admission::refuse(pod, &active, &self.ctx.settings)
    }

    fn has_ended(&self, pod: &Pod) -> bool {
        let known = self.ctx.directory.get(spec::uid(pod));
        known.is_some_and(|s| matches!(s.status.phase.as_deref(), Some("Succeeded" | "Failed")))
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
            let namespace = spec::namespace(&entry.pod);
            if !self.workers.values().any(|e| spec::namespace(&e.pod) == namespace) {
                self.cluster.forget_namespace(namespace);
            }
        }
    }
}
