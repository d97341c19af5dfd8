//! Everything that controllers know: one set of caches, changed only by synchronous `apply`.

mod packed;
mod store;
mod touch;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daymark_model::ObjectName;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolumeClaim, Pod, ReplicationController, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::meta;
use crate::object::{Cached, Kind, Object};
use crate::task::Task;
pub use packed::{Keep, Packed};
pub use store::{Entry, Store};

/// The caches of all controllers, and the few things they must remember between looks.
///
/// Times are monotonic, counted from the start of the controllers, so that a jump of the wall clock
/// changes no decision about nodes.
pub struct State {
    pub pods: Store<Pod>,
    pub replica_sets: Store<ReplicaSet>,
    pub deployments: Store<Deployment>,
    pub stateful_sets: Store<StatefulSet>,
    pub daemon_sets: Store<DaemonSet>,
    pub revisions: Store<ControllerRevision>,
    pub replication_controllers: Store<ReplicationController>,
    pub jobs: Store<Job>,
    pub cron_jobs: Store<CronJob>,
    pub budgets: Store<PodDisruptionBudget>,
    pub claims: Store<PersistentVolumeClaim>,
    pub services: Store<Service>,
    pub slices: Store<Packed<EndpointSlice>>,
    pub endpoints: Store<Packed<Endpoints>>,
    pub nodes: Store<Node>,
    pub leases: Store<Lease>,
    pub namespaces: Store<Namespace>,
    pub service_accounts: Store<ServiceAccount>,
    pub config_maps: Store<ConfigMap>,
    /// Pods that are being bound, by UID, and the node they go to.
    pub assumed: BTreeMap<String, (ObjectName, String)>,
    /// When each node's Lease was last seen to change.
    pub lease_seen: BTreeMap<String, Duration>,
    /// When each NoExecute taint (node, key) was first seen.
    pub taint_seen: BTreeMap<(String, String), Duration>,
    /// Since when a node that pods name has not existed.
    pub node_absent: BTreeMap<String, Duration>,
    /// The last error of tasks that failed.
    pub failures: BTreeMap<Task, String>,
}

const BY_CONTROLLER: usize = 0;
const BY_NODE: usize = 1;

/// The index value of objects without controller in a namespace; no UID contains a slash.
fn orphans_of(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

fn controller_index(meta: &ObjectMeta) -> Option<String> {
    Some(match meta::controller(meta) {
        Some(owner) => owner.uid.clone(),
        None => orphans_of(meta.namespace.as_deref().unwrap_or_default()),
    })
}

impl Default for State {
    fn default() -> Self {
        Self {
            pods: Store::indexed(&[
                |p: &Pod| controller_index(&p.metadata),
                |p: &Pod| meta::pod_node(p).map(str::to_owned),
            ]),
            replica_sets: Store::indexed(&[|r: &ReplicaSet| controller_index(&r.metadata)]),
            slices: Store::indexed(&[|s: &Packed<EndpointSlice>| {
                Some(format!("{}/{}", s.key().namespace, s.service.as_ref()?))
            }]),
            deployments: Store::default(),
            stateful_sets: Store::default(),
            daemon_sets: Store::default(),
            revisions: Store::indexed(&[|r: &ControllerRevision| controller_index(&r.metadata)]),
            replication_controllers: Store::default(),
            jobs: Store::indexed(&[|j: &Job| controller_index(&j.metadata)]),
            cron_jobs: Store::default(),
            budgets: Store::default(),
            claims: Store::default(),
            services: Store::default(),
            endpoints: Store::default(),
            nodes: Store::default(),
            leases: Store::default(),
            namespaces: Store::default(),
            service_accounts: Store::default(),
            config_maps: Store::default(),
            assumed: BTreeMap::new(),
            lease_seen: BTreeMap::new(),
            taint_seen: BTreeMap::new(),
            node_absent: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }
}

/// One row per kind: the store that keeps it, and what a change of it touches.
macro_rules! per_kind {
    ($($kind:ident: $store:ident, $touch:path;)*) => {
        impl State {
            /// Takes in an object, from a watch or as the answer to a write at monotonic time `at`.
            /// Returns what must be looked at because of it.
            pub fn upsert(&mut self, object: Object, at: Duration) -> Vec<Task> {
                match object {
                    $(Object::$kind(o) => accept(self, |s| &mut s.$store, Keep::keep(*o), at, $touch),)*
                    Object::Event(_) => Vec::new(),
                }
            }

            /// The answer to our own deletion says that an object is gone.
            pub fn deleted_by_us(&mut self, kind: Kind, key: &ObjectName, uid: &str, at: Duration) -> Vec<Task> {
                match kind {
                    $(Kind::$kind => drop_answered(self, |s| &mut s.$store, key, uid, at, $touch),)*
                    Kind::Event => Vec::new(),
                }
            }

            /// The watch says that an object is gone.
            pub fn deleted(&mut self, object: Object, at: Duration) -> Vec<Task> {
                match object {
                    $(Object::$kind(o) => drop_told(self, |s| &mut s.$store, Keep::keep(*o), at, $touch),)*
                    Object::Event(_) => Vec::new(),
                }
            }

            /// A list of a kind begins (`false`) or has ended (`true`).
            pub fn list(&mut self, kind: Kind, ended: bool, at: Duration) -> Vec<Task> {
                match kind {
                    $(Kind::$kind => mark(self, |s| &mut s.$store, ended, at, $touch),)*
                    Kind::Event => Vec::new(),
                }
            }
        }
    };
}

per_kind! {
    Pod: pods, touch::pod;
    ReplicaSet: replica_sets, touch::replica_set;
    Deployment: deployments, touch::deployment;
    StatefulSet: stateful_sets, touch::workload::stateful_set;
    DaemonSet: daemon_sets, touch::workload::daemon_set;
    ControllerRevision: revisions, touch::workload::revision;
    ReplicationController: replication_controllers, touch::workload::replication_controller;
    Job: jobs, touch::workload::job;
    CronJob: cron_jobs, touch::workload::cron_job;
    PodDisruptionBudget: budgets, touch::workload::budget;
    PersistentVolumeClaim: claims, touch::workload::claim;
    Service: services, touch::service;
    EndpointSlice: slices, touch::slice;
    Endpoints: endpoints, touch::endpoints;
    Node: nodes, touch::node;
    Lease: leases, touch::lease;
    Namespace: namespaces, touch::namespace;
    ServiceAccount: service_accounts, touch::service_account;
    ConfigMap: config_maps, touch::config_map;
}

impl State {
    /// Pods whose controller has this UID.
    pub fn pods_of(&self, uid: &str) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.by_index(BY_CONTROLLER, uid)
    }

    /// Pods of a namespace without controller.
    pub fn orphan_pods(&self, namespace: &str) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.by_index(BY_CONTROLLER, &orphans_of(namespace))
    }

    /// Pods bound to a node.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.by_index(BY_NODE, node)
    }

    /// ReplicaSets whose controller has this UID.
    pub fn replica_sets_of(&self, uid: &str) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.replica_sets.by_index(BY_CONTROLLER, uid)
    }

    /// ReplicaSets of a namespace without controller.
    pub fn orphan_replica_sets(&self, namespace: &str) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.replica_sets.by_index(BY_CONTROLLER, &orphans_of(namespace))
    }

    /// Revisions whose controller has this UID.
    pub fn revisions_of(&self, uid: &str) -> impl Iterator<Item = &Arc<ControllerRevision>> {
        self.revisions.by_index(BY_CONTROLLER, uid)
    }

    /// Revisions of a namespace without controller.
    pub fn orphan_revisions(&self, namespace: &str) -> impl Iterator<Item = &Arc<ControllerRevision>> {
        self.revisions.by_index(BY_CONTROLLER, &orphans_of(namespace))
    }

    /// Jobs whose controller has this UID.
    pub fn jobs_of(&self, uid: &str) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.by_index(BY_CONTROLLER, uid)
    }

    /// The EndpointSlices that name a Service.
    pub fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = EndpointSlice> {
        self.slices
            .by_index(0, &format!("{}/{}", service.namespace, service.name))
            .map(|packed| packed.unpack())
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(&ObjectName::new("", name))
    }

    /// Moves all Lease observations ahead by `gap`, because nobody was able to see renewals meanwhile.
    pub fn forgive_leases(&mut self, gap: Duration) {
        for seen in self.lease_seen.values_mut() {
            *seen += gap;
        }
    }
}

type Touch<T> = fn(&mut State, Option<&T>, Option<&T>, Duration, &mut Vec<Task>);
type Select<T> = fn(&mut State) -> &mut Store<T>;

fn accept<T: Entry>(state: &mut State, of: Select<T>, object: T, at: Duration, touch: Touch<T>) -> Vec<Task> {
    let mut tasks = Vec::new();
    if let Some((old, new)) = of(state).upsert(object) {
        touch(state, old.as_deref(), Some(&new), at, &mut tasks);
    }
    tasks
}

fn drop_told<T: Entry>(
    state: &mut State,
    of: Select<T>,
    object: T,
    at: Duration,
    touch: Touch<T>,
) -> Vec<Task> {
    let mut tasks = Vec::new();
    if let Some(old) = of(state).deleted(&object) {
        touch(state, Some(&old), None, at, &mut tasks);
    }
    tasks
}

fn drop_answered<T: Entry>(
    state: &mut State,
    of: Select<T>,
    key: &ObjectName,
    uid: &str,
    at: Duration,
    touch: Touch<T>,
) -> Vec<Task> {
    let mut tasks = Vec::new();
    if let Some(old) = of(state).deleted_by_us(key, uid) {
        touch(state, Some(&old), None, at, &mut tasks);
    }
    tasks
}

fn mark<T: Entry>(state: &mut State, of: Select<T>, ended: bool, at: Duration, touch: Touch<T>) -> Vec<Task> {
    let mut tasks = Vec::new();
    if !ended {
        of(state).list_begins();
        return tasks;
    }
    for old in of(state).list_ends() {
        touch(state, Some(&old), None, at, &mut tasks);
    }
    tasks
}

/// Drops what no controller reads and only costs memory.
pub fn slim<T: Cached>(object: &mut T) {
    let meta = object.metadata_mut();
    meta.managed_fields = None;
    meta.self_link = None;
    if T::WHAT != Kind::Deployment
        && let Some(annotations) = &mut meta.annotations
    {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}
