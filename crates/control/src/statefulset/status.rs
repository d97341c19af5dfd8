//! The status of a StatefulSet.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSetStatus;
use k8s_openapi::api::core::v1::Pod;

use super::{Sync, is_ready, is_terminating, revision_of};
use crate::action::Action;
use crate::revisions;

/// The status update that is due, if any. When all pods are of the new revision, it becomes the settled one.
pub fn update(sync: &Sync<'_>) -> Option<Action> {
    let pods: Vec<_> = sync.replicas.values().chain(sync.condemned.values()).collect();
    let (settled, newest) = (revisions::name(sync.settled), revisions::name(&sync.history.current));
    let of = |revision: &str| count(&pods, |p| !is_terminating(p) && revision_of(p) == revision);
    let (mut current, updated) = (of(settled), of(newest));
    let (replicas, ready) = (count(&pods, |_| true), count(&pods, is_ready));
    let mut current_revision = settled;
    let wanted = sync.spec.replicas.unwrap_or(1);
    let rolling = sync.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete");
    if rolling && [updated, ready, replicas] == [wanted; 3] {
        current = updated;
        current_revision = newest;
    }
    let old = sync.set.status.clone().unwrap_or_default();
    let keep_zero = |n: i32, was: Option<i32>| (n > 0 || was.is_some()).then_some(n);
    let new = StatefulSetStatus {
        replicas,
        ready_replicas: keep_zero(ready, old.ready_replicas),
        available_replicas: Some(count(&pods, |p| sync.is_available(p))),
        current_replicas: keep_zero(current, old.current_replicas),
        updated_replicas: keep_zero(updated, old.updated_replicas),
        current_revision: Some(current_revision.to_owned()),
        update_revision: Some(newest.to_owned()),
        collision_count: Some(old.collision_count.unwrap_or(0)),
        observed_generation: sync.set.metadata.generation,
        conditions: old.conditions,
    };
    let mut after = sync.set.clone();
    after.status = Some(new);
    Action::update(sync.set, &after, "status")
}

fn count(pods: &[&Arc<Pod>], wanted: impl Fn(&Pod) -> bool) -> i32 {
    i32::try_from(pods.iter().filter(|p| wanted(p)).count()).unwrap_or(i32::MAX)
}
