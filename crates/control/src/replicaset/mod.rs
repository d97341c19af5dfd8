//! The ReplicaSet controller: as many pods as asked for, no more, no less. ReplicationControllers are the same
//! under an older name.

mod keeps;
mod rank;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daymark_model::ObjectName;
use k8s_openapi::api::core::v1::Pod;

use crate::action::{Action, Decision, Report};
use crate::claim;
use crate::meta::{pod_active, selector_is_empty};
use crate::state::Store;
use crate::task::Task;
use crate::template;
use crate::view::View;
use keeps::{Keeps, Wish};
pub use rank::least_useful;
pub use status::next_of;

/// At most so many pods are created or deleted for one ReplicaSet before it is looked at again.
const BURST: usize = 500;

/// Looks at one ReplicaSet:
/// 1. pods that match and have no controller are adopted, own pods that no longer match are released;
/// 2. if there are too few active pods, the missing are created; if too many, the least useful deleted;
/// 3. the status is brought up to date.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    decide_any(view, &view.state.replica_sets, key)
}

/// Looks at one ReplicationController, as at a ReplicaSet.
pub fn decide_replication_controller(view: &View<'_>, key: &ObjectName) -> Decision {
    decide_any(view, &view.state.replication_controllers, key)
}

fn decide_any<T: Keeps>(view: &View<'_>, store: &Store<T>, key: &ObjectName) -> Decision {
    let mut decision = Decision::default();
    let Some(set) = store.get(key) else { return decision };
    let Some(wish) = set.wish().filter(|w| !selector_is_empty(&w.selector)) else { return decision };
    let claim = claim::pods(view, &**set, &wish.selector, pod_active);
    decision.actions.extend(claim.releases);
    if !claim.adoptions.is_empty() {
        decision.actions.extend(claim.adoptions);
        return decision;
    }
    let active: Vec<_> = claim.pods.iter().filter(|p| pod_active(p)).cloned().collect();
    let failure = view.state.failures.get(&Task::new(T::CONTROLLER, key.clone()));
    let wanted = usize::try_from(wish.replicas).unwrap_or(0);
    let failed = failure.map(|f| (f.as_str(), active.len() < wanted));
    let status = status::update(view, &**set, &wish, &claim.pods, &active, failed);
    if let Some(soon) = status::next_available(view, &wish, &active) {
        decision.look_again(soon);
    }
    let alive = set.metadata().deletion_timestamp.is_none();
    let scaling = if alive { scale(view, &**set, &wish, &active, wanted) } else { vec![] };
    if failure.is_some() {
        decision.push(status);
        decision.actions.extend(scaling);
    } else {
        decision.actions.extend(scaling);
        decision.push(status);
    }
    decision
}

fn scale<T: Keeps>(view: &View<'_>, set: &T, wish: &Wish, active: &[Arc<Pod>], wanted: usize) -> Vec<Action> {
    if active.len() < wanted {
        let report = Report::created_pod(T::COMPONENT, set);
        let pod = template::pod(&wish.template, set);
        (active.len()..wanted).take(BURST).map(|_| Action::create(&pod, Some(report.clone()))).collect()
    } else {
        let report = Report::deleted_pod(T::COMPONENT, set);
        let surplus = (active.len() - wanted).min(BURST);
        rank::least_useful(view, active, surplus)
            .iter()
            .map(|pod| Action::delete(&***pod, Some(report.clone())))
            .collect()
    }
}
