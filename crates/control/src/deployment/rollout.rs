//! The steps of the two strategies.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::{Rollout, available, desired, limits, revision, size};
use crate::action::Action;
use crate::meta::pod_finished;

impl Rollout<'_> {
    /// RollingUpdate: grow the new ReplicaSet within the surge, shrink the old ones within what may be
    /// unavailable, unhealthy pods first.
    pub(super) fn roll(&mut self) {
        if !self.ensure_current() {
            return;
        }
        let Some(current) = self.current.clone() else { return };
        let wanted = if size(&current) > desired(self.spec) {
            desired(self.spec)
        } else {
            self.size_of_current(size(&current))
        };
        if self.resize(&current, wanted) {
            return;
        }
        if !self.shrink_old(&current) && self.is_complete() {
            self.clean_up();
        }
    }

    /// Recreate: the old must be gone before the new come.
    pub(super) fn recreate(&mut self) {
        let old = self.old.clone();
        let mut shrunk = false;
        for set in &old {
            shrunk |= self.resize(set, 0);
        }
        if shrunk || self.old_pods_live() {
            self.adopt_revision();
            return;
        }
        if !self.ensure_current() {
            return;
        }
        let Some(current) = self.current.clone() else { return };
        if !self.resize(&current, desired(self.spec)) && self.is_complete() {
            self.clean_up();
        }
    }

    fn old_pods_live(&self) -> bool {
        let uids = self.old.iter().filter_map(|s| s.metadata.uid.as_deref());
        uids.flat_map(|uid| self.view.state.pods_of(uid)).any(|p| !pod_finished(p))
    }

    fn shrink_old(&mut self, current: &Arc<ReplicaSet>) -> bool {
        let old_pods: i32 = self.old.iter().map(|s| size(s)).sum();
        if old_pods == 0 {
            return false;
        }
        let least_available = desired(self.spec) - limits(self.spec).1;
        let missing_new = size(current) - available(current);
        let most = old_pods + size(current) - least_available - missing_new;
        if most <= 0 {
            return false;
        }
        let mut sizes: Vec<i32> = self.old.iter().map(|s| size(s)).collect();
        let mut unhealthy = most;
        for (set, n) in self.old.iter().zip(&mut sizes) {
            let cut = (*n - available(set)).clamp(0, unhealthy);
            *n -= cut;
            unhealthy -= cut;
        }
        let available_now: i32 = self.all().map(|s| available(s)).sum();
        let mut healthy = available_now - least_available;
        for n in &mut sizes {
            let cut = (*n).min(healthy.max(0));
            *n -= cut;
            healthy -= cut;
        }
        let old = self.old.clone();
        let mut changed = false;
        for (set, n) in old.iter().zip(sizes) {
            changed |= self.resize(set, n);
        }
        changed
    }

    /// Gives a ReplicaSet a size. True if that changes anything.
    pub(super) fn resize(&mut self, set: &Arc<ReplicaSet>, to: i32) -> bool {
        let from = size(set);
        let mut new = (**set).clone();
        if let Some(spec) = &mut new.spec {
            spec.replicas = Some(to);
        }
        if from != to || self.current.as_ref().is_some_and(|c| c.metadata.uid == set.metadata.uid) || from > 0
        {
            revision::annotate_size(&mut new, self);
        }
        let Some(update) = Action::update(&**set, &new, "") else { return false };
        self.actions.push(update);
        if from != to {
            let direction = if to > from { "up" } else { "down" };
            let name = set.metadata.name.as_deref().unwrap_or_default();
            self.event(
                "ScalingReplicaSet",
                format!("Scaled {direction} replica set {name} from {from} to {to}"),
            );
        }
        true
    }

    /// Deletes the oldest ReplicaSets that are beyond the history limit and empty.
    fn clean_up(&mut self) {
        let Some(limit) = self.spec.revision_history_limit.and_then(|l| usize::try_from(l).ok()) else {
            return;
        };
        let mut old: Vec<_> =
            self.old.iter().filter(|s| s.metadata.deletion_timestamp.is_none()).cloned().collect();
        let surplus = old.len().saturating_sub(limit);
        old.sort_by_key(|s| (revision::of(s), s.metadata.creation_timestamp.clone()));
        for set in old.into_iter().take(surplus) {
            let status = set.status.clone().unwrap_or_default();
            let settled = status.replicas == 0
                && size(&set) == 0
                && status.observed_generation >= set.metadata.generation;
            if settled {
                self.actions.push(Action::delete(&*set, None));
            }
        }
    }
}
