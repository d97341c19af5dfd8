//! The thin shell around the machine: one task per pod that feeds it what happens, and performs what it
//! decides. It never decides itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daymark_model::PerFamily;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::{Context, Snapshot};
use super::decide::{Action, PodView, Why, begin, decide};
use super::probes::Probes;
use super::state::{Doom, Exit, Life, Observation, PodState, Sandbox};
use super::writer::{self, Desired};
use super::{ephemeral, kill, spec, start, tell};
use crate::runtime::ContainerId;

/// What a worker is told.
#[derive(Clone, Debug)]
pub enum Message {
    /// The API object changed.
    Pod(Arc<Pod>),
    /// The API object is gone, whoever removed it.
    Gone,
    Seen(Observation),
    /// A ConfigMap or Secret that a volume is made of changed.
    SourcesChanged,
    /// The API object has said something else than we do for a while.
    Contradicted,
}

/// Within this a token that is being renewed has come or is asked for again.
const RENEWING: Duration = Duration::from_secs(10);
/// How long a status that somebody else changed stands before it is corrected.
const BEFORE_CORRECTING: Duration = Duration::from_secs(1);

struct Stopper {
    deadline: watch::Sender<Instant>,
    task: JoinHandle<()>,
}

/// Everything that lives as long as the worker; dropping it stops tasks but no container.
pub struct Worker {
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    state: PodState,
    outbox: mpsc::UnboundedSender<Message>,
    status: watch::Sender<Option<Desired>>,
    stoppers: BTreeMap<String, Stopper>,
    probes: Probes,
    sources: super::sources::Sources,
    /// Cancelled when the pod begins to stop: pulls are given up.
    stopping: CancellationToken,
    gone: bool,
    done: bool,
    /// A correction is on its way.
    contradicted: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stopping.cancel();
        for stopper in self.stoppers.values() {
            stopper.task.abort();
        }
    }
}

/// Runs a pod until its object is gone and nothing of it is left.
pub async fn run(
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    state: PodState,
    follow: super::sources::Follow,
    (outbox, mut inbox): (mpsc::UnboundedSender<Message>, mpsc::UnboundedReceiver<Message>),
) {
    let (status, desired) = watch::channel(None);
    tokio::spawn(writer::run(ctx.cluster.clone(), desired));
    let mut worker = Worker {
        sources: super::sources::Sources::new(follow, outbox.clone()),
        probes: Probes::new(ctx.clone(), outbox.clone()),
        ctx,
        pod,
        state,
        outbox,
        status,
        stoppers: BTreeMap::new(),
        stopping: CancellationToken::new(),
        gone: false,
        contradicted: false,
        done: false,
    };
    while !worker.done {
        let wake = worker.step();
        if worker.done {
            break;
        }
        let message = tokio::select! {
            message = inbox.recv() => message,
            () = sleep_until(wake) => continue,
        };
        let Some(message) = message else { return };
        worker.take(message).await;
        while let Ok(message) = inbox.try_recv() {
            worker.take(message).await;
        }
    }
    worker.ctx.cluster.forget_pod(spec::uid(&worker.pod));
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Worker {
    async fn take(&mut self, message: Message) {
        let now = self.ctx.clock.now();
        match message {
            Message::Pod(pod) => {
                if pod.metadata.labels != self.pod.metadata.labels
                    || pod.metadata.annotations != self.pod.metadata.annotations
                {
                    let _ = self.outbox.send(Message::SourcesChanged);
                }
                self.pod = pod;
                self.note_contradiction();
            }
            Message::Contradicted => {
                self.contradicted = false;
                let status = self.state.last_status.clone();
                if !self.gone && self.status.borrow().as_ref().is_some_and(|d| !d.delete) {
                    let pod = self.pod.clone();
                    self.status.send_replace(Some(Desired { pod, status, delete: false, again: true }));
                }
            }
            Message::Gone => self.on_gone(now),
            Message::SourcesChanged => self.refresh_volumes(),
            Message::Seen(Observation::Exited(exit)) => {
                let exit = self.with_last_words(exit).await;
                self.see(Observation::Exited(exit), now);
            }
            Message::Seen(seen) => self.see(seen, now),
        }
    }

    fn see(&mut self, seen: Observation, now: Timestamp) {
        self.state.observe(&self.pod, seen, now);
    }

    /// An object removed by force: what runs is stopped with little ado, and nothing more is written or shown.
    fn on_gone(&mut self, now: Timestamp) {
        self.gone = true;
        self.ctx.directory.remove(spec::uid(&self.pod));
        let mut pod = Pod::clone(&self.pod);
        pod.metadata.deletion_timestamp.get_or_insert(Time(now));
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(2).min(2);
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.pod = Arc::new(pod);
        self.done = self.state.delete_sent;
    }

    /// Decides, performs, publishes; returns when to look again.
    fn step(&mut self) -> Option<Instant> {
        let now = self.ctx.clock.now();
        self.state.sync(&self.pod, now);
        if self.state.stopping.is_some() {
            self.stopping.cancel();
        }
        let mut wake: Option<Timestamp> = None;
        let actions = decide(&PodView { pod: &self.pod, state: &self.state, now });
        for action in actions {
            if let Action::Wake(at) = action {
                wake = Some(wake.map_or(at, |w| w.min(at)));
                continue;
            }
            self.perform(&action, now);
        }
        self.stoppers.retain(|_, s| !s.task.is_finished());
        self.publish(now);
        let ip = self.ips().map(|ips| ips.primary());
        self.probes.reconcile(&self.pod, &self.state, ip);
        let running = matches!(self.state.sandbox, Sandbox::Ready { .. });
        self.sources.reconcile(if running { Some(&self.pod) } else { None });
        let wake = wake.map(|at| self.ctx.clock.instant(at));
        let renew = self.renew_tokens().filter(|_| running);
        wake.into_iter().chain(renew).min()
    }

    /// Renews tokens whose time has come; answers when the next one's comes.
    fn renew_tokens(&self) -> Option<Instant> {
        let (due, now) = (self.ctx.cluster.tokens_due(spec::uid(&self.pod))?, Instant::now());
        if due > now {
            return Some(due);
        }
        self.refresh_volumes();
        Some(now + RENEWING)
    }

    fn ips(&self) -> Option<PerFamily<IpAddr>> {
        match self.state.sandbox {
            Sandbox::Ready { ips } => Some(ips),
            _ => None,
        }
    }

    fn publish(&mut self, now: Timestamp) {
        let view = PodView { pod: &self.pod, state: &self.state, now };
        let status = super::status(&view, self.ctx.settings.node_ips);
        tell::transitions(&self.ctx, &self.pod, &self.state.last_status, &status);
        let changed = self.state.last_status != status;
        self.state.last_status = status.clone();
        if self.gone {
            return;
        }
        let snapshot =
            Snapshot { pod: self.pod.clone(), status: status.clone(), state: Arc::new(self.state.clone()) };
        self.ctx.directory.put(snapshot);
        if changed || self.status.borrow().is_none() {
            self.send_status(status, false);
        }
    }

    /// The node controller calls the pods of a silent node not ready. When the node is back, they are what
    /// it says; a while later, so that the two do not race while the controller still believes otherwise.
    fn note_contradiction(&mut self) {
        let ready = |s: &PodStatus| {
            s.conditions.iter().flatten().find(|c| c.type_ == "Ready").map(|c| c.status.clone())
        };
        let (theirs, ours) = (self.pod.status.as_ref().and_then(ready), ready(&self.state.last_status));
        if self.contradicted || ours.is_none() || theirs.is_none() || theirs == ours {
            return;
        }
        self.contradicted = true;
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(BEFORE_CORRECTING).await;
            let _ = outbox.send(Message::Contradicted);
        });
    }

    fn send_status(&self, status: PodStatus, delete: bool) {
        self.status.send_replace(Some(Desired { pod: self.pod.clone(), status, delete, again: false }));
    }

    fn perform(&mut self, action: &Action, now: Timestamp) {
        if let Action::Start { container, .. } = action {
            self.remove_outdated(container);
        }
        begin(&mut self.state, action, now);
        match action {
            Action::Prepare => {
                self.spawn(|ctx, pod| async move { Observation::Prepared(start::prepare(&ctx, &pod).await) })
            }
            Action::Start { container, attempt } => self.start(container, *attempt),
            Action::Kill { container, id, deadline, why } => self.kill(container, id, *deadline, *why),
            Action::ClearSandbox | Action::RemoveSandbox => self.spawn(|ctx, pod| async move {
                remove_sandbox(&ctx, &pod).await;
                Observation::SandboxRemoved
            }),
            Action::DeleteObject if self.gone => self.done = true,
            Action::DeleteObject => {
                let view = PodView { pod: &self.pod, state: &self.state, now };
                let status = super::status(&view, self.ctx.settings.node_ips);
                self.state.last_status = status.clone();
                self.send_status(status, true);
            }
            Action::Wake(_) => {}
        }
    }

    /// Performs in a task of its own and observes the outcome.
    fn spawn<F, O>(&self, work: F)
    where
        F: FnOnce(Arc<Context>, Arc<Pod>) -> O,
        O: Future<Output = Observation> + Send + 'static,
    {
        let outbox = self.outbox.clone();
        let work = work(self.ctx.clone(), self.pod.clone());
        tokio::spawn(async move {
            let _ = outbox.send(Message::Seen(work.await));
        });
    }

    fn start(&self, name: &str, attempt: i32) {
        let (Some(container), Some(ips)) = (spec::find_container(&self.pod, name), self.ips()) else {
            return;
        };
        let container = container.into_owned();
        let target = ephemeral::target(&self.pod, name).and_then(|target| self.state.record(target));
        let target = target.filter(|t| t.running()).and_then(|t| t.container_id());
        let target = target.map(|id| ContainerId(id.to_owned()));
        let cancel = self.stopping.clone();
        self.spawn(|ctx, pod| async move {
            let result = start::start(&ctx, &pod, &container, attempt, ips, target, &cancel).await;
            Observation::Started { container: container.name, result }
        });
    }

    /// The life before the last is forgotten, its log too.
    fn remove_outdated(&self, name: &str) {
        let Some(record) = self.state.record(name) else { return };
        if let (Life::Exited(_), Some(old)) = (&record.life, &record.last)
            && !old.container_id.is_empty()
        {
            let (backend, id) = (self.ctx.backend.clone(), ContainerId(old.container_id.clone()));
            tokio::spawn(async move {
                if let Err(e) = backend.remove_container(&id).await {
                    tracing::debug!(container = %id, "cannot remove a container: {e}");
                }
            });
        }
    }

    fn kill(&mut self, name: &str, id: &str, deadline: Timestamp, why: Why) {
        let at = self.ctx.clock.instant(deadline);
        if let Some(stopper) = self.stoppers.get(id) {
            stopper.deadline.send_replace(at);
            return;
        }
        let Some(container) = spec::find_container(&self.pod, name).map(Cow::into_owned) else { return };
        let message = match why {
            Why::Stopping => format!("Stopping container {name}"),
            Why::Doomed(Doom::Liveness) => {
                format!("Container {name} failed liveness probe, will be restarted")
            }
            Why::Doomed(Doom::Startup) => format!("Container {name} failed startup probe, will be restarted"),
            Why::Doomed(Doom::ImageChanged) => {
                format!("Container {name} definition changed, will be restarted")
            }
        };
        self.ctx.normal(&self.pod, Some(name), "Killing", message);
        let (sender, receiver) = watch::channel(at);
        let (ctx, pod, outbox) = (self.ctx.clone(), self.pod.clone(), self.outbox.clone());
        let (target, ip) = (ContainerId(id.to_owned()), self.ips().map(|ips| ips.primary()));
        let task = tokio::spawn(async move {
            let exit = kill::stop(ctx, pod, container, target, ip, receiver).await;
            let _ = outbox.send(Message::Seen(Observation::Exited(exit)));
        });
        self.stoppers.insert(id.to_owned(), Stopper { deadline: sender, task });
    }

    async fn with_last_words(&mut self, exit: Exit) -> Exit {
        if let Some(stopper) = self.stoppers.remove(&exit.container_id) {
            stopper.task.abort();
        }
        let backend = self.ctx.backend.as_ref();
        let name = match self.state.running(&exit.container_id) {
            Some(name) => Some(name.to_owned()),
            // It ended before its start was reported.
            None => {
                backend.container(&ContainerId(exit.container_id.clone())).await.ok().map(|c| c.spec.name)
            }
        };
        match name.and_then(|name| spec::find_container(&self.pod, &name)) {
            Some(container) => super::last_words::add(self.ctx.backend.as_ref(), &container, exit).await,
            None => exit,
        }
    }

    fn refresh_volumes(&self) {
        if !matches!(self.state.sandbox, Sandbox::Ready { .. }) || self.state.stopping.is_some() {
            return;
        }
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        tokio::spawn(async move {
            if let Err(cause) = start::refresh_volumes(&ctx, &pod).await {
                tracing::debug!(pod = spec::described(&pod), "cannot refresh volumes: {cause}");
            }
        });
    }
}

/// Removes a pod's mounts and sandbox, however long it takes.
async fn remove_sandbox(ctx: &Context, pod: &Pod) {
    let mut pause = std::time::Duration::from_millis(100);
    loop {
        let dir = ctx.backend.volumes_dir(spec::uid(pod));
        let _ = tokio::task::spawn_blocking(move || crate::volume::release(&dir)).await;
        match ctx.backend.remove_sandbox(spec::uid(pod)).await {
            Ok(()) => return,
            Err(e) => {
                tracing::warn!(pod = spec::described(pod), "cannot remove a sandbox: {e}");
                ctx.warn(pod, None, "FailedKillPod", format!("error killing pod: {e}"));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(std::time::Duration::from_secs(10));
    }
}
