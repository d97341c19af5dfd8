//! Which tasks changes of workloads and of what belongs to them make necessary.

use std::time::Duration;

use daymark_model::ObjectName;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::{State, Tasks};
use crate::meta::{self, controller_key, key, labels_match, selector_matches};
use crate::object::Cached;
use crate::task::{Controller, Task};

/// The kinds that own pods, and who looks at them.
const OWNERS: [(&str, Controller); 5] = [
    ("ReplicaSet", Controller::ReplicaSet),
    ("ReplicationController", Controller::Replication),
    ("StatefulSet", Controller::StatefulSet),
    ("DaemonSet", Controller::DaemonSet),
    ("Job", Controller::Job),
];

/// The owner of a pod, or whoever may adopt it.
pub fn owners_of_pod(state: &State, pod: &Pod, out: &mut Tasks) {
    if let Some(owner) = meta::controller(&pod.metadata) {
        let known = OWNERS.iter().find(|(kind, _)| *kind == owner.kind);
        let key = controller_key(&pod.metadata, &owner.kind);
        out.extend(known.zip(key).map(|((_, controller), key)| Task::new(*controller, key)));
        return;
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let labels = pod.metadata.labels.as_ref();
    let selects = |selector: Option<&LabelSelector>| selector.is_some_and(|s| selector_matches(s, labels));
    for set in state.replica_sets.in_namespace(namespace) {
        if selects(set.spec.as_ref().map(|s| &s.selector)) {
            out.push(Task::new(Controller::ReplicaSet, key(&**set)));
        }
    }
    for set in state.stateful_sets.in_namespace(namespace) {
        if selects(set.spec.as_ref().map(|s| &s.selector)) {
            out.push(Task::new(Controller::StatefulSet, key(&**set)));
        }
    }
    for set in state.daemon_sets.in_namespace(namespace) {
        if selects(set.spec.as_ref().map(|s| &s.selector)) {
            out.push(Task::new(Controller::DaemonSet, key(&**set)));
        }
    }
    for job in state.jobs.in_namespace(namespace) {
        if selects(job.spec.as_ref().and_then(|s| s.selector.as_ref())) {
            out.push(Task::new(Controller::Job, key(&**job)));
        }
    }
    for set in state.replication_controllers.in_namespace(namespace) {
        let selector = set.spec.as_ref().and_then(|s| s.selector.as_ref());
        if selector.is_some_and(|s| !s.is_empty() && labels_match(s, labels)) {
            out.push(Task::new(Controller::Replication, key(&**set)));
        }
    }
}

/// A pod that waits to be counted by a Job which may be gone.
pub fn tracked_pod(state: &State, pod: &Pod, out: &mut Tasks) {
    if !crate::job::is_tracked(pod) {
        return;
    }
    let job = controller_key(&pod.metadata, "Job").and_then(|key| state.jobs.get(&key));
    if job.is_none_or(|j| crate::job::is_finished(j) || !meta::is_controlled_by(&pod.metadata, &j.metadata)) {
        out.push(Task::new(Controller::JobOrphan, key(pod)));
    }
}

/// The budgets that count a pod.
pub fn budgets_of_pod(state: &State, pod: &Pod, out: &mut Tasks) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for budget in state.budgets.in_namespace(namespace) {
        let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
        if selector.is_some_and(|s| selector_matches(s, pod.metadata.labels.as_ref())) {
            out.push(Task::new(Controller::Disruption, key(&**budget)));
        }
    }
}

/// The budgets of a namespace: how many pods are expected follows from their owners' replicas.
pub fn budgets_of(state: &State, meta: &ObjectMeta, out: &mut Tasks) {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let budgets = state.budgets.in_namespace(namespace);
    out.extend(budgets.map(|b| Task::new(Controller::Disruption, key(&**b))));
}

/// All DaemonSets: a node changed.
pub fn all_daemon_sets(state: &State, out: &mut Tasks) {
    out.extend(state.daemon_sets.iter().map(|d| Task::new(Controller::DaemonSet, key(&**d))));
}

fn push<T: Cached>(controller: Controller, old: Option<&T>, new: Option<&T>, out: &mut Tasks) {
    out.extend(new.or(old).map(|object| Task::new(controller, key(object))));
}

pub fn stateful_set(
    state: &mut State,
    old: Option<&StatefulSet>,
    new: Option<&StatefulSet>,
    _: Duration,
    out: &mut Tasks,
) {
    push(Controller::StatefulSet, old, new, out);
    if let Some(any) = new.or(old) {
        budgets_of(state, &any.metadata, out);
    }
}

pub fn daemon_set(
    _: &mut State,
    old: Option<&DaemonSet>,
    new: Option<&DaemonSet>,
    _: Duration,
    out: &mut Tasks,
) {
    push(Controller::DaemonSet, old, new, out);
}

pub fn replication_controller(
    state: &mut State,
    old: Option<&ReplicationController>,
    new: Option<&ReplicationController>,
    _: Duration,
    out: &mut Tasks,
) {
    push(Controller::Replication, old, new, out);
    if let Some(any) = new.or(old) {
        budgets_of(state, &any.metadata, out);
    }
}

pub fn revision(
    state: &mut State,
    old: Option<&ControllerRevision>,
    new: Option<&ControllerRevision>,
    _: Duration,
    out: &mut Tasks,
) {
    for revision in [old, new].into_iter().flatten() {
        if let Some(owner) = controller_key(&revision.metadata, "StatefulSet") {
            out.push(Task::new(Controller::StatefulSet, owner));
        } else if let Some(owner) = controller_key(&revision.metadata, "DaemonSet") {
            out.push(Task::new(Controller::DaemonSet, owner));
        } else {
            let namespace = revision.metadata.namespace.as_deref().unwrap_or_default();
            let sets = state.stateful_sets.in_namespace(namespace);
            out.extend(sets.map(|s| Task::new(Controller::StatefulSet, key(&**s))));
            let sets = state.daemon_sets.in_namespace(namespace);
            out.extend(sets.map(|s| Task::new(Controller::DaemonSet, key(&**s))));
        }
    }
}

/// A claim matters to pods that wait, and to the StatefulSets of its namespace that have claim templates.
pub fn claim(
    state: &mut State,
    old: Option<&PersistentVolumeClaim>,
    new: Option<&PersistentVolumeClaim>,
    _: Duration,
    out: &mut Tasks,
) {
    let Some(any) = new.or(old) else { return };
    super::pending_pods(state, out);
    let namespace = any.metadata.namespace.as_deref().unwrap_or_default();
    for set in state.stateful_sets.in_namespace(namespace) {
        let claims = set.spec.as_ref().and_then(|s| s.volume_claim_templates.as_ref());
        if claims.is_some_and(|c| !c.is_empty()) {
            out.push(Task::new(Controller::StatefulSet, key(&**set)));
        }
    }
}

pub fn job(state: &mut State, old: Option<&Job>, new: Option<&Job>, _: Duration, out: &mut Tasks) {
    push(Controller::Job, old, new, out);
    if new.is_none_or(crate::job::is_finished) {
        let uid = new.or(old).and_then(|j| j.metadata.uid.clone()).unwrap_or_default();
        out.extend(state.pods_of(&uid).map(|p| Task::new(Controller::JobOrphan, key(&**p))));
    }
    for job in [old, new].into_iter().flatten() {
        let owner = controller_key(&job.metadata, "CronJob");
        out.extend(owner.map(|o: ObjectName| Task::new(Controller::CronJob, o)));
    }
}

pub fn cron_job(_: &mut State, old: Option<&CronJob>, new: Option<&CronJob>, _: Duration, out: &mut Tasks) {
    push(Controller::CronJob, old, new, out);
}

pub fn budget(
    _: &mut State,
    old: Option<&PodDisruptionBudget>,
    new: Option<&PodDisruptionBudget>,
    _: Duration,
    out: &mut Tasks,
) {
    push(Controller::Disruption, old, new, out);
}
