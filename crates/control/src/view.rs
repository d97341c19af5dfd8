//! What a controller sees when it decides.

use std::time::Duration;

use daymark_model::ObjectName;
use jiff::Timestamp;

use crate::action::Decision;
use crate::config::ControllersConfig;
use crate::state::State;
use crate::task::{Controller, Task};

/// The input of every decision. Deciders read nothing else.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub state: &'a State,
    pub config: &'a ControllersConfig,
    /// The wall clock, for timestamps in objects.
    pub now: Timestamp,
    /// Monotonic time since the controllers' start, for judging delays.
    pub at: Duration,
}

/// Decides what is to be done about one task.
pub fn decide(view: &View<'_>, task: &Task) -> Decision {
    let decide: fn(&View<'_>, &ObjectName) -> Decision = match task.controller {
        Controller::Deployment => crate::deployment::decide,
        Controller::ReplicaSet => crate::replicaset::decide,
        Controller::Replication => crate::replicaset::decide_replication_controller,
        Controller::StatefulSet => crate::statefulset::decide,
        Controller::DaemonSet => crate::daemonset::decide,
        Controller::Job => crate::job::decide,
        Controller::JobOrphan => crate::job::decide_orphan,
        Controller::Disruption => crate::disruption::decide,
        Controller::CronJob => crate::cronjob::decide,
        Controller::Scheduler => crate::scheduler::decide,
        Controller::EndpointSlice => crate::endpointslice::decide,
        Controller::Endpoints => crate::endpoints::decide,
        Controller::EndpointsMirror => crate::endpoints::mirror::decide,
        Controller::NodeHealth => crate::node::health::decide,
        Controller::Eviction => crate::node::eviction::decide,
        Controller::PodCleanup => crate::node::cleanup::decide,
        Controller::TerminatedPods => crate::node::cleanup::decide_terminated,
        Controller::NamespaceSetup => crate::namespace::decide_setup,
        Controller::NamespaceEnd => crate::namespace::decide_end,
        Controller::LoadBalancer => crate::loadbalancer::decide,
    };
    decide(view, &task.key)
}
