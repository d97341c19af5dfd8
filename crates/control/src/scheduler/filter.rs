//! Why a node cannot take a pod, in kube-scheduler's words.

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration,
};

use super::quantity::milli;
use super::usage::{Need, Usage};
use crate::meta::{Labels, labels_match};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// All reasons of the first kind of obstacle that a node has against a pod; empty if it fits.
pub fn objections(pod: &Pod, need: &Need, node: &Node, usage: &Usage) -> Vec<String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    if node.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true)) {
        let cordoned = Taint { key: UNSCHEDULABLE.into(), effect: "NoSchedule".into(), ..Default::default() };
        if !tolerations.iter().any(|t| tolerates(t, &cordoned)) {
            return vec!["node(s) were unschedulable".into()];
        }
    }
    let taints = effective_taints(node);
    let repelling = taints
        .iter()
        .filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)));
    if let Some(taint) = repelling {
        let value = taint.value.as_deref().unwrap_or_default();
        return vec![format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)];
    }
    if !selects(&spec, node) {
        return vec!["node(s) didn't match Pod's node affinity/selector".into()];
    }
    let clash = |(ip, protocol, port): &(String, String, i32)| {
        let any = |ip: &str| ip == "0.0.0.0";
        usage
            .need
            .host_ports
            .iter()
            .any(|(i, pr, po)| pr == protocol && po == port && (i == ip || any(i) || any(ip)))
    };
    if need.host_ports.iter().any(clash) {
        return vec!["node(s) didn't have free ports for the requested pod ports".into()];
    }
    lacking(need, node, usage)
}

fn lacking(need: &Need, node: &Node, usage: &Usage) -> Vec<String> {
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    let has = |name: &str| allocatable.and_then(|a| a.get(name)).map(milli);
    let mut lacking = Vec::new();
    if has("pods").is_some_and(|most| (usage.pods + 1) * 1000 > most) {
        lacking.push("Too many pods".into());
    }
    for (name, n) in need.resources.iter().filter(|(_, n)| **n > 0) {
        let taken = usage.need.resources.get(name).copied().unwrap_or(0);
        if has(name).unwrap_or(0) < taken + n {
            lacking.push(format!("Insufficient {name}"));
        }
    }
    lacking
}

/// A node's taints, with those for its readiness as its condition says now, not as some controller
/// last wrote them.
pub fn effective_taints(node: &Node) -> Vec<Taint> {
    let listed = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let mut taints: Vec<_> =
        listed.into_iter().filter(|t| t.key != NOT_READY && t.key != UNREACHABLE).collect();
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|c| c.type_ == "Ready");
    let key = match ready.map(|c| c.status.as_str()) {
        Some("True") => return taints,
        Some("Unknown") => UNREACHABLE,
        _ => NOT_READY,
    };
    taints.push(Taint { key: key.into(), effect: "NoSchedule".into(), ..Default::default() });
    taints
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => {
            !key.is_empty()
                && toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
        _ => false,
    }
}

/// Whether a node is of those that a pod selects by labels, affinity and name.
pub fn selects(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    if let Some(wanted) = &spec.node_selector
        && !labels_match(wanted, labels)
    {
        return false;
    }
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|r| r.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// Whether a node matches a term; an empty term matches none.
pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name: Labels = [("metadata.name".to_owned(), node.metadata.name.clone().unwrap_or_default())].into();
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|e| requirement_holds(e, node.metadata.labels.as_ref()))
        && fields.iter().all(|e| requirement_holds(e, Some(&name)))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, labels: Option<&Labels>) -> bool {
    let value = labels.and_then(|l| l.get(&requirement.key));
    let values = requirement.values.as_deref().unwrap_or_default();
    let compare = |than: fn(i64, i64) -> bool| {
        let bound = values.first().and_then(|v| v.parse().ok());
        value.and_then(|v| v.parse().ok()).zip(bound).is_some_and(|(v, bound)| than(v, bound))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.contains(v)),
        "NotIn" => !value.is_some_and(|v| values.contains(v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|v, bound| v > bound),
        "Lt" => compare(|v, bound| v < bound),
        _ => false,
    }
}
