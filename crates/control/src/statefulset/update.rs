//! The rolling update: which pods of other revisions go next.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::{Sync, is_terminating, revision_of};
use crate::revisions;
use crate::template::share;

impl Sync<'_> {
    fn strategy(&self) -> &str {
        self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()).unwrap_or("RollingUpdate")
    }

    /// How many pods, from the first, stay at the revision they have.
    fn partition(&self) -> Option<i64> {
        let rolling = self.spec.update_strategy.as_ref()?.rolling_update.as_ref()?;
        Some(rolling.partition.unwrap_or(0).into())
    }

    /// Whether a new pod of that ordinal is of the settled revision rather than of the new one.
    pub(super) fn is_below_partition(&self, ordinal: i64) -> bool {
        let index = ordinal - self.first_ordinal();
        match self.partition() {
            Some(partition) => index < partition,
            None if self.strategy() == "RollingUpdate" => {
                let settled = self.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0);
                index < i64::from(settled)
            }
            None => false,
        }
    }

    /// Deletes pods of other revisions from the highest ordinal down to the partition: one after the other, or
    /// so many that no more than `maxUnavailable` are unavailable.
    pub(super) fn roll(&mut self) {
        if self.strategy() == "OnDelete" {
            return;
        }
        let first = self.first_ordinal() + self.partition().unwrap_or(0);
        let most = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let most = most.and_then(|r| r.max_unavailable.clone());
        let replicas: Vec<(i64, Arc<Pod>)> =
            self.replicas.iter().rev().map(|(o, p)| (*o, p.clone())).collect();
        let updatable = replicas.iter().take_while(|(ordinal, _)| *ordinal >= first);
        let newest = revisions::name(&self.history.current).to_owned();
        let is_old = |pod: &Pod| revision_of(pod) != newest && !is_terminating(pod);
        let Some(most) = most else {
            for (ordinal, pod) in updatable {
                if is_old(pod) {
                    return self.delete(*ordinal, pod);
                }
                if self.is_unavailable(pod) {
                    return;
                }
            }
            return;
        };
        let most = share(&most, self.spec.replicas.unwrap_or(1), false).max(1);
        let unavailable = replicas.iter().filter(|(_, pod)| self.is_unavailable(pod)).count();
        let free = usize::try_from(most).unwrap_or(1).saturating_sub(unavailable);
        let next: Vec<_> = updatable.filter(|(_, pod)| is_old(pod)).take(free).collect();
        next.into_iter().for_each(|(ordinal, pod)| self.delete(*ordinal, pod));
    }
}
