//! The scheduler: finds a node for each pod that has none.

pub(crate) mod filter;
mod quantity;
mod score;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use daymark_model::ObjectName;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};

use crate::action::{Action, Decision, EventNote};
use crate::meta::{pod_condition, pod_finished, pod_node, seconds};
use crate::view::View;
use usage::Usage;

pub(crate) const COMPONENT: &str = "default-scheduler";

/// Looks at one pod:
/// 1. pods that are bound, ended, gated, being bound, or another scheduler's are left alone;
/// 2. nodes that it cannot run on are ruled out, each for a reason;
/// 3. of the rest the best is chosen: few pods of the same owner first, then preferences, then load;
/// 4. without any, the pod is told why, and looked at again when nodes or pods change.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let Some(pod) = view.state.pods.get(key).filter(|p| is_ours(view, p)) else { return Decision::default() };
    if pod.spec.as_ref().is_some_and(|s| s.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty())) {
        return wait(
            view,
            pod,
            "SchedulingGated",
            "Scheduling is blocked due to non-empty scheduling gates".into(),
        );
    }
    if let Some(why) = unbound_claim(view, pod) {
        let nodes = view.state.nodes.iter().count();
        return wait(view, pod, "Unschedulable", format!("0/{nodes} nodes are available: {why}."));
    }
    let need = usage::Need::of(pod);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut fitting: Vec<(Arc<Node>, Usage)> = Vec::new();
    let mut nodes = 0;
    for node in view.state.nodes.iter() {
        nodes += 1;
        let usage = Usage::of(view.state, node);
        let against = filter::objections(pod, &need, node, &usage);
        if against.is_empty() {
            fitting.push((node.clone(), usage));
        }
        for reason in against {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let Some(node) = score::best(view, pod, &need, &fitting) else {
        return unschedulable(view, pod, nodes, reasons);
    };
    let name = node.metadata.name.clone().unwrap_or_default();
    let message = format!("Successfully assigned {}/{} to {name}", key.namespace, key.name);
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    vec![
        Action::Bind { pod: key.clone(), uid, node: name },
        Action::Event(EventNote::normal(COMPONENT, &**pod, "Scheduled", message)),
    ]
    .into()
}

fn is_ours(view: &View<'_>, pod: &Pod) -> bool {
    let scheduler = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).unwrap_or(COMPONENT);
    pod_node(pod).is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && !pod_finished(pod)
        && scheduler == COMPONENT
        && !view.state.assumed.contains_key(pod.metadata.uid.as_deref().unwrap_or_default())
}

/// Why the pod's claims keep it from every node, if they do.
fn unbound_claim(view: &View<'_>, pod: &Pod) -> Option<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let mut claims =
        volumes.filter_map(|v| v.persistent_volume_claim.as_ref()).map(|c| c.claim_name.as_str());
    claims.find_map(|name| {
        let Some(claim) = view.state.claims.get(&ObjectName::new(namespace, name)) else {
            return Some(format!("persistentvolumeclaim \"{name}\" not found"));
        };
        let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
        (phase != Some("Bound")).then(|| {
            "pod has unbound immediate PersistentVolumeClaims, and this cluster has no storage provisioner".to_owned()
        })
    })
}

fn unschedulable(view: &View<'_>, pod: &Pod, nodes: usize, reasons: BTreeMap<String, usize>) -> Decision {
    let message = if nodes == 0 {
        "no nodes available to schedule pods".to_owned()
    } else {
        let mut said: Vec<_> = reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        said.sort();
        format!("0/{nodes} nodes are available: {}.", said.join(", "))
    };
    wait(view, pod, "Unschedulable", message)
}

/// Tells the pod why it waits, once per reason.
fn wait(view: &View<'_>, pod: &Pod, reason: &str, message: String) -> Decision {
    let known = pod_condition(pod, "PodScheduled");
    if known.is_some_and(|c| c.message.as_ref() == Some(&message) && c.reason.as_deref() == Some(reason)) {
        return Decision::default();
    }
    let mut new = pod.clone();
    let conditions = new.status.get_or_insert_default().conditions.get_or_insert_default();
    let since = known.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
    let condition = PodCondition {
        type_: "PodScheduled".into(),
        status: "False".into(),
        reason: Some(reason.into()),
        message: Some(message.clone()),
        last_transition_time: since.or(Some(seconds(view.now))),
        ..Default::default()
    };
    match conditions.iter_mut().find(|c| c.type_ == "PodScheduled") {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
    let mut decision = Decision::default();
    if reason == "Unschedulable" {
        decision.push(Action::Event(EventNote::warning(COMPONENT, pod, "FailedScheduling", message)));
    }
    decision.push(Action::update(pod, &new, "status"));
    decision
}
