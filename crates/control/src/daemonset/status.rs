//! The status of a DaemonSet.

use k8s_openapi::api::apps::v1::DaemonSetStatus;

use super::{Sync, pod};
use crate::action::Action;
use crate::meta::pod_ready;

/// The status update that is due, if any. Each node counts by its oldest pod.
pub fn update(sync: &Sync<'_>) -> Option<Action> {
    let old = sync.set.status.clone().unwrap_or_default();
    let mut new = DaemonSetStatus {
        observed_generation: sync.set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
        ..Default::default()
    };
    let (mut updated, mut available) = (0, 0);
    for node in sync.view.state.nodes.iter() {
        let pods = sync.pods.get(node.metadata.name.as_deref().unwrap_or_default());
        let first = pods.and_then(|p| p.first());
        if !pod::fits(sync.set, node).0 {
            new.number_misscheduled += i32::from(first.is_some());
            continue;
        }
        new.desired_number_scheduled += 1;
        let Some(first) = first else { continue };
        new.current_number_scheduled += 1;
        new.number_ready += i32::from(pod_ready(first));
        available += i32::from(sync.is_available(first));
        updated += i32::from(sync.is_new(first));
    }
    let keep_zero = |n: i32, was: Option<i32>| (n > 0 || was.is_some()).then_some(n);
    new.updated_number_scheduled = keep_zero(updated, old.updated_number_scheduled);
    new.number_available = keep_zero(available, old.number_available);
    let unavailable = new.desired_number_scheduled - available;
    new.number_unavailable = keep_zero(unavailable, old.number_unavailable);
    let mut after = sync.set.clone();
    after.status = Some(new);
    Action::update(sync.set, &after, "status")
}
