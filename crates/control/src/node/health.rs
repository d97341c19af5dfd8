//! Node health: a node whose Lease is not renewed is unreachable, and its pods are not ready.

use std::time::Duration;

use daymark_model::ObjectName;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};

use crate::action::{Action, Decision, EventNote};
use crate::meta::{pod_active, pod_finished, pod_ready, seconds};
use crate::view::View;

const COMPONENT: &str = "node-controller";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Looks at one node:
/// 1. if its Lease was last seen to change longer ago than the grace (by our own monotonic clock, so
///    that no jump of a wall clock matters), its conditions become Unknown;
/// 2. taints follow its condition Ready; NoExecute ones are withheld while *no* node is well, because
///    then the fault is more likely ours, and there is nowhere to go anyway;
/// 3. the pods of a node that isn't ready aren't ready, so that their endpoints go at once.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let mut decision = Decision::default();
    let Some(node) = view.state.nodes.get(key) else { return decision };
    let name = key.name.to_string();
    let grace = view.config.node_monitor_grace;
    let silence = view.at.saturating_sub(view.state.lease_seen.get(&name).copied().unwrap_or(view.at));
    if silence < grace {
        decision.look_again(grace - silence);
    } else if let Some(action) = lose_contact(view, node) {
        decision.push(action);
        let message = format!("Node {name} status is now: NodeNotReady");
        decision.push(Action::Event(EventNote::normal(COMPONENT, &**node, "NodeNotReady", message)));
        // The answer brings us back for the rest.
        return decision;
    }
    decision.push(taint(view, node));
    if ready(node) != "True" {
        pods_not_ready(view, &name, &mut decision);
        // A kubelet may write over it once more before it is really gone.
        decision.look_again(Duration::from_secs(5));
    }
    decision
}

/// The status of the condition Ready, empty if it has none.
fn ready(node: &Node) -> &str {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().find(|c| c.type_ == "Ready").map_or("", |c| c.status.as_str())
}

fn lose_contact(view: &View<'_>, node: &Node) -> Option<Action> {
    let mut new = node.clone();
    let conditions = new.status.get_or_insert_default().conditions.get_or_insert_default();
    let now = seconds(view.now);
    for kind in CONDITIONS {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(c) if c.status == "Unknown" => {}
            Some(c) => {
                c.status = "Unknown".into();
                c.reason = Some("NodeStatusUnknown".into());
                c.message = Some("Kubelet stopped posting node status.".into());
                c.last_transition_time = Some(now.clone());
            }
            None => conditions.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(now.clone()),
            }),
        }
    }
    Action::update(node, &new, "status")
}

/// Whether there is a node to move to.
fn some_node_is_well(view: &View<'_>) -> bool {
    view.state.nodes.iter().any(|n| ready(n) == "True")
}

fn taint(view: &View<'_>, node: &Node) -> Option<Action> {
    let wanted = match ready(node) {
        "True" => None,
        "False" => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    };
    let old = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let mut taints: Vec<Taint> = old
        .iter()
        .filter(|t| (t.key != NOT_READY && t.key != UNREACHABLE) || Some(t.key.as_str()) == wanted)
        .cloned()
        .collect();
    let execute = some_node_is_well(view);
    if let Some(key) = wanted {
        if !execute {
            taints.retain(|t| t.key != key || t.effect != "NoExecute");
        }
        for effect in ["NoSchedule", "NoExecute"] {
            let has = taints.iter().any(|t| t.key == key && t.effect == effect);
            if !has && (execute || effect == "NoSchedule") {
                let time_added = (effect == "NoExecute").then(|| seconds(view.now));
                taints.push(Taint { key: key.into(), effect: effect.into(), value: None, time_added });
            }
        }
    }
    if taints == old {
        return None;
    }
    let mut new = node.clone();
    new.spec.get_or_insert_default().taints = (!taints.is_empty()).then_some(taints);
    Action::update(node, &new, "")
}

fn pods_not_ready(view: &View<'_>, node: &str, decision: &mut Decision) {
    for pod in view.state.pods_on(node).filter(|p| pod_ready(p) && !pod_finished(p)) {
        decision.push(not_ready(view, pod));
        if pod_active(pod) {
            let message = "Node is not ready";
            decision.push(Action::Event(EventNote::warning(COMPONENT, &**pod, "NodeNotReady", message)));
        }
    }
}

fn not_ready(view: &View<'_>, pod: &Pod) -> Option<Action> {
    let mut new = pod.clone();
    for condition in new.status.as_mut()?.conditions.as_mut()?.iter_mut().filter(|c| c.type_ == "Ready") {
        condition.status = "False".into();
        condition.last_transition_time = Some(seconds(view.now));
    }
    Action::update(pod, &new, "status")
}
