//! Eviction of pods from nodes with NoExecute taints.

use std::time::Duration;

use daymark_model::ObjectName;
use k8s_openapi::api::core::v1::{Pod, Taint};

use crate::action::{Action, Decision, EventNote};
use crate::meta::{key, pod_finished, pod_node};
use crate::scheduler::filter::{NOT_READY, UNREACHABLE, tolerates};
use crate::view::View;

const COMPONENT: &str = "taint-eviction-controller";
/// What API servers give every pod, and what `pod_eviction` stands in for.
const API_DEFAULT: i64 = 300;

/// Looks at one pod on a tainted node: it stays as long as it tolerates all NoExecute taints, counted
/// from when each was first seen.
pub fn decide(view: &View<'_>, key_: &ObjectName) -> Decision {
    let mut decision = Decision::default();
    let Some(pod) = view.state.pods.get(key_) else { return decision };
    if pod.metadata.deletion_timestamp.is_some() || pod_finished(pod) {
        return decision;
    }
    let Some(node) = pod_node(pod).and_then(|name| view.state.node(name)) else { return decision };
    let name = node.metadata.name.clone().unwrap_or_default();
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten()).filter(|t| t.effect == "NoExecute");
    let mut deadline: Option<Duration> = None;
    for taint in taints {
        let seen = view.state.taint_seen.get(&(name.clone(), taint.key.clone())).copied().unwrap_or(view.at);
        if let Some(patience) = patience(view, pod, taint) {
            let until = seen.saturating_add(patience);
            deadline = Some(deadline.map_or(until, |d| d.min(until)));
        }
    }
    match deadline {
        None => {}
        Some(when) if when > view.at => decision.look_again(when - view.at),
        Some(_) => {
            let pod_key = key(&**pod);
            let message = format!("Marking for deletion Pod {}/{}", pod_key.namespace, pod_key.name);
            decision.push(Action::Event(EventNote::normal(
                COMPONENT,
                &**pod,
                "TaintManagerEviction",
                message,
            )));
            decision.push(Action::delete(&**pod, None));
        }
    }
    decision
}

/// How long a pod tolerates a taint; `None` is for ever.
fn patience(view: &View<'_>, pod: &Pod, taint: &Taint) -> Option<Duration> {
    let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
    let about_health = taint.key == NOT_READY || taint.key == UNREACHABLE;
    let mut tolerating = tolerations.iter().filter(|t| tolerates(t, taint)).peekable();
    if tolerating.peek().is_none() {
        // Without admission, a pod has not got the default tolerations; it is treated as if it had.
        return Some(if about_health { view.config.pod_eviction } else { Duration::ZERO });
    }
    let seconds = tolerating.map(|t| t.toleration_seconds).min_by_key(|s| s.unwrap_or(i64::MAX))??;
    if about_health && seconds == API_DEFAULT {
        return Some(view.config.pod_eviction);
    }
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
