//! When a Job has failed or succeeded, and what becomes of it then.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::pods::is_failed;
use super::policy::{self, Verdict, verdict};
use super::{Sync, condition};
use crate::action::{Action, Decision};
use crate::meta::{pod_phase, seconds};
use crate::view::View;

/// What a Job is about to be: its condition, the reason and a message.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    pub failed: bool,
    pub reason: String,
    pub message: String,
}

impl End {
    fn failure(reason: &str, message: &str) -> Option<Self> {
        Some(Self { failed: true, reason: reason.into(), message: message.into() })
    }

    fn of(condition: &JobCondition, failed: bool) -> Self {
        let (reason, message) = (condition.reason.clone(), condition.message.clone());
        Self { failed, reason: reason.unwrap_or_default(), message: message.unwrap_or_default() }
    }

    /// The condition that says so while pods are still there.
    pub fn interim(&self) -> &'static str {
        if self.failed { "FailureTarget" } else { "SuccessCriteriaMet" }
    }

    /// The condition of a Job with nothing left to do.
    pub fn terminal(&self) -> &'static str {
        if self.failed { "Failed" } else { "Complete" }
    }
}

impl Sync<'_> {
    /// Whether the Job's end has been decided, before or now. Failures go before successes.
    pub(super) fn judge(&mut self) -> Option<End> {
        if let Some(met) = condition(&self.wanted, "SuccessCriteriaMet") {
            return Some(End::of(met, false));
        }
        if let Some(target) = condition(&self.wanted, "FailureTarget") {
            return Some(End::of(target, true));
        }
        self.by_policy().or_else(|| self.by_limits()).or_else(|| self.by_indexes()).or_else(|| {
            let policy = self.spec.success_policy.as_ref().filter(|_| self.is_indexed());
            let message = policy::success(policy, self.completions(), &self.succeeded_indexes)?;
            Some(End { failed: false, reason: "SuccessPolicy".into(), message })
        })
    }

    fn by_policy(&self) -> Option<End> {
        self.spec.pod_failure_policy.as_ref()?;
        let failed = self.pods.iter().filter(|p| is_failed(self.job, p));
        failed.map(|p| verdict(self.job, p)).find_map(|v| match v {
            Verdict::FailsJob(message) => End::failure("PodFailurePolicy", &message),
            _ => None,
        })
    }

    fn by_limits(&mut self) -> Option<End> {
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.failed > limit || self.restarts().is_some_and(|n| n > 0 && n >= limit) {
            return End::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        let deadline = self.spec.active_deadline_seconds.filter(|_| !self.is_suspended())?;
        let started = self.wanted.start_time.as_ref()?.0;
        let until = started.checked_add(SignedDuration::from_secs(deadline)).ok()?;
        if until <= self.view.now {
            return End::failure("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        self.look_again(Duration::try_from(until.duration_since(self.view.now)).ok());
        None
    }

    /// Restarts of containers, where the pods restart them.
    fn restarts(&self) -> Option<i32> {
        let policy = self.spec.template.spec.as_ref()?.restart_policy.as_deref();
        if policy != Some("OnFailure") {
            return None;
        }
        let of =
            |list: &Option<Vec<ContainerStatus>>| list.iter().flatten().map(|c| c.restart_count).sum::<i32>();
        let restarts = |pod: &Arc<Pod>| {
            pod.status.as_ref().map_or(0, |s| of(&s.container_statuses) + of(&s.init_container_statuses))
        };
        let going = |p: &&Arc<Pod>| matches!(pod_phase(p), "Running" | "Pending");
        Some(self.pods.iter().filter(going).map(restarts).sum())
    }

    fn by_indexes(&self) -> Option<End> {
        let failed = self.failed_indexes.as_ref()?.len();
        if self.spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return End::failure("MaxFailedIndexesExceeded", message);
        }
        if failed > 0 && failed + self.succeeded_indexes.len() >= self.completions() {
            return End::failure("FailedIndexes", "Job has failed indexes");
        }
        None
    }

    /// Whether all that was asked for has succeeded and nothing runs any more.
    pub(super) fn is_complete(&self) -> Option<End> {
        let enough = match self.spec.completions {
            None => self.succeeded > 0,
            Some(completions) => self.succeeded >= completions,
        };
        (enough && self.active.is_empty()).then(|| End {
            failed: false,
            reason: "CompletionsReached".into(),
            message: "Reached expected number of succeeded pods".into(),
        })
    }

    pub(super) fn look_again(&mut self, delay: Option<Duration>) {
        self.again = [self.again, delay].into_iter().flatten().min();
    }

    /// A condition with this content, new or changed. False if it was there.
    pub(super) fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) -> bool {
        let now = Some(seconds(self.view.now));
        let new = JobCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_probe_time: now.clone(),
            last_transition_time: now,
        };
        let conditions = self.wanted.conditions.get_or_insert_default();
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(known) if known.status == status && known.reason == new.reason => return false,
            Some(known) => *known = new,
            None if status == "False" => return false,
            None => conditions.push(new),
        }
        true
    }
}

/// Deletes a finished Job when its time to live is over.
pub fn expire(view: &View<'_>, job: &Job) -> Decision {
    let mut decision = Decision::default();
    let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
    let (Some(ttl), Some(status)) = (ttl, &job.status) else { return decision };
    let end = condition(status, "Complete").or_else(|| condition(status, "Failed"));
    let Some(at) = end.and_then(|c| c.last_transition_time.as_ref()) else { return decision };
    if job.metadata.deletion_timestamp.is_some() {
        return decision;
    }
    let until = at.0.saturating_add(SignedDuration::from_secs(ttl.into())).unwrap_or(view.now);
    if until <= view.now {
        decision.push(Action::delete(job, None));
    } else if let Ok(left) = Duration::try_from(until.duration_since(view.now)) {
        decision.look_again(left);
    }
    decision
}
