//! Scaling without rolling: replicas are spread over the active ReplicaSets in proportion.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::revision::{DESIRED, MAXIMUM};
use super::{Rollout, available, desired, limits, size, strategy};
use crate::meta::annotation;

impl Rollout<'_> {
    /// Whether `spec.replicas` has changed since the active ReplicaSets were last sized.
    pub(super) fn is_scaling(&self) -> bool {
        let want = desired(self.spec).to_string();
        self.all()
            .filter(|s| size(s) > 0)
            .any(|s| annotation(&s.metadata, DESIRED).is_some_and(|known| known != want))
    }

    /// Brings the active ReplicaSets to the size that the Deployment now asks for.
    pub(super) fn scale(&mut self) {
        let active: Vec<_> = self.all().filter(|s| size(s) > 0).cloned().collect();
        let only = match active.len() {
            0 => self.current.clone().or_else(|| self.old.last().cloned()),
            1 => active.first().cloned(),
            _ => None,
        };
        if let Some(only) = only {
            self.resize(&only, desired(self.spec));
            return;
        }
        if active.is_empty() {
            return;
        }
        if self.current.as_ref().is_some_and(|c| self.is_saturated(c)) {
            for set in self.old.clone().iter().filter(|s| size(s) > 0) {
                self.resize(set, 0);
            }
            return;
        }
        if strategy(self.spec) == "RollingUpdate" {
            self.spread(active);
        }
    }

    fn is_saturated(&self, set: &ReplicaSet) -> bool {
        let want = desired(self.spec);
        size(set) == want
            && annotation(&set.metadata, DESIRED) == Some(&want.to_string())
            && available(set) == want
    }

    fn spread(&mut self, mut active: Vec<Arc<ReplicaSet>>) {
        let want = desired(self.spec);
        let allowed = if want > 0 { want + limits(self.spec).0 } else { 0 };
        let now: i32 = active.iter().map(|s| size(s)).sum();
        let to_add = allowed - now;
        // Larger ones first; of equal ones the newer when growing, the older when shrinking.
        active.sort_by_key(|s| s.metadata.creation_timestamp.clone());
        if to_add > 0 {
            active.reverse();
        }
        active.sort_by_key(|s| std::cmp::Reverse(size(s)));
        let mut sizes: Vec<i32> = Vec::new();
        let mut added = 0;
        for set in &active {
            let share = if to_add == 0 { 0 } else { self.share(set, allowed, to_add, added) };
            added += share;
            sizes.push(size(set) + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (set, n) in active.iter().zip(sizes) {
            self.resize(set, n);
        }
    }

    /// What a ReplicaSet gains (or loses) of `to_add`, of which `added` are given out.
    fn share(&self, set: &ReplicaSet, allowed: i32, to_add: i32, added: i32) -> i32 {
        let before: f64 = annotation(&set.metadata, MAXIMUM)
            .and_then(|m| m.parse().ok())
            .or(self.deployment.status.as_ref().and_then(|s| s.replicas).map(f64::from))
            .filter(|n| *n > 0.0)
            .unwrap_or(1.0);
        let exact = f64::from(size(set)) * f64::from(allowed) / before;
        // Both are replica counts, so the rounded value fits.
        let fraction = exact.round() as i32 - size(set);
        let left = to_add - added;
        if to_add > 0 { fraction.clamp(0, left.max(0)) } else { fraction.clamp(left.min(0), 0) }
    }
}
