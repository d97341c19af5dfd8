//! The Deployment controller: moves pods from old ReplicaSets to the one of the current template.

mod new_set;
mod revision;
mod rollout;
mod scale;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daymark_model::ObjectName;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::action::{Action, Decision, EventNote};
use crate::meta::{controller_reference, is_controlled_by, seconds, selector_is_empty, selector_matches};
use crate::template::share;
use crate::view::View;

const COMPONENT: &str = "deployment-controller";

/// A Deployment with what belongs to it, and what is being decided about it.
struct Rollout<'a> {
    view: &'a View<'a>,
    deployment: &'a Arc<Deployment>,
    spec: &'a DeploymentSpec,
    /// The ReplicaSet of the current template.
    current: Option<Arc<ReplicaSet>>,
    /// All others, by age.
    old: Vec<Arc<ReplicaSet>>,
    /// The Deployment as it shall be: annotations here, status in `status`.
    wanted: Deployment,
    /// A new condition Progressing, if a step calls for one: status, reason, message.
    progress: Option<(&'static str, &'static str, String)>,
    actions: Vec<Action>,
}

/// Looks at one Deployment:
/// 1. ReplicaSets that match and have no controller are adopted, own ones that don't are released;
/// 2. if it is paused or merely scaled, replicas are spread over the active ReplicaSets;
/// 3. else one step of its strategy is taken: create or grow the new, shrink the old;
/// 4. finished rollouts clean up old ReplicaSets; revision and status are brought up to date.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let Some(deployment) = view.state.deployments.get(key) else { return Decision::default() };
    let Some(spec) = &deployment.spec else { return Decision::default() };
    if selector_is_empty(&spec.selector) {
        return selects_all(deployment);
    }
    let sets = match own_sets(view, deployment, spec) {
        Ok(sets) => sets,
        Err(actions) => return actions.into(),
    };
    let mut rollout = Rollout::new(view, deployment, spec, sets);
    if deployment.metadata.deletion_timestamp.is_some() {
        return rollout.finish();
    }
    rollout.note_pause();
    if spec.paused == Some(true) || rollout.is_scaling() {
        rollout.adopt_revision();
        rollout.scale();
    } else if strategy(spec) == "Recreate" {
        rollout.recreate();
    } else {
        rollout.roll();
    }
    rollout.finish()
}

fn selects_all(deployment: &Deployment) -> Decision {
    let message = "This deployment is selecting all pods. A non-empty selector is required.";
    let mut decision: Decision =
        vec![Action::Event(EventNote::warning(COMPONENT, deployment, "SelectingAll", message))].into();
    let mut seen = deployment.clone();
    let status = seen.status.get_or_insert_default();
    if status.observed_generation >= deployment.metadata.generation {
        return Decision::default();
    }
    status.observed_generation = deployment.metadata.generation;
    decision.push(Action::update(deployment, &seen, "status"));
    decision
}

/// The Deployment's ReplicaSets, or the adoptions and releases that come first.
fn own_sets(
    view: &View<'_>,
    deployment: &Arc<Deployment>,
    spec: &DeploymentSpec,
) -> Result<Vec<Arc<ReplicaSet>>, Vec<Action>> {
    let meta = &deployment.metadata;
    let matches = |set: &ReplicaSet| selector_matches(&spec.selector, set.metadata.labels.as_ref());
    let mut actions = Vec::new();
    let mut sets = Vec::new();
    for set in view.state.replica_sets_of(meta.uid.as_deref().unwrap_or_default()) {
        if matches(set) || meta.deletion_timestamp.is_some() {
            sets.push(set.clone());
        } else if is_controlled_by(&set.metadata, meta) {
            let mut free = (**set).clone();
            free.metadata
                .owner_references
                .iter_mut()
                .for_each(|o| o.retain(|o| Some(&o.uid) != meta.uid.as_ref()));
            free.metadata.owner_references = free.metadata.owner_references.filter(|o| !o.is_empty());
            actions.extend(Action::update(&**set, &free, ""));
        }
    }
    if meta.deletion_timestamp.is_none() {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        for set in view.state.orphan_replica_sets(namespace) {
            if matches(set) && set.metadata.deletion_timestamp.is_none() {
                let mut ours = (**set).clone();
                ours.metadata
                    .owner_references
                    .get_or_insert_default()
                    .push(controller_reference(&**deployment));
                actions.extend(Action::update(&**set, &ours, ""));
            }
        }
    }
    if actions.is_empty() { Ok(sets) } else { Err(actions) }
}

fn strategy(spec: &DeploymentSpec) -> &str {
    spec.strategy.as_ref().and_then(|s| s.type_.as_deref()).unwrap_or("RollingUpdate")
}

/// The replicas that a Deployment asks for.
fn desired(spec: &DeploymentSpec) -> i32 {
    spec.replicas.unwrap_or(1)
}

/// `maxSurge` and `maxUnavailable` in pods: percentages are rounded up and down, and never both zero.
fn limits(spec: &DeploymentSpec) -> (i32, i32) {
    if strategy(spec) != "RollingUpdate" {
        return (0, 0);
    }
    let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.clone()).unwrap_or_default();
    let of = |value: Option<IntOrString>, up| {
        share(&value.unwrap_or(IntOrString::String("25%".into())), desired(spec), up)
    };
    let surge = of(rolling.max_surge, true);
    let unavailable = of(rolling.max_unavailable, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable.min(desired(spec).max(1))) }
}

/// `spec.replicas` of a ReplicaSet.
fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// `status.availableReplicas` of a ReplicaSet.
fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

impl<'a> Rollout<'a> {
    fn new(
        view: &'a View<'a>,
        deployment: &'a Arc<Deployment>,
        spec: &'a DeploymentSpec,
        mut sets: Vec<Arc<ReplicaSet>>,
    ) -> Self {
        sets.sort_by_key(|s| (s.metadata.creation_timestamp.clone(), s.metadata.name.clone()));
        let current = sets.iter().find(|s| new_set::same_template(s, &spec.template)).cloned();
        let uid = current.as_ref().and_then(|s| s.metadata.uid.clone());
        let old = sets.into_iter().filter(|s| uid.is_none() || s.metadata.uid != uid).collect();
        let wanted = (**deployment).clone();
        Self { view, deployment, spec, current, old, wanted, progress: None, actions: Vec::new() }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.current)
    }

    /// The actions so far, then the changes of the Deployment itself.
    fn finish(mut self) -> Decision {
        let stepped = self.progress.is_some();
        let again = self.update_status();
        let mut decision = Decision { actions: std::mem::take(&mut self.actions), again };
        let mut main = self.wanted.clone();
        main.status = self.deployment.status.clone();
        let main = Action::update(&**self.deployment, &main, "");
        let status = Action::update(&**self.deployment, &self.wanted, "status");
        // One of the two; the other follows on the new version, whose touch brings us back. A step that
        // must be told is told first.
        decision.push(if main.is_none() || stepped { status.or(main) } else { main });
        decision
    }

    fn now(&self) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
        seconds(self.view.now)
    }

    fn event(&mut self, reason: &'static str, message: String) {
        self.actions.push(Action::Event(EventNote::normal(COMPONENT, &**self.deployment, reason, message)));
    }
}
