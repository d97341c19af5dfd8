//! Pods that nobody else will remove: those of nodes that are gone, and too many terminated ones.

use std::time::Duration;

use daymark_model::ObjectName;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::action::{Action, Decision, EventNote};
use crate::meta::{pod_finished, pod_node};
use crate::view::View;

const COMPONENT: &str = "pod-garbage-collector";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// A node may exist that we have not heard of yet.
const QUARANTINE: Duration = Duration::from_secs(2);

/// Looks at one pod and deletes it by force if
/// 1. its node does not exist, and has not for a while;
/// 2. it is being deleted and was never bound;
/// 3. it is being deleted and its node is declared out of service.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let Some(pod) = view.state.pods.get(key) else { return Decision::default() };
    let deleting = pod.metadata.deletion_timestamp.is_some();
    let Some(name) = pod_node(pod) else {
        return if deleting { force(pod, None) } else { Decision::default() };
    };
    match view.state.node(name) {
        Some(node) if deleting && out_of_service(node) => force(pod, None),
        Some(_) => Decision::default(),
        None => {
            let since = view.state.node_absent.get(name).copied().unwrap_or(view.at);
            let waited = view.at.saturating_sub(since);
            if waited < QUARANTINE {
                return Decision { actions: Vec::new(), again: Some(QUARANTINE - waited) };
            }
            force(pod, Some(format!("PodGC: node {name} no longer exists")))
        }
    }
}

fn out_of_service(node: &Node) -> bool {
    node.spec.iter().flat_map(|s| s.taints.iter().flatten()).any(|t| t.key == OUT_OF_SERVICE)
}

fn force(pod: &Pod, why: Option<String>) -> Decision {
    let mut decision = Decision::default();
    decision
        .push(why.map(|message| Action::Event(EventNote::normal(COMPONENT, pod, "DeletingPod", message))));
    decision.push(Action::delete_within(pod, Some(0), None));
    decision
}

/// Looks at all terminated pods: beyond the limit, the oldest go.
pub fn decide_terminated(view: &View<'_>, _: &ObjectName) -> Decision {
    let mut ended: Vec<_> = view
        .state
        .pods
        .iter()
        .filter(|p| pod_finished(p) && p.metadata.deletion_timestamp.is_none())
        .collect();
    let surplus = ended.len().saturating_sub(view.config.terminated_pods);
    if surplus == 0 {
        return Decision::default();
    }
    ended.sort_by_key(|p| p.metadata.creation_timestamp.clone());
    ended[..surplus].iter().map(|p| Action::delete_within(&***p, Some(0), None)).collect::<Vec<_>>().into()
}
