//! What all workers of a node share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use daymark_model::PerFamily;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::time::Instant;

use super::backend::Backend;
use super::events::PodEvent;
use super::spec;
use super::state::PodState;
use crate::env::TokenAsk;
use crate::env::dns::Resolver;
use crate::env::fields::Place;
use crate::env::vars::{Data, Kind};

/// Facts about the node that pods are told or limited by.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: String,
    pub node_ips: PerFamily<IpAddr>,
    pub dns_ip: IpAddr,
    pub domain: String,
    pub host_resolver: Resolver,
    /// Thousandths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
    pub max_pods: u32,
}

/// Why a write to the API did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The object is gone or is another one by now: there is nothing to write to.
    Gone,
    /// Worth trying again.
    Retry(String),
    /// Refused for good.
    Refused(String),
}

/// The cluster as workers see it; a seam, so that they can be tested without an API server.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// A ConfigMap's or Secret's contents; `None` when it does not exist. When the API server is
    /// away, what was read last.
    async fn object(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Arc<Data>>, String>;
    /// A token of the pod's ServiceAccount that ends with the pod: a new one, or the last one while it is
    /// still good for long.
    async fn token(&self, pod: &Pod, ask: &TokenAsk) -> Result<String, String>;
    /// When the first of a pod's tokens should be renewed.
    fn tokens_due(&self, uid: &str) -> Option<Instant>;
    /// The pod is no more.
    fn forget_pod(&self, uid: &str);
    async fn write_status(&self, pod: &Pod, status: &PodStatus) -> Result<(), WriteError>;
    /// Deletes at once, if it is still the pod with this uid.
    async fn delete_pod(&self, pod: &Pod) -> Result<(), WriteError>;
    /// Variables that name the namespace's Services (only the API server's own unless `all`).
    async fn service_variables(&self, namespace: &str, all: bool) -> Vec<(String, String)>;
    fn event(&self, event: PodEvent);
}

/// A clock that starts at the machine's time and then only moves forward, second by second: waits and
/// deadlines don't jump when the machine's time is corrected.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Timestamp,
    origin: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { base: Timestamp::now(), origin: Instant::now() }
    }

    pub fn now(&self) -> Timestamp {
        self.base + SignedDuration::try_from(self.origin.elapsed()).unwrap_or(SignedDuration::ZERO)
    }

    /// The instant at which this clock shows `at`; now if that has passed.
    pub fn instant(&self, at: Timestamp) -> Instant {
        let wait = at.duration_since(self.now());
        Instant::now() + std::time::Duration::try_from(wait).unwrap_or_default()
    }
}

/// What the kubelet API may know of a pod.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub pod: Arc<Pod>,
    pub status: PodStatus,
    pub state: Arc<PodState>,
}

/// By the pod's uid: a name may pass to another pod while the former still ends.
type Snapshots = BTreeMap<String, Arc<Snapshot>>;

/// All pods of this node whose objects exist.
#[derive(Clone, Default)]
pub struct Directory(Arc<RwLock<Snapshots>>);

impl Directory {
    pub fn put(&self, snapshot: Snapshot) {
        self.write().insert(spec::uid(&snapshot.pod).to_owned(), Arc::new(snapshot));
    }

    pub fn remove(&self, uid: &str) {
        self.write().remove(uid);
    }

    pub fn get(&self, uid: &str) -> Option<Arc<Snapshot>> {
        self.read().get(uid).cloned()
    }

    /// The pod of this name; the younger, before the former's worker has heard that its object is gone.
    pub fn named(&self, namespace: &str, name: &str) -> Option<Arc<Snapshot>> {
        let map = self.read();
        let all = map.values().filter(|s| (spec::namespace(&s.pod), spec::name(&s.pod)) == (namespace, name));
        all.max_by_key(|s| s.state.start_time).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Snapshot>> {
        self.read().values().cloned().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Snapshots> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Snapshots> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What all workers of a node share.
pub struct Context {
    pub backend: Arc<dyn Backend>,
    pub cluster: Arc<dyn Cluster>,
    pub settings: Settings,
    pub directory: Directory,
    pub clock: Clock,
}

impl Context {
    pub fn place(&self, pod_ips: Option<PerFamily<IpAddr>>) -> Place {
        Place {
            node: self.settings.node.clone(),
            host_ips: self.settings.node_ips,
            pod_ips,
            allocatable_cpu: self.settings.cpu,
            allocatable_memory: self.settings.memory,
        }
    }

    /// Tells the user about a pod.
    pub fn normal(&self, pod: &Pod, container: Option<&str>, reason: &'static str, message: String) {
        self.cluster.event(PodEvent::new(pod, container, "Normal", reason, message));
    }

    /// Tells the user about trouble of a pod.
    pub fn warn(&self, pod: &Pod, container: Option<&str>, reason: &'static str, message: String) {
        self.cluster.event(PodEvent::new(pod, container, "Warning", reason, message));
    }
}
