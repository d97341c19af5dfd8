//! The disruption controller: how many pods of a PodDisruptionBudget may be evicted now.

mod expected;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daymark_model::ObjectName;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::action::{Action, Decision, EventNote};
use crate::meta::{pod_ready, seconds, selector_matches};
use crate::view::View;
use expected::Expected;

const COMPONENT: &str = "controllermanager";
/// A pod whose eviction was allowed counts as gone for so long; then it seems to stay.
const PATIENCE: i64 = 120;

/// Looks at one PodDisruptionBudget: counts its healthy pods and those that it should have, and says how many
/// disruptions that leaves room for. Evictions that were allowed are remembered until their pods go.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let mut decision = Decision::default();
    let Some(budget) = view.state.budgets.get(key) else { return decision };
    let Some(spec) = budget.spec.as_ref() else { return decision };
    if budget.metadata.deletion_timestamp.is_some() {
        return decision;
    }
    let pods = pods_of(view, key, spec);
    let old = budget.status.clone().unwrap_or_default();
    let status = match expected::count(view, spec, &pods) {
        Ok(expected) => {
            tell(budget, &pods, &expected, &mut decision);
            judge(view, budget, &pods, &expected, &mut decision)
        }
        Err(why) => {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            let note = EventNote::warning(COMPONENT, &**budget, "CalculateExpectedPodCountFailed", message);
            decision.push(Action::Event(note));
            // Nothing may be disrupted while nobody knows.
            let mut status = PodDisruptionBudgetStatus { disruptions_allowed: Some(0), ..old.clone() };
            set_condition(view, budget, &mut status, "False", "SyncFailed", &why);
            status
        }
    };
    let mut after = (**budget).clone();
    after.status = Some(status);
    let update = Action::update(&**budget, &after, "status");
    if update.is_none() {
        // Events accompany changes, or each look would tell them again.
        decision.actions.clear();
    }
    decision.push(update);
    decision
}

/// A missing selector selects nothing, an empty one everything.
fn pods_of(view: &View<'_>, key: &ObjectName, spec: &PodDisruptionBudgetSpec) -> Vec<Arc<Pod>> {
    let Some(selector) = &spec.selector else { return Vec::new() };
    let all = view.state.pods.in_namespace(&key.namespace);
    all.filter(|p| selector_matches(selector, p.metadata.labels.as_ref())).cloned().collect()
}

fn tell(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], expected: &Expected, decision: &mut Decision) {
    if pods.is_empty() {
        let note = EventNote::normal(COMPONENT, budget, "NoPods", "No matching pods found");
        decision.push(Action::Event(note));
    }
    if expected.unmanaged {
        let message = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.";
        decision.push(Action::Event(EventNote::warning(COMPONENT, budget, "UnmanagedPods", message)));
    }
}

fn judge(
    view: &View<'_>,
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: &Expected,
    decision: &mut Decision,
) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let disrupted = still_disrupted(view, budget, pods, &old, decision);
    let is_healthy = |p: &&Arc<Pod>| {
        let name = p.metadata.name.as_deref().unwrap_or_default();
        p.metadata.deletion_timestamp.is_none() && !disrupted.contains_key(name) && pod_ready(p)
    };
    let healthy = i32::try_from(pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    let allowed = if expected.pods > 0 { (healthy - expected.healthy).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: budget.metadata.generation,
        conditions: old.conditions,
    };
    let (is, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set_condition(view, budget, &mut status, is, reason, "");
    status
}

/// Pods that were allowed to be evicted and are still there, not yet being deleted.
fn still_disrupted(
    view: &View<'_>,
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    old: &PodDisruptionBudgetStatus,
    decision: &mut Decision,
) -> BTreeMap<String, Time> {
    let mut kept = BTreeMap::new();
    for pod in pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let Some(since) = old.disrupted_pods.as_ref().and_then(|d| d.get(&name)) else { continue };
        let until = since.0.saturating_add(SignedDuration::from_secs(PATIENCE)).unwrap_or(view.now);
        match Duration::try_from(until.duration_since(view.now)) {
            Ok(left) if !left.is_zero() => {
                decision.look_again(left);
                kept.insert(name, since.clone());
            }
            _ => {
                let message = format!(
                    "Pod was expected by PDB {} to be deleted but it wasn't",
                    crate::meta::key(budget)
                );
                decision.push(Action::Event(EventNote::warning(COMPONENT, &**pod, "NotDeleted", message)));
            }
        }
    }
    kept
}

fn set_condition(
    view: &View<'_>,
    budget: &PodDisruptionBudget,
    status: &mut PodDisruptionBudgetStatus,
    is: &str,
    reason: &str,
    message: &str,
) {
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().position(|c| c.type_ == "DisruptionAllowed");
    let since =
        known.map(|at| &conditions[at]).filter(|c| c.status == is).map(|c| c.last_transition_time.clone());
    let new = Condition {
        type_: "DisruptionAllowed".into(),
        status: is.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: budget.metadata.generation,
        last_transition_time: since.unwrap_or_else(|| seconds(view.now)),
    };
    match known {
        Some(at) => conditions[at] = new,
        None => conditions.push(new),
    }
}
