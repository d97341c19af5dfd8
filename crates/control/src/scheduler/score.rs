//! Which of the nodes that fit is best.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use super::filter::{effective_taints, term_matches, tolerates};
use super::quantity::milli;
use super::usage::{Need, Usage};
use crate::meta::{controller, controller_key, pod_active};
use crate::view::View;

/// The node where, in this order: the pod's preferences are met best, fewest taints say "rather not",
/// fewest pods of the same Deployment or owner run, least is requested, fewest pods run; and then a
/// fixed but pod-dependent choice, so that strangers don't all start on the first node.
pub fn best<'a>(
    view: &View<'_>,
    pod: &Pod,
    need: &Need,
    nodes: &'a [(Arc<Node>, Usage)],
) -> Option<&'a Arc<Node>> {
    let salt = fnv(pod.metadata.uid.as_deref().unwrap_or_default());
    nodes
        .iter()
        .min_by_key(|(node, usage)| {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            (
                Reverse(preference(pod, node)),
                unwelcome(pod, node),
                siblings(view, pod, name),
                load(need, node, usage),
                usage.pods,
                fnv(name) ^ salt,
            )
        })
        .map(|(node, _)| node)
}

fn preference(pod: &Pod, node: &Node) -> i64 {
    let preferred = pod
        .spec
        .as_ref()
        .and_then(|s| s.affinity.as_ref())
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let met = preferred.into_iter().flatten().filter(|p| term_matches(&p.preference, node));
    met.map(|p| i64::from(p.weight)).sum()
}

fn unwelcome(pod: &Pod, node: &Node) -> usize {
    let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
    let soft = effective_taints(node).into_iter().filter(|t| t.effect == "PreferNoSchedule");
    soft.filter(|taint| !tolerations.iter().any(|t| tolerates(t, taint))).count()
}

/// Pods on the node with the same controller, and after them pods of the same Deployment.
fn siblings(view: &View<'_>, pod: &Pod, node: &str) -> (usize, usize) {
    let Some(owner) = controller(&pod.metadata) else { return (0, 0) };
    let is_here = |p: &Pod| {
        let bound = p.spec.as_ref().and_then(|s| s.node_name.as_deref());
        let assumed = || {
            let uid = p.metadata.uid.as_deref().unwrap_or_default();
            view.state.assumed.get(uid).map(|(_, to)| to.as_str())
        };
        pod_active(p) && bound.filter(|n| !n.is_empty()).or_else(assumed) == Some(node)
    };
    let count = |uid: &str| view.state.pods_of(uid).filter(|p| is_here(p)).count();
    let same = count(&owner.uid);
    let deployment = controller_key(&pod.metadata, "ReplicaSet")
        .and_then(|set| view.state.replica_sets.get(&set))
        .and_then(|set| controller(&set.metadata).map(|o| o.uid.clone()));
    let Some(deployment) = deployment else { return (same, 0) };
    let all = view
        .state
        .replica_sets_of(&deployment)
        .filter_map(|set| set.metadata.uid.as_deref())
        .map(count)
        .sum();
    (same, all)
}

/// The larger of the shares of cpu and memory that would be requested, in thousandths.
fn load(need: &Need, node: &Node, usage: &Usage) -> i128 {
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    ["cpu", "memory"]
        .into_iter()
        .map(|name| {
            let total = allocatable.and_then(|a| a.get(name)).map_or(0, milli).max(1);
            let of = |n: &Need| n.resources.get(name).copied().unwrap_or(0);
            (of(need) + of(&usage.need)) * 1000 / total
        })
        .max()
        .unwrap_or(0)
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, b| (sum ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}
