//! The status of a ReplicaSet.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::keeps::{Keeps, Wish};
use crate::action::Action;
use crate::meta::{available_at, labels_match, pod_finished, pod_ready, seconds};
use crate::view::View;

/// The status update that is due, if any. `failure` is the last error and whether pods are missing.
pub fn update<T: Keeps>(
    view: &View<'_>,
    set: &T,
    wish: &Wish,
    pods: &[Arc<Pod>],
    active: &[Arc<Pod>],
    failure: Option<(&str, bool)>,
) -> Option<Action> {
    let template_labels = wish.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    let count = |wanted: &dyn Fn(&Pod) -> bool| count(active.iter().filter(|p| wanted(p)).count());
    let is_available = |p: &Pod| available_at(p, wish.min_ready).is_some_and(|t| t <= view.now);
    let fully = count(&|p| template_labels.is_none_or(|l| labels_match(l, p.metadata.labels.as_ref())));
    let ready = count(&|p| pod_ready(p));
    let available = count(&is_available);
    let terminating = self::count(
        pods.iter().filter(|p| p.metadata.deletion_timestamp.is_some() && !pod_finished(p)).count(),
    );
    let old = set.status();
    let keep_zero = |n: i32, was: Option<i32>| (n > 0 || was.is_some()).then_some(n);
    let new = ReplicaSetStatus {
        replicas: self::count(active.len()),
        fully_labeled_replicas: keep_zero(fully, old.fully_labeled_replicas),
        ready_replicas: keep_zero(ready, old.ready_replicas),
        available_replicas: keep_zero(available, old.available_replicas),
        terminating_replicas: keep_zero(terminating, old.terminating_replicas),
        observed_generation: set.metadata().generation,
        conditions: conditions(view, &old, failure),
    };
    Action::update(set, &set.with_status(new), "status")
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn conditions(
    view: &View<'_>,
    old: &ReplicaSetStatus,
    failure: Option<(&str, bool)>,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let known = conditions.iter().position(|c| c.type_ == "ReplicaFailure");
    match failure {
        None => {
            if let Some(at) = known {
                conditions.remove(at);
            }
        }
        Some((message, creating)) => {
            let reason = if creating { "FailedCreate" } else { "FailedDelete" };
            let new = ReplicaSetCondition {
                type_: "ReplicaFailure".into(),
                status: "True".into(),
                reason: Some(reason.into()),
                message: Some(message.into()),
                last_transition_time: Some(seconds(view.now)),
            };
            match known {
                Some(at) if conditions[at].reason == new.reason => {}
                Some(at) => conditions[at] = new,
                None => conditions.push(new),
            }
        }
    }
    if conditions.is_empty() && old.conditions.is_none() { None } else { Some(conditions) }
}

/// How long until the next ready pod becomes available.
pub fn next_available(view: &View<'_>, wish: &Wish, active: &[Arc<Pod>]) -> Option<Duration> {
    next_of(view, wish.min_ready, active.iter())
}

/// How long until the next of these pods has been ready for `min_ready` seconds.
pub fn next_of<'a>(
    view: &View<'_>,
    min_ready: i32,
    pods: impl Iterator<Item = &'a Arc<Pod>>,
) -> Option<Duration> {
    if min_ready <= 0 {
        return None;
    }
    let coming = pods.filter_map(|p| available_at(p, min_ready)).filter(|t| *t > view.now).min()?;
    Duration::try_from(coming.duration_since(view.now)).ok()
}
