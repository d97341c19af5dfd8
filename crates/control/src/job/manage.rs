//! How many pods of a Job run, and which.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::pods::{
    FAILURES, IGNORED_FAILURES, INDEX, TRACKING, failures_after, index, replaces_only_failed, untrack,
};
use super::{BURST, COMPONENT, Sync};
use crate::action::{Action, EventNote, Report};
use crate::meta::seconds;
use crate::replicaset::least_useful;
use crate::template;

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// The longest prefix that a name can be generated from.
const LONGEST_PREFIX: usize = 58;

impl Sync<'_> {
    pub(super) fn look(&mut self) {
        if self.wanted.start_time.is_none() && !self.is_suspended() {
            self.wanted.start_time = Some(seconds(self.view.now));
        }
        let end = self.judge();
        if let Some(end) = end {
            let active = std::mem::take(&mut self.active);
            self.interim(&end);
            active.iter().for_each(|pod| self.delete(pod, false));
            // The deleted come back as such, and are counted then.
            self.active = active;
            let settled = self.active.is_empty();
            self.track(Some(&end), settled);
            return;
        }
        if self.job.metadata.deletion_timestamp.is_none() {
            self.manage();
        }
        let end = self.is_complete();
        match &end {
            Some(end) => self.interim(end),
            None if self.job.metadata.deletion_timestamp.is_none() => self.note_suspension(),
            None => {}
        }
        self.track(end.as_ref(), true);
    }

    fn interim(&mut self, end: &super::end::End) {
        self.set_condition(end.interim(), "True", &end.reason, &end.message);
    }

    fn note_suspension(&mut self) {
        let (status, reason, message, event) = if self.is_suspended() {
            ("True", "JobSuspended", "Job suspended", "Suspended")
        } else {
            ("False", "JobResumed", "Job resumed", "Resumed")
        };
        if self.set_condition("Suspended", status, reason, message) {
            if !self.is_suspended() {
                // The deadline counts from here.
                self.wanted.start_time = Some(seconds(self.view.now));
            }
            self.events.push(Action::Event(EventNote::normal(COMPONENT, self.job, event, message)));
        }
    }

    /// How many pods should be active.
    fn wanted_active(&self) -> usize {
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        match self.spec.completions {
            None if self.succeeded > 0 => self.active.len(),
            None => parallelism,
            Some(completions) => {
                usize::try_from(completions.saturating_sub(self.succeeded)).unwrap_or(0).min(parallelism)
            }
        }
    }

    fn manage(&mut self) {
        if self.is_suspended() {
            self.active.clone().iter().for_each(|pod| self.delete(pod, true));
            return;
        }
        let wanted = self.wanted_active();
        let surplus = self.surplus(self.active.len().saturating_sub(wanted));
        if !surplus.is_empty() {
            surplus.iter().take(BURST).for_each(|pod| self.delete(pod, true));
            return;
        }
        let ending = if replaces_only_failed(self.job) { self.terminating() } else { 0 };
        let missing = wanted.saturating_sub(ending + self.active.len()).min(BURST);
        if missing == 0 {
            return;
        }
        if self.spec.backoff_limit_per_index.is_none()
            && let Some(left) = self.back_off()
        {
            return self.look_again(Some(left));
        }
        if self.is_indexed() {
            let indexes = self.next_indexes(missing);
            indexes.into_iter().for_each(|index| self.create(Some(index)));
        } else {
            (0..missing).for_each(|_| self.create(None));
        }
    }

    /// Pods that are too many: of an Indexed Job those without a valid index and all but one of each, and then
    /// the least useful.
    fn surplus(&self, at_least: usize) -> Vec<Arc<Pod>> {
        let mut surplus = Vec::new();
        let mut left = Vec::new();
        if self.is_indexed() {
            let mut by_index: BTreeMap<i32, Vec<Arc<Pod>>> = BTreeMap::new();
            for pod in &self.active {
                match index(pod).filter(|i| *i < self.completions()) {
                    Some(index) => by_index.entry(index).or_default().push(pod.clone()),
                    None => surplus.push(pod.clone()),
                }
            }
            for pods in by_index.values() {
                let doubles = least_useful(self.view, pods, pods.len() - 1);
                surplus.extend(doubles.iter().map(|p| (*p).clone()));
                let stays = |p: &&Arc<Pod>| !doubles.iter().any(|d| d.metadata.uid == p.metadata.uid);
                left.extend(pods.iter().find(stays).cloned());
            }
        } else {
            left = self.active.clone();
        }
        let more = at_least.saturating_sub(surplus.len()).min(left.len());
        surplus.extend(least_useful(self.view, &left, more).into_iter().cloned());
        surplus
    }

    /// The first indexes that neither run nor have ended, and whose back-off is over.
    fn next_indexes(&mut self, count: usize) -> Vec<i32> {
        let mut busy = self.succeeded_indexes.with(self.active.iter().filter_map(|p| index(p)));
        if replaces_only_failed(self.job) {
            let ending =
                |p: &&Arc<Pod>| p.metadata.deletion_timestamp.is_some() && !crate::meta::pod_finished(p);
            busy = busy.with(self.pods.iter().filter(ending).filter_map(|p| index(p)));
        }
        if let Some(failed) = &self.failed_indexes {
            busy = busy.union(failed);
        }
        let all = busy.missing(count, self.completions());
        if self.spec.backoff_limit_per_index.is_none() {
            return all;
        }
        let wait = |index: &i32| self.back_off_of_index(self.retried.get(index).map(|p| &**p));
        let (waiting, now): (Vec<_>, Vec<_>) = all.into_iter().partition(|i| wait(i).is_some());
        let soonest = waiting.iter().filter_map(wait).min();
        self.look_again(soonest);
        now
    }

    fn delete(&mut self, pod: &Arc<Pod>, forget: bool) {
        if forget {
            // Who is deleted because there are too many has not failed.
            self.actions.extend(untrack(pod));
        }
        self.actions.push(Action::delete(&**pod, Some(Report::deleted_pod(COMPONENT, self.job))));
    }

    fn create(&mut self, index: Option<i32>) {
        let mut pod = template::pod(&self.spec.template, self.job);
        let finalizers = pod.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == TRACKING) {
            finalizers.push(TRACKING.into());
        }
        if let Some(index) = index {
            self.give_index(&mut pod, index);
        }
        self.actions.push(Action::create(&pod, Some(Report::created_pod(COMPONENT, self.job))));
    }

    fn give_index(&self, pod: &mut Pod, index: i32) {
        let job = self.job.metadata.name.as_deref().unwrap_or_default();
        let number = index.to_string();
        let suffix = format!("-{number}-");
        let kept: String = job.chars().take(LONGEST_PREFIX.saturating_sub(suffix.len())).collect();
        pod.metadata.generate_name = Some(kept + &suffix);
        pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), number.clone());
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(INDEX.into(), number);
        if self.spec.backoff_limit_per_index.is_some() {
            let (counted, ignored) =
                self.retried.get(&index).map_or((0, 0), |before| failures_after(self.job, before));
            annotations.insert(FAILURES.into(), counted.to_string());
            if ignored > 0 {
                annotations.insert(IGNORED_FAILURES.into(), ignored.to_string());
            }
        }
        let Some(spec) = &mut pod.spec else { return };
        spec.hostname = Some(format!("{job}-{index}"));
        spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).for_each(tell_index);
    }
}

fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|v| v.name == INDEX_VARIABLE) {
        return;
    }
    let field =
        ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..Default::default() };
    env.push(EnvVar {
        name: INDEX_VARIABLE.into(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..Default::default() }),
    });
}
