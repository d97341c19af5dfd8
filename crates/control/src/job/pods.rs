//! Questions about a Job's pods.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::policy::{Verdict, verdict};
use crate::action::Action;
use crate::meta::{annotation, pod_condition, pod_phase};

/// Pods carry it until they are counted, so that none is lost.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// Whether the pod has still to be counted.
pub fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == TRACKING)
}

/// Lets a counted pod go.
pub fn untrack(pod: &Pod) -> Option<Action> {
    let mut new = pod.clone();
    let mut finalizers = new.metadata.finalizers.take().unwrap_or_default();
    finalizers.retain(|f| f != TRACKING);
    new.metadata.finalizers = (!finalizers.is_empty()).then_some(finalizers);
    Action::update(pod, &new, "")
}

/// The completion index of a pod.
pub fn index(pod: &Pod) -> Option<i32> {
    annotation(&pod.metadata, INDEX)?.parse().ok().filter(|i| *i >= 0)
}

/// Whether only pods that have failed are replaced, not those that are being deleted.
pub fn replaces_only_failed(job: &Job) -> bool {
    job.spec.as_ref().is_some_and(|s| {
        s.pod_replacement_policy.as_deref() == Some("Failed") || s.pod_failure_policy.is_some()
    })
}

/// Whether the pod has failed, or counts as if, because it is being deleted.
pub fn is_failed(job: &Job, pod: &Pod) -> bool {
    match pod_phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => !replaces_only_failed(job) && pod.metadata.deletion_timestamp.is_some(),
    }
}

/// Failures of the pod's index before it: those that count, and those that were ignored.
pub fn failures(pod: &Pod) -> (i32, i32) {
    let of = |key: &str| annotation(&pod.metadata, key).and_then(|n| n.parse().ok()).unwrap_or(0);
    (of(FAILURES), of(IGNORED_FAILURES))
}

/// Failures of the pod's index including its own.
pub fn failures_after(job: &Job, pod: &Pod) -> (i32, i32) {
    let (counted, ignored) = failures(pod);
    match verdict(job, pod) {
        Verdict::Ignored => (counted, ignored + 1),
        _ => (counted + 1, ignored),
    }
}

/// When the pod ended: by its containers, else by its condition Ready, else by its deletion.
pub fn finished_at(pod: &Pod) -> Timestamp {
    let by_containers = || {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref().filter(|s| !s.is_empty())?;
        let end = |c: &ContainerStatus| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0);
        statuses.iter().map(end).collect::<Option<Vec<_>>>()?.into_iter().max()
    };
    let by_condition = || {
        let ready = pod_condition(pod, "Ready").filter(|c| c.status == "False")?;
        Some(ready.last_transition_time.as_ref()?.0)
    };
    let by_deletion = || {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let deadline = pod.metadata.deletion_timestamp.as_ref()?.0;
        deadline.checked_sub(jiff::SignedDuration::from_secs(grace)).ok()
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    by_containers().or_else(by_condition).or_else(by_deletion).or_else(created).unwrap_or(Timestamp::MIN)
}
