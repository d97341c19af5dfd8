//! Which probes must run now, and the tasks that run them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::backend::Backend;
use super::context::Context;
use super::spec;
use super::state::{Life, Observation, PodState};
use super::worker::Message;
use crate::probe::ProbeKind;
use crate::probe::check::{Exec, Target};
use crate::probe::runner::{self, Report};
use crate::runtime::ContainerId;

/// One probe of one life of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub container: String,
    pub id: String,
    pub kind: ProbeKind,
}

/// The probes that must run: the startup probe alone until it passes; when the pod stops, readiness
/// only, because terminating endpoints may still serve.
pub fn wanted(pod: &Pod, state: &PodState) -> Vec<Key> {
    let stopping = state.stopping.is_some();
    let mut keys = Vec::new();
    for c in spec::all_containers(pod) {
        let Some(record) = state.record(&c.name) else { continue };
        let Life::Running { id, kill, .. } = &record.life else { continue };
        let kinds: &[ProbeKind] = match (record.started, stopping || kill.is_some()) {
            (false, true) => &[],
            (false, false) => &[ProbeKind::Startup],
            (true, true) => &[ProbeKind::Readiness],
            (true, false) => &[ProbeKind::Readiness, ProbeKind::Liveness],
        };
        for kind in kinds.iter().filter(|k| k.of(&c).is_some()) {
            keys.push(Key { container: c.name.clone(), id: id.clone(), kind: *kind });
        }
    }
    keys
}

struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The running probes of a pod.
pub struct Probes {
    ctx: Arc<Context>,
    outbox: mpsc::UnboundedSender<Message>,
    tasks: BTreeMap<Key, Running>,
}

impl Probes {
    pub fn new(ctx: Arc<Context>, outbox: mpsc::UnboundedSender<Message>) -> Self {
        Self { ctx, outbox, tasks: BTreeMap::new() }
    }

    /// Starts what is wanted and not running, ends what is not wanted.
    pub fn reconcile(&mut self, pod: &Arc<Pod>, state: &PodState, ip: Option<IpAddr>) {
        let Some(ip) = ip else { return self.tasks.clear() };
        let wanted = wanted(pod, state);
        self.tasks.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if !self.tasks.contains_key(&key) {
                let task = self.start(pod, state, ip, &key);
                self.tasks.extend(task.map(|t| (key, Running(t))));
            }
        }
    }

    fn start(&self, pod: &Arc<Pod>, state: &PodState, ip: IpAddr, key: &Key) -> Option<JoinHandle<()>> {
        let container = spec::find_container(pod, &key.container)?.into_owned();
        let probe = key.kind.of(&container)?.clone();
        let Life::Running { started_at, .. } = &state.record(&key.container)?.life else { return None };
        let age = Duration::try_from(jiff::Timestamp::now().duration_since(*started_at)).unwrap_or_default();
        let exec = Arc::new(InContainer(self.ctx.backend.clone(), ContainerId(key.id.clone())));
        let target = Target { ip, container: Arc::new(container), exec };
        let (ctx, pod, outbox, key) = (self.ctx.clone(), pod.clone(), self.outbox.clone(), key.clone());
        let kind = key.kind;
        let report = move |report| match report {
            Report::Verdict(passed) => {
                let (container, id) = (key.container.clone(), key.id.clone());
                let seen = Observation::Probed { container, id, kind, passed };
                let _ = outbox.send(Message::Seen(seen));
            }
            Report::Failed(message) => ctx.warn(&pod, Some(&key.container), "Unhealthy", message),
            Report::Warned(message) => ctx.warn(&pod, Some(&key.container), "ProbeWarning", message),
        };
        Some(tokio::spawn(runner::run(kind, probe, target, age, report)))
    }
}

struct InContainer(Arc<dyn Backend>, ContainerId);

#[async_trait]
impl Exec for InContainer {
    async fn run(&self, argv: &[String]) -> Result<(i32, String), String> {
        self.0.run(&self.1, argv).await.map_err(|e| e.to_string())
    }
}
