//! The status of a Deployment, in the words that `kubectl rollout status` understands.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSet};

use super::{Rollout, available, desired, limits, size};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";
const DONE: &str = "NewReplicaSetAvailable";
const LATE: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

impl Rollout<'_> {
    fn condition(&self, kind: &str) -> Option<&DeploymentCondition> {
        let status = self.wanted.status.as_ref()?;
        status.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
    }

    /// The progress deadline in seconds, if there is one.
    fn deadline(&self) -> Option<i64> {
        self.spec.progress_deadline_seconds.filter(|s| *s != i32::MAX).map(i64::from)
    }

    pub(super) fn has_progress(&self) -> bool {
        self.deadline().is_none() || self.condition(PROGRESSING).is_some()
    }

    /// Pausing stops the progress clock, resuming restarts it.
    pub(super) fn note_pause(&mut self) {
        if self.deadline().is_none() {
            return;
        }
        let reason = self.condition(PROGRESSING).and_then(|c| c.reason.clone()).unwrap_or_default();
        let paused = self.spec.paused == Some(true);
        if reason == LATE {
            return;
        }
        if paused && reason != PAUSED {
            self.progress = Some(("Unknown", PAUSED, "Deployment is paused".into()));
        } else if !paused && reason == PAUSED {
            self.progress = Some(("Unknown", "DeploymentResumed", "Deployment is resumed".into()));
        }
    }

    fn count(&self) -> DeploymentStatus {
        let sum = |of: fn(&ReplicaSet) -> i32| self.all().map(|s| of(s)).sum::<i32>();
        let nonzero = |n: i32, was: Option<i32>| (n > 0 || was.is_some()).then_some(n);
        let old = self.wanted.status.clone().unwrap_or_default();
        let replicas = sum(|s| s.status.as_ref().map_or(0, |s| s.replicas));
        let ready = sum(|s| s.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0));
        let terminating = sum(|s| s.status.as_ref().and_then(|s| s.terminating_replicas).unwrap_or(0));
        let updated = self.current.as_ref().and_then(|s| s.status.as_ref()).map_or(0, |s| s.replicas);
        let can_serve = sum(available);
        let missing = (sum(size) - can_serve).max(0);
        DeploymentStatus {
            replicas: nonzero(replicas, old.replicas),
            updated_replicas: nonzero(updated, old.updated_replicas),
            ready_replicas: nonzero(ready, old.ready_replicas),
            available_replicas: nonzero(can_serve, old.available_replicas),
            unavailable_replicas: nonzero(missing, old.unavailable_replicas),
            terminating_replicas: nonzero(terminating, old.terminating_replicas),
            observed_generation: self.deployment.metadata.generation,
            collision_count: old.collision_count,
            conditions: old.conditions,
        }
    }

    /// Whether the rollout has ended: all pods are of the current template and available.
    pub(super) fn is_complete(&self) -> bool {
        complete(&self.count(), desired(self.spec))
    }

    /// Brings `wanted.status` up to date; returns when progress must be judged again.
    pub(super) fn update_status(&mut self) -> Option<Duration> {
        let status = self.count();
        let before = self.deployment.status.clone().unwrap_or_default();
        self.wanted.status = Some(status.clone());
        self.set_available(&status);
        if let Some((state, reason, message)) = self.progress.take() {
            self.set(PROGRESSING, state, reason, message, true);
        }
        if self.deployment.metadata.deletion_timestamp.is_none() && self.spec.paused != Some(true) {
            self.judge_progress(&before, &status);
        }
        self.copy_failure();
        self.until_deadline(&status)
    }

    fn set_available(&mut self, status: &DeploymentStatus) {
        let enough = status.available_replicas.unwrap_or(0) >= desired(self.spec) - limits(self.spec).1;
        let (state, reason, message) = if enough {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        self.set(AVAILABLE, state, reason, message.into(), false);
    }

    fn judge_progress(&mut self, before: &DeploymentStatus, status: &DeploymentStatus) {
        let known = self.condition(PROGRESSING).cloned();
        let is_done = status.replicas.unwrap_or(0) == status.updated_replicas.unwrap_or(0)
            && known.as_ref().is_some_and(|c| c.reason.as_deref() == Some(DONE));
        if self.deadline().is_none() || is_done {
            return;
        }
        let what = match &self.current {
            Some(set) => format!("ReplicaSet \"{}\"", set.metadata.name.as_deref().unwrap_or_default()),
            None => {
                format!("Deployment \"{}\"", self.deployment.metadata.name.as_deref().unwrap_or_default())
            }
        };
        if complete(status, desired(self.spec)) {
            self.set(PROGRESSING, "True", DONE, format!("{what} has successfully progressed."), true);
        } else if progressed(before, status) {
            self.set(PROGRESSING, "True", "ReplicaSetUpdated", format!("{what} is progressing."), true);
        } else if self.is_late() {
            self.set(PROGRESSING, "False", LATE, format!("{what} has timed out progressing."), false);
        }
    }

    fn left_until_deadline(&self) -> Option<SignedDuration> {
        let known = self.condition(PROGRESSING)?;
        if matches!(known.reason.as_deref(), Some(DONE) | Some(LATE) | Some(PAUSED)) {
            return None;
        }
        let since = known.last_update_time.as_ref().or(known.last_transition_time.as_ref())?.0;
        Some(SignedDuration::from_secs(self.deadline()?) - self.view.now.duration_since(since))
    }

    fn is_late(&self) -> bool {
        self.left_until_deadline().is_some_and(|left| left < SignedDuration::ZERO)
    }

    fn until_deadline(&self, status: &DeploymentStatus) -> Option<Duration> {
        if complete(status, desired(self.spec)) {
            return None;
        }
        // A second more, because API times are whole seconds.
        let left = self.left_until_deadline()?.max(SignedDuration::ZERO);
        Duration::try_from(left + SignedDuration::from_secs(1)).ok()
    }

    fn copy_failure(&mut self) {
        let failure = |set: &Arc<ReplicaSet>| {
            let conditions = set.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().find(|c| c.type_ == FAILURE && c.status == "True").cloned()
        };
        let found = self.current.iter().chain(&self.old).find_map(failure);
        match found {
            Some(found) => {
                let reason = found.reason.unwrap_or_default();
                self.set(FAILURE, "True", &reason, found.message.unwrap_or_default(), false);
            }
            None => {
                if let Some(all) = self.wanted.status.as_mut().and_then(|s| s.conditions.as_mut()) {
                    all.retain(|c| c.type_ != FAILURE);
                }
            }
        }
    }

    /// Sets a condition. `renew` moves its update time even if only that changes.
    fn set(&mut self, kind: &str, state: &str, reason: &str, message: String, renew: bool) {
        let now = Some(self.now());
        let conditions = self.wanted.status.get_or_insert_default().conditions.get_or_insert_default();
        let known = conditions.iter_mut().find(|c| c.type_ == kind);
        match known {
            Some(c) => {
                if !renew && c.status == state && c.reason.as_deref() == Some(reason) {
                    return;
                }
                if c.status != state {
                    c.last_transition_time = now.clone();
                }
                c.status = state.into();
                c.reason = Some(reason.into());
                c.message = Some(message);
                c.last_update_time = now;
            }
            None => conditions.push(DeploymentCondition {
                type_: kind.into(),
                status: state.into(),
                reason: Some(reason.into()),
                message: Some(message),
                last_transition_time: now.clone(),
                last_update_time: now,
            }),
        }
    }
}

fn complete(status: &DeploymentStatus, desired: i32) -> bool {
    status.updated_replicas.unwrap_or(0) == desired
        && status.replicas.unwrap_or(0) == desired
        && status.available_replicas.unwrap_or(0) == desired
}

/// Whether anything has moved towards completion.
fn progressed(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let old = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    let grew = |of: fn(&DeploymentStatus) -> Option<i32>| of(now).unwrap_or(0) > of(before).unwrap_or(0);
    grew(|s| s.updated_replicas)
        || old(now) < old(before)
        || grew(|s| s.ready_replicas)
        || grew(|s| s.available_replicas)
}
