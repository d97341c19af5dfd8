//! What ReplicaSets and ReplicationControllers have in common, in the ReplicaSet's terms.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::object::Cached;
use crate::task::Controller;

/// What such an object asks for.
pub struct Wish {
    pub selector: LabelSelector,
    pub template: PodTemplateSpec,
    pub replicas: i32,
    pub min_ready: i32,
}

/// A kind of object that keeps a number of equal pods.
pub trait Keeps: Cached {
    const CONTROLLER: Controller;
    /// Who its events come from.
    const COMPONENT: &'static str;
    fn wish(&self) -> Option<Wish>;
    fn status(&self) -> ReplicaSetStatus;
    /// The object with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Keeps for ReplicaSet {
    const CONTROLLER: Controller = Controller::ReplicaSet;
    const COMPONENT: &'static str = "replicaset-controller";

    fn wish(&self) -> Option<Wish> {
        let spec = self.spec.as_ref()?;
        Some(Wish {
            selector: spec.selector.clone(),
            template: spec.template.clone().unwrap_or_default(),
            replicas: spec.replicas.unwrap_or(1),
            min_ready: spec.min_ready_seconds.unwrap_or(0),
        })
    }

    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

impl Keeps for ReplicationController {
    const CONTROLLER: Controller = Controller::Replication;
    const COMPONENT: &'static str = "replication-controller";

    fn wish(&self) -> Option<Wish> {
        let spec = self.spec.as_ref()?;
        Some(Wish {
            selector: LabelSelector { match_labels: spec.selector.clone(), match_expressions: None },
            template: spec.template.clone().unwrap_or_default(),
            replicas: spec.replicas.unwrap_or(1),
            min_ready: spec.min_ready_seconds.unwrap_or(0),
        })
    }

    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        let condition = |c: ReplicationControllerCondition| ReplicaSetCondition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            terminating_replicas: None,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
        }
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let condition = |c: ReplicaSetCondition| ReplicationControllerCondition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
        };
        Self { status: Some(status), ..self.clone() }
    }
}
