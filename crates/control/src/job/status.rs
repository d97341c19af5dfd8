//! The Job's books: pods are noted by UID, let go, and then counted.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::UncountedTerminatedPods;
use k8s_openapi::api::core::v1::Pod;

use super::end::End;
use super::pods::{index, is_failed, is_tracked, untrack};
use super::policy::{Verdict, verdict};
use super::{COMPONENT, Sync};
use crate::action::{Action, Decision, EventNote};
use crate::meta::{pod_phase, seconds};

/// At most so many pods are noted at once, so that the status stays small.
const NOTED: usize = 500;

impl Sync<'_> {
    /// Notes the pods that ended, and lets go those that are noted. `settled` is false while active pods are
    /// still to be deleted.
    pub(super) fn track(&mut self, end: Option<&End>, settled: bool) {
        let tracked: BTreeSet<String> =
            self.pods.iter().filter(|p| is_tracked(p)).filter_map(|p| p.metadata.uid.clone()).collect();
        self.count_let_go(&tracked);
        let deleting = self.job.metadata.deletion_timestamp.is_some();
        let mut new_indexes = Vec::new();
        let mut let_go = Vec::new();
        let mut pods = self.pods.clone();
        pods.sort_by_key(|p| index(p));
        for pod in pods.iter().filter(|p| is_tracked(p)) {
            let noted = new_indexes.len() + self.uncounted_succeeded.len() + self.uncounted_failed.len();
            if noted >= NOTED {
                break;
            }
            if !self.may_go(pod, deleting || (end.is_some() && settled)) {
                continue;
            }
            self.note(pod, end, &mut new_indexes);
            let_go.push(pod.clone());
        }
        if self.is_indexed() {
            let succeeded = self.known_indexes.with(new_indexes);
            self.wanted.succeeded = Some(succeeded.len());
            let text = succeeded.to_string();
            self.wanted.completed_indexes = (!text.is_empty()).then_some(text);
            self.wanted.failed_indexes = self.failed_indexes.as_ref().map(ToString::to_string);
        }
        let is_last =
            let_go.is_empty() && self.uncounted_succeeded.is_empty() && self.uncounted_failed.is_empty();
        if let Some(end) = end
            && settled
            && is_last
            && self.terminating() == 0
        {
            self.declare(end);
        }
        self.write_counters();
        let_go.iter().for_each(|pod| self.actions.extend(untrack(pod)));
    }

    /// Pods that were noted and have been let go are counted.
    fn count_let_go(&mut self, tracked: &BTreeSet<String>) {
        let gone = |list: &mut BTreeSet<String>| {
            let before = list.len();
            list.retain(|uid| tracked.contains(uid));
            i32::try_from(before - list.len()).unwrap_or(0)
        };
        let succeeded = gone(&mut self.uncounted_succeeded);
        let failed = gone(&mut self.uncounted_failed);
        if succeeded > 0 {
            self.wanted.succeeded = Some(self.wanted.succeeded.unwrap_or(0) + succeeded);
        }
        if failed > 0 {
            self.wanted.failed = Some(self.wanted.failed.unwrap_or(0) + failed);
        }
    }

    /// A failed pod of an index that is tried again stays until its successor carries its number of failures.
    fn may_go(&self, pod: &Pod, all: bool) -> bool {
        if all || pod_phase(pod) == "Succeeded" {
            return true;
        }
        let is_kept =
            index(pod).and_then(|i| self.retried.get(&i)).is_some_and(|p| p.metadata.uid == pod.metadata.uid);
        is_failed(self.job, pod) && !is_kept
    }

    fn note(&mut self, pod: &Arc<Pod>, end: Option<&End>, new_indexes: &mut Vec<i32>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if self.uncounted_failed.contains(&uid) || self.uncounted_succeeded.contains(&uid) {
            return;
        }
        if pod_phase(pod) == "Succeeded" {
            if !self.is_indexed() {
                self.uncounted_succeeded.insert(uid);
            } else if let Some(index) = index(pod).filter(|_| self.has_valid_index(pod)) {
                // The index is enough to count it once.
                new_indexes.push(index);
            }
            return;
        }
        // When the Job has failed, whatever had not ended has failed with it.
        let counts = is_failed(self.job, pod) || end.is_some_and(|e| e.failed);
        if counts && self.has_valid_index(pod) && verdict(self.job, pod) != Verdict::Ignored {
            self.uncounted_failed.insert(uid);
        }
    }

    fn declare(&mut self, end: &End) {
        self.set_condition(end.terminal(), "True", &end.reason, &end.message);
        let note = if end.failed {
            EventNote {
                reason: failure_reason(&end.reason),
                ..EventNote::warning(COMPONENT, self.job, "", end.message.clone())
            }
        } else {
            self.wanted.completion_time = Some(seconds(self.view.now));
            EventNote::normal(COMPONENT, self.job, "Completed", "Job completed")
        };
        self.events.push(Action::Event(note));
    }

    fn write_counters(&mut self) {
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let active = count(self.active.len());
        self.wanted.active = (active > 0 || self.wanted.active.is_some()).then_some(active);
        self.wanted.ready = Some(count(self.ready()));
        self.wanted.terminating = Some(count(self.terminating()));
        let list = |set: &BTreeSet<String>| (!set.is_empty()).then(|| set.iter().cloned().collect());
        self.wanted.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: list(&self.uncounted_succeeded),
            failed: list(&self.uncounted_failed),
        });
    }

    /// The status goes first: pods are let go only when they are noted.
    pub(super) fn finish(mut self, decision: &mut Decision) {
        let mut after = self.job.clone();
        after.status = Some(std::mem::take(&mut self.wanted));
        decision.push(Action::update(self.job, &after, "status"));
        decision.actions.append(&mut self.actions);
        decision.actions.append(&mut self.events);
        if let Some(delay) = self.again {
            decision.look_again(delay);
        }
    }
}

fn failure_reason(reason: &str) -> &'static str {
    const REASONS: [&str; 5] = [
        "PodFailurePolicy",
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
    ];
    REASONS.into_iter().find(|known| *known == reason).unwrap_or("Failed")
}
