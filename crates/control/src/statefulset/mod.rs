//! The StatefulSet controller: pods with names, in order, each with its claims.

mod claims;
mod pod;
mod status;
#[cfg(test)]
mod tests;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use daymark_model::ObjectName;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::Pod;

use crate::action::{Action, Decision};
use crate::claim;
use crate::meta::{
    available_at, label, pod_finished, pod_phase, pod_ready, selector_is_empty, too_young_to_replace,
};
use crate::replicaset::next_of;
use crate::revisions::{self, Found, HASH, History};
use crate::task::{Controller, Task};
use crate::view::View;

const COMPONENT: &str = "statefulset-controller";
/// At most so many pods are created for one StatefulSet before it is looked at again.
const BURST: usize = 500;

/// A StatefulSet with what belongs to it, and what is being decided about it.
struct Sync<'a> {
    view: &'a View<'a>,
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    history: &'a History,
    /// The revision that pods below the partition are made from.
    settled: &'a Arc<ControllerRevision>,
    /// Pods whose ordinal is wanted.
    replicas: BTreeMap<i64, Arc<Pod>>,
    /// Pods whose ordinal is not.
    condemned: BTreeMap<i64, Arc<Pod>>,
    actions: Vec<Action>,
    again: Option<Duration>,
}

/// Whether the look ends with what has been decided so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Wait,
}

/// Looks at one StatefulSet:
/// 1. pods of its name that match and have no controller are adopted, own ones that don't match released;
/// 2. its template has a ControllerRevision, made if need be;
/// 3. missing pods are created, lowest ordinal first, each when those before it are available (all at once if
///    the policy is Parallel); pods that ended are replaced;
/// 4. pods beyond its replicas are deleted, highest ordinal first;
/// 5. then pods of other revisions down to the partition are deleted, to come back from the new template;
/// 6. old revisions are dropped, and the status is brought up to date.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let mut decision = Decision::default();
    let Some(set) = view.state.stateful_sets.get(key) else { return decision };
    let Some(spec) = set.spec.as_ref().filter(|s| !selector_is_empty(&s.selector)) else { return decision };
    let is_member = |p: &Pod| pod::ordinal(set, p).is_some() && p.metadata.deletion_timestamp.is_none();
    let claim = claim::pods(view, &**set, &spec.selector, is_member);
    decision.actions.extend(claim.releases);
    if !claim.adoptions.is_empty() {
        decision.actions.extend(claim.adoptions);
        return decision;
    }
    let status = set.status.clone().unwrap_or_default();
    let collisions = status.collision_count.unwrap_or(0);
    let history = match revisions::find(view, &**set, &spec.selector, &spec.template, collisions) {
        Found::History(history) => history,
        Found::First(_) if set.metadata.deletion_timestamp.is_some() => return decision,
        Found::First(actions) => {
            decision.actions.extend(actions);
            return decision;
        }
        Found::Collision => {
            let mut seen = (**set).clone();
            seen.status.get_or_insert_default().collision_count = Some(collisions + 1);
            decision.push(Action::update(&**set, &seen, "status"));
            return decision;
        }
    };
    let named = |r: &&Arc<ControllerRevision>| Some(revisions::name(r)) == status.current_revision.as_deref();
    let settled = history.all.iter().find(named).unwrap_or(&history.current);
    let mut sync = Sync::new(view, set, spec, &history, settled, claim.pods);
    sync.look();
    sync.finish(&mut decision);
    decision
}

/// Whether the pod runs and its condition Ready is True.
fn is_ready(pod: &Pod) -> bool {
    pod_phase(pod) == "Running" && pod_ready(pod)
}

fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The revision that a pod was made from.
fn revision_of(pod: &Pod) -> &str {
    label(&pod.metadata, HASH).unwrap_or_default()
}

impl<'a> Sync<'a> {
    fn new(
        view: &'a View<'a>,
        set: &'a StatefulSet,
        spec: &'a StatefulSetSpec,
        history: &'a History,
        settled: &'a Arc<ControllerRevision>,
        pods: Vec<Arc<Pod>>,
    ) -> Self {
        let (replicas, condemned) = (BTreeMap::new(), BTreeMap::new());
        let actions = Vec::new();
        let mut sync = Self { view, set, spec, history, settled, replicas, condemned, actions, again: None };
        let wanted = sync.ordinals();
        for pod in pods {
            let Some(ordinal) = pod::ordinal(set, &pod) else { continue };
            let list = if wanted.contains(&ordinal) { &mut sync.replicas } else { &mut sync.condemned };
            list.insert(ordinal, pod);
        }
        sync
    }

    fn first_ordinal(&self) -> i64 {
        self.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0).into()
    }

    fn ordinals(&self) -> std::ops::Range<i64> {
        let first = self.first_ordinal();
        first..first + i64::from(self.spec.replicas.unwrap_or(1).max(0))
    }

    /// Whether each step waits for the one before it.
    fn in_order(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
        is_ready(pod) && available_at(pod, min_ready).is_some_and(|t| t <= self.view.now)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        is_terminating(pod) || !self.is_available(pod)
    }

    fn look(&mut self) {
        if self.set.metadata.deletion_timestamp.is_some() {
            return;
        }
        if self.fill() == Next::Wait {
            return;
        }
        for (ordinal, pod) in self.condemned.clone().iter().rev() {
            self.mend_claims(*ordinal, Some(pod));
        }
        if self.shrink() == Next::GoOn {
            self.roll();
        }
    }

    /// Creates what is missing and replaces what has ended.
    fn fill(&mut self) -> Next {
        let mut made = 0;
        for ordinal in self.ordinals() {
            let next = match self.replicas.get(&ordinal).cloned() {
                None if made == BURST => return Next::Wait,
                None => {
                    made += 1;
                    self.create(ordinal)
                }
                Some(pod) => self.keep(ordinal, &pod),
            };
            if next == Next::Wait && self.in_order() {
                return Next::Wait;
            }
        }
        if made > 0 { Next::Wait } else { Next::GoOn }
    }

    fn create(&mut self, ordinal: i64) -> Next {
        if self.has_stale_claim(ordinal) {
            return Next::Wait;
        }
        self.make_claims(ordinal);
        let revision = if self.is_below_partition(ordinal) { self.settled } else { &self.history.current };
        let template = revisions::template_of(revision).unwrap_or_else(|| self.spec.template.clone());
        let pod = pod::new(self.set, &template, ordinal, revisions::name(revision));
        let report = pod::report(self.set, ordinal, "Create");
        self.actions.push(Action::create(&pod, Some(report)));
        Next::Wait
    }

    /// Looks after a pod that is wanted.
    fn keep(&mut self, ordinal: i64, pod: &Arc<Pod>) -> Next {
        if pod_finished(pod) {
            match too_young_to_replace(pod, self.view.now) {
                _ if is_terminating(pod) => {}
                None => self.delete(ordinal, pod),
                Some(wait) => self.again = Some(self.again.map_or(wait, |w| w.min(wait))),
            }
            return Next::Wait;
        }
        if pod_phase(pod) == "Pending" {
            self.make_claims(ordinal);
        }
        if self.in_order() && self.is_unavailable(pod) {
            return Next::Wait;
        }
        self.mend_claims(ordinal, Some(pod));
        if let Some(update) = pod::identify(self.set, pod, ordinal) {
            self.actions.push(update);
        }
        Next::GoOn
    }

    fn delete(&mut self, ordinal: i64, pod: &Pod) {
        let report = pod::report(self.set, ordinal, "Delete");
        self.actions.push(Action::delete(pod, Some(report)));
    }

    /// Deletes pods beyond the replicas.
    fn shrink(&mut self) -> Next {
        let condemned = self.condemned.clone();
        let first_unwell = condemned.iter().find(|(_, p)| self.is_unavailable(p)).map(|(o, _)| *o);
        for (ordinal, pod) in condemned.iter().rev() {
            if is_terminating(pod) {
                if self.in_order() {
                    return Next::Wait;
                }
                continue;
            }
            if self.in_order() && !self.is_available(pod) && Some(*ordinal) != first_unwell {
                return Next::Wait;
            }
            self.delete(*ordinal, pod);
            if self.in_order() {
                return Next::Wait;
            }
        }
        Next::GoOn
    }

    /// The rest: history, status, and when to look again.
    fn finish(mut self, decision: &mut Decision) {
        let pods = || self.replicas.values().chain(self.condemned.values());
        let mut live: BTreeSet<&str> = pods().map(|p| revision_of(p)).collect();
        live.insert(revisions::name(self.settled));
        let spent = self.history.truncate(&live, self.spec.revision_history_limit);
        let status = status::update(&self);
        let soon = next_of(self.view, self.spec.min_ready_seconds.unwrap_or(0), pods());
        let actions = std::mem::take(&mut self.actions);
        let task = Task::new(Controller::StatefulSet, crate::meta::key(self.set));
        // After a failure the status comes first, or it would never be told.
        if self.view.state.failures.contains_key(&task) {
            decision.push(status);
            decision.actions.extend(actions);
        } else {
            decision.actions.extend(actions);
            decision.push(status);
        }
        decision.actions.extend(spent);
        for delay in [soon, self.again].into_iter().flatten() {
            decision.look_again(delay);
        }
    }
}
