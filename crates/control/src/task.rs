//! The unit of work: one controller looking at one object.

use daymark_model::ObjectName;

/// The controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Keys are Deployments.
    Deployment,
    /// Keys are ReplicaSets.
    ReplicaSet,
    /// Keys are ReplicationControllers.
    Replication,
    /// Keys are StatefulSets.
    StatefulSet,
    /// Keys are DaemonSets.
    DaemonSet,
    /// Keys are Jobs.
    Job,
    /// Keys are pods that no Job may be counting.
    JobOrphan,
    /// Keys are CronJobs.
    CronJob,
    /// Keys are PodDisruptionBudgets.
    Disruption,
    /// Keys are unbound pods.
    Scheduler,
    /// Keys are Services.
    EndpointSlice,
    /// Keys are Services.
    Endpoints,
    /// Keys are Endpoints.
    EndpointsMirror,
    /// Keys are nodes.
    NodeHealth,
    /// Keys are pods on tainted nodes.
    Eviction,
    /// Keys are pods that may have outlived their node.
    PodCleanup,
    /// One key: the oldest of the terminated pods go.
    TerminatedPods,
    /// Keys are namespaces: what each must have.
    NamespaceSetup,
    /// Keys are namespaces that are being deleted.
    NamespaceEnd,
    /// One key: all Services share the pools.
    LoadBalancer,
}

/// One controller and the object that it shall look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    pub controller: Controller,
    pub key: ObjectName,
}

impl Task {
    /// A task for an object.
    pub fn new(controller: Controller, key: ObjectName) -> Self {
        Self { controller, key }
    }

    /// The task of a controller that looks at everything at once.
    pub fn whole(controller: Controller) -> Self {
        Self { controller, key: ObjectName::new("", "") }
    }
}
