//! The DaemonSet controller: one pod on each node that can run it.

mod pod;
mod status;
#[cfg(test)]
mod tests;
mod update;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use daymark_model::ObjectName;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::action::{Action, Decision, EventNote, Report};
use crate::claim;
use crate::meta::{
    available_at, label, pod_node, pod_phase, pod_ready, selector_is_empty, too_young_to_replace,
};
use crate::replicaset::next_of;
use crate::revisions::{self, Found, HASH};
use crate::task::{Controller, Task};
use crate::view::View;

const COMPONENT: &str = "daemonset-controller";
/// At most so many pods are created and deleted for one DaemonSet before it is looked at again.
const BURST: usize = 250;

/// A DaemonSet with its pods by node, and what is being decided about it.
struct Sync<'a> {
    view: &'a View<'a>,
    set: &'a DaemonSet,
    spec: &'a DaemonSetSpec,
    /// The hash of the present template.
    hash: &'a str,
    /// By node, the oldest first.
    pods: BTreeMap<String, Vec<Arc<Pod>>>,
    create: BTreeSet<String>,
    /// By UID.
    delete: BTreeMap<String, Arc<Pod>>,
    events: Vec<Action>,
    again: Option<Duration>,
}

/// Looks at one DaemonSet:
/// 1. pods that match and have no controller are adopted, own ones that don't match released;
/// 2. its template has a ControllerRevision, made if need be;
/// 3. nodes that should run it and have no pod get one, those that must not lose theirs, pods that ended or
///    are too many go;
/// 4. pods of older templates are replaced as its update strategy allows;
/// 5. old revisions are dropped, and the status is brought up to date.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let mut decision = Decision::default();
    let Some(set) = view.state.daemon_sets.get(key) else { return decision };
    let Some(spec) = set.spec.as_ref() else { return decision };
    if selector_is_empty(&spec.selector) {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        decision.push(Action::Event(EventNote::warning(COMPONENT, &**set, "SelectingAll", message)));
        return decision;
    }
    if set.metadata.deletion_timestamp.is_some() {
        return decision;
    }
    let claim = claim::pods(view, &**set, &spec.selector, |p| p.metadata.deletion_timestamp.is_none());
    decision.actions.extend(claim.releases);
    if !claim.adoptions.is_empty() {
        decision.actions.extend(claim.adoptions);
        return decision;
    }
    let collisions = set.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
    let history = match revisions::find(view, &**set, &spec.selector, &spec.template, collisions) {
        Found::History(history) => history,
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
    let live: BTreeSet<&str> = claim.pods.iter().filter_map(|p| label(&p.metadata, HASH)).collect();
    let spent = history.truncate(&live, spec.revision_history_limit);
    let hash = label(&history.current.metadata, HASH).unwrap_or_default();
    let mut sync = Sync::new(view, set, spec, hash, &claim.pods);
    sync.place();
    // One thing at a time: the update goes on when every node has what it should have.
    if sync.create.is_empty() && sync.delete.is_empty() {
        sync.roll();
    }
    sync.finish(&mut decision);
    decision.actions.extend(spent);
    decision
}

impl<'a> Sync<'a> {
    fn new(
        view: &'a View<'a>,
        set: &'a DaemonSet,
        spec: &'a DaemonSetSpec,
        hash: &'a str,
        pods: &[Arc<Pod>],
    ) -> Self {
        let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in pods {
            if let Some(node) = pod::target(pod) {
                by_node.entry(node.to_owned()).or_default().push(pod.clone());
            }
        }
        for pods in by_node.values_mut() {
            pods.sort_by_key(|p| {
                let created = p.metadata.creation_timestamp.clone();
                (Reverse(pod_node(p).is_some()), created, p.metadata.name.clone())
            });
        }
        let (create, delete, events) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        Self { view, set, spec, hash, pods: by_node, create, delete, events, again: None }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        available_at(pod, self.spec.min_ready_seconds.unwrap_or(0)).is_some_and(|t| t <= self.view.now)
    }

    fn is_new(&self, pod: &Pod) -> bool {
        label(&pod.metadata, HASH) == Some(self.hash)
            || pod::generation(self.set).is_some_and(|g| label(&pod.metadata, pod::GENERATION) == Some(g))
    }

    fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.view.state.node(name)
    }

    fn remove(&mut self, pod: &Arc<Pod>) {
        self.delete.insert(pod.metadata.uid.clone().unwrap_or_default(), pod.clone());
    }

    /// Brings each node to what it should have, whatever the template's age.
    fn place(&mut self) {
        for node in self.view.state.nodes.iter() {
            let name = node.metadata.name.clone().unwrap_or_default();
            let (start, stay) = pod::fits(self.set, node);
            let pods = self.pods.get(&name).cloned().unwrap_or_default();
            if start && pods.is_empty() {
                self.create.insert(name);
            } else if stay {
                self.tidy(&name, &pods, start);
            } else {
                pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).for_each(|p| self.remove(p));
            }
        }
        // Pods that wait for a node that is gone; the others are the pod garbage collector's.
        let lost = self.pods.iter().filter(|(node, _)| self.view.state.node(node).is_none());
        let lost: Vec<_> =
            lost.flat_map(|(_, pods)| pods).filter(|p| pod_node(p).is_none()).cloned().collect();
        lost.iter().for_each(|pod| self.remove(pod));
    }

    /// Removes from a node what has ended, and what is too many.
    fn tidy(&mut self, node: &str, pods: &[Arc<Pod>], start: bool) {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()) {
            match pod_phase(pod) {
                "Failed" => self.replace_failed(node, pod),
                "Succeeded" => {
                    self.tell(false, "SucceededDaemonPod", "succeeded", "delete", node, pod);
                    self.remove(pod);
                }
                _ => running.push(pod),
            }
        }
        if !self.surges() {
            running.iter().skip(1).for_each(|pod| self.remove(pod));
            return;
        }
        if running.is_empty() && start {
            self.create.insert(node.to_owned());
        }
        // While it surges a node may have two: the old one, until the new one is available.
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| self.is_new(p));
        new.iter().skip(1).chain(old.iter().skip(1)).for_each(|pod| self.remove(pod));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pod_ready(old) || self.is_available(new))
        {
            self.remove(old);
        }
    }

    fn replace_failed(&mut self, node: &str, pod: &Arc<Pod>) {
        if let Some(wait) = too_young_to_replace(pod, self.view.now) {
            self.again = Some(wait);
            return;
        }
        self.tell(true, "FailedDaemonPod", "failed", "kill", node, pod);
        self.remove(pod);
    }

    fn tell(&mut self, warning: bool, reason: &'static str, how: &str, verb: &str, node: &str, pod: &Pod) {
        let name = crate::meta::key(pod);
        let message = format!("Found {how} daemon pod {name} on node {node}, will try to {verb} it");
        let note = EventNote::normal(COMPONENT, self.set, reason, message);
        self.events.push(Action::Event(EventNote { warning, ..note }));
    }

    fn finish(mut self, decision: &mut Decision) {
        let status = status::update(&self);
        let soon = next_of(self.view, self.spec.min_ready_seconds.unwrap_or(0), self.pods.values().flatten());
        let mut actions = std::mem::take(&mut self.events);
        let report = Report::created_pod(COMPONENT, self.set);
        let create = self.create.iter().take(BURST);
        actions.extend(
            create.map(|node| Action::create(&pod::new(self.set, self.hash, node), Some(report.clone()))),
        );
        let report = Report::deleted_pod(COMPONENT, self.set);
        let delete = self.delete.values().take(BURST);
        actions.extend(delete.map(|pod| Action::delete(&**pod, Some(report.clone()))));
        let task = Task::new(Controller::DaemonSet, crate::meta::key(self.set));
        // After a failure the status comes first, or it would never be told.
        if self.view.state.failures.contains_key(&task) {
            decision.push(status);
            decision.actions.extend(actions);
        } else {
            decision.actions.extend(actions);
            decision.push(status);
        }
        for delay in [soon, self.again].into_iter().flatten() {
            decision.look_again(delay);
        }
    }
}
