//! Which pods go first when there are too many.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::meta::{annotation, pod_condition, pod_node, pod_phase, pod_ready};
use crate::view::View;

/// The `count` pods that are missed least. In this order go:
/// 1. pods without a node before those with one;
/// 2. pending before unknown before running ones;
/// 3. not ready before ready ones;
/// 4. those with the lower `controller.kubernetes.io/pod-deletion-cost`;
/// 5. those that share their node with more of their kind;
/// 6. those that became ready later (coarsely: on a logarithmic scale of age);
/// 7. those with more restarts;
/// 8. the younger.
pub fn least_useful<'a>(view: &View<'_>, pods: &'a [Arc<Pod>], count: usize) -> Vec<&'a Arc<Pod>> {
    if count == pods.len() {
        return pods.iter().collect();
    }
    let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in pods {
        *on_node.entry(pod_node(pod).unwrap_or_default()).or_default() += 1;
    }
    let mut ranked: Vec<_> = pods.iter().collect();
    ranked.sort_by_cached_key(|pod| {
        let neighbours = on_node.get(pod_node(pod).unwrap_or_default()).copied().unwrap_or(0);
        let created = pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |t| t.0);
        (
            pod_node(pod).is_some(),
            phase_rank(pod_phase(pod)),
            pod_ready(pod),
            deletion_cost(pod),
            Reverse(neighbours),
            (age_rank(view, ready_since(pod)), Reverse(restarts(pod)), age_rank(view, created)),
            (Reverse(created), pod.metadata.uid.clone()),
        )
    });
    ranked.truncate(count);
    ranked
}

fn phase_rank(phase: &str) -> u8 {
    match phase {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    annotation(&pod.metadata, "controller.kubernetes.io/pod-deletion-cost")
        .and_then(|c| c.parse().ok())
        .unwrap_or(0)
}

fn ready_since(pod: &Pod) -> Timestamp {
    pod_condition(pod, "Ready")
        .filter(|c| c.status == "True")
        .and_then(|c| c.last_transition_time.as_ref())
        .map_or(Timestamp::MAX, |t| t.0)
}

/// The binary logarithm of an age in seconds: pods of about the same age rank the same.
fn age_rank(view: &View<'_>, since: Timestamp) -> u32 {
    let age = view.now.as_second().saturating_sub(since.as_second()).max(0);
    u64::BITS - age.unsigned_abs().leading_zeros()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|c| c.restart_count).max().unwrap_or(0)
}
