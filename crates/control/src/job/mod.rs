//! The Job controller: pods that run to their end, counted once each.

mod backoff;
mod end;
mod indexes;
mod manage;
mod orphan;
mod pods;
mod policy;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use daymark_model::ObjectName;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::action::{Action, Decision};
use crate::claim;
use crate::meta::{controller_reference, pod_active, pod_finished, pod_phase, pod_ready};
use crate::view::View;
use indexes::Indexes;
pub use orphan::decide as decide_orphan;
pub use pods::is_tracked;
use pods::{TRACKING, index, is_failed};
use policy::{Verdict, verdict};

const COMPONENT: &str = "job-controller";
/// Who else may manage a Job.
const OURS: &str = "kubernetes.io/job-controller";
/// At most so many pods are created or deleted for one Job before it is looked at again.
const BURST: usize = 500;

/// A Job with its pods, what is known about them, and what is being decided.
struct Sync<'a> {
    view: &'a View<'a>,
    job: &'a Job,
    spec: &'a JobSpec,
    pods: Vec<Arc<Pod>>,
    active: Vec<Arc<Pod>>,
    /// UIDs that are in the status but not yet in its counters.
    uncounted_succeeded: BTreeSet<String>,
    uncounted_failed: BTreeSet<String>,
    succeeded: i32,
    failed: i32,
    /// Of an Indexed Job: those in the status, those that succeeded, and those that failed for good.
    known_indexes: Indexes,
    succeeded_indexes: Indexes,
    failed_indexes: Option<Indexes>,
    /// The last failed pod of indexes that have to be tried again; it keeps their number of failures.
    retried: BTreeMap<i32, Arc<Pod>>,
    /// The status as it shall be.
    wanted: JobStatus,
    actions: Vec<Action>,
    events: Vec<Action>,
    again: Option<Duration>,
}

/// Looks at one Job:
/// 1. if it has finished, it is deleted when its time to live is over;
/// 2. pods that match and have no controller are adopted, own ones that don't match released;
/// 3. whether it has failed or succeeded is judged, by its limits and policies;
/// 4. if it has, its pods are deleted; else so many run as its parallelism, its completions and the back-off
///    after failures allow;
/// 5. pods that ended are noted in the status by UID, then let go, and only then counted: a crash at any time
///    loses and doubles none. When all are counted the Job is declared Complete or Failed.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let mut decision = Decision::default();
    let Some(job) = view.state.jobs.get(key) else { return decision };
    let Some(spec) = job.spec.as_ref() else { return decision };
    if is_foreign(job) {
        return decision;
    }
    if is_finished(job) {
        return end::expire(view, job);
    }
    let Some(selector) = &spec.selector else { return decision };
    let claim = claim::pods(view, &**job, selector, |p| p.metadata.deletion_timestamp.is_none());
    let released = claim.releases.into_iter().map(let_go);
    decision.actions.extend(released);
    if !claim.adoptions.is_empty() {
        decision.actions.extend(claim.adoptions.into_iter().map(|a| track(view, job, a)));
        return decision;
    }
    let mut sync = Sync::new(view, job, spec, claim.pods);
    sync.look();
    sync.finish(&mut decision);
    decision
}

/// Whether somebody else manages the Job.
fn is_foreign(job: &Job) -> bool {
    job.spec.as_ref().and_then(|s| s.managed_by.as_deref()).is_some_and(|m| m != OURS)
}

/// The condition of a Job that is of this type and true.
fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == "True")
}

/// Whether the Job is Complete or Failed.
pub fn is_finished(job: &Job) -> bool {
    let has = |kind| job.status.as_ref().is_some_and(|s| condition(s, kind).is_some());
    has("Complete") || has("Failed")
}

/// Whether the Job is Complete.
pub fn is_complete(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|s| condition(s, "Complete").is_some())
}

/// A released pod is nobody's to count.
fn let_go(action: Action) -> Action {
    let Action::Update { kind, key, subresource, mut patch } = action else { return action };
    patch["metadata"]["finalizers"] = serde_json::Value::Null;
    Action::Update { kind, key, subresource, patch }
}

/// An adopted pod is counted.
fn track(view: &View<'_>, job: &Job, action: Action) -> Action {
    let Action::Update { key, .. } = &action else { return action };
    let Some(pod) = view.state.pods.get(key) else { return action };
    let mut new = (**pod).clone();
    new.metadata.owner_references.get_or_insert_default().push(controller_reference(job));
    let finalizers = new.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == TRACKING) {
        finalizers.push(TRACKING.into());
    }
    Action::update(&**pod, &new, "").unwrap_or(action)
}

impl<'a> Sync<'a> {
    fn new(view: &'a View<'a>, job: &'a Job, spec: &'a JobSpec, pods: Vec<Arc<Pod>>) -> Self {
        let wanted = job.status.clone().unwrap_or_default();
        let uncounted = wanted.uncounted_terminated_pods.clone().unwrap_or_default();
        let active = pods.iter().filter(|p| pod_active(p)).cloned().collect();
        let mut sync = Self {
            view,
            job,
            spec,
            pods,
            active,
            uncounted_succeeded: uncounted.succeeded.into_iter().flatten().collect(),
            uncounted_failed: uncounted.failed.into_iter().flatten().collect(),
            succeeded: 0,
            failed: 0,
            known_indexes: Indexes::default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            retried: BTreeMap::new(),
            wanted,
            actions: Vec::new(),
            events: Vec::new(),
            again: None,
        };
        sync.count();
        sync
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(0)
    }

    /// Pods that are being deleted and have not ended.
    fn terminating(&self) -> usize {
        let going = |p: &&Arc<Pod>| p.metadata.deletion_timestamp.is_some() && !pod_finished(p);
        self.pods.iter().filter(going).count()
    }

    /// Whether the pod's index, if it must have one, is one of the Job's.
    fn has_valid_index(&self, pod: &Pod) -> bool {
        !self.is_indexed() || index(pod).is_some_and(|i| i < self.completions())
    }

    /// Whether the pod has still to be counted and is in no list yet.
    fn is_new(&self, pod: &Pod, list: &BTreeSet<String>) -> bool {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        is_tracked(pod) && !list.contains(uid) && self.has_valid_index(pod)
    }

    fn count(&mut self) {
        let is_success = |p: &&Arc<Pod>| pod_phase(p) == "Succeeded";
        let new = self.pods.iter().filter(|p| self.is_new(p, &self.uncounted_succeeded)).filter(is_success);
        let new_succeeded = new.count();
        let counts = |p: &&Arc<Pod>| is_failed(self.job, p) && verdict(self.job, p) != Verdict::Ignored;
        let new = self.pods.iter().filter(|p| self.is_new(p, &self.uncounted_failed)).filter(counts);
        let new_failed = new.count();
        let sum = |known: Option<i32>, more: usize| {
            known.unwrap_or(0).saturating_add(i32::try_from(more).unwrap_or(i32::MAX))
        };
        self.succeeded = sum(self.wanted.succeeded, new_succeeded + self.uncounted_succeeded.len());
        self.failed = sum(self.wanted.failed, new_failed + self.uncounted_failed.len());
        if self.is_indexed() {
            self.count_indexes();
        }
    }

    fn count_indexes(&mut self) {
        let completions = self.completions();
        let parse = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        self.known_indexes = parse(&self.wanted.completed_indexes);
        let tracked: Vec<_> =
            self.pods.iter().filter(|p| is_tracked(p) && self.has_valid_index(p)).cloned().collect();
        let tracked = || tracked.iter();
        let done = tracked().filter(|p| pod_phase(p) == "Succeeded").filter_map(|p| index(p));
        self.succeeded_indexes = self.known_indexes.with(done);
        self.succeeded = self.succeeded_indexes.len();
        let Some(limit) = self.spec.backoff_limit_per_index else { return };
        let fails = |p: &Pod| match verdict(self.job, p) {
            Verdict::FailsIndex => true,
            Verdict::Ignored => false,
            _ => pods::failures(p).0 >= limit,
        };
        let failed = tracked().filter(|p| is_failed(self.job, p) && fails(p)).filter_map(|p| index(p));
        let failed_indexes = parse(&self.wanted.failed_indexes).with(failed);
        let active: BTreeSet<_> = self.active.iter().filter_map(|p| index(p)).collect();
        let mut retried: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        for pod in tracked().filter(|p| is_failed(self.job, p)) {
            let Some(index) = index(pod) else { continue };
            if self.succeeded_indexes.has(index) || failed_indexes.has(index) || active.contains(&index) {
                continue;
            }
            let rank = |p: &Pod| (pods::failures(p).0 + pods::failures(p).1, pods::finished_at(p));
            if retried.get(&index).is_none_or(|known| rank(known) <= rank(pod)) {
                retried.insert(index, pod.clone());
            }
        }
        self.retried = retried;
        self.failed_indexes = Some(failed_indexes);
    }

    fn ready(&self) -> usize {
        self.active.iter().filter(|p| pod_ready(p)).count()
    }
}
