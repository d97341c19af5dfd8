//! Pods of a DaemonSet: which nodes they fit, and how they are pinned to one.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use crate::meta::{annotation, pod_node};
use crate::revisions::HASH;
use crate::scheduler::filter::{selects, tolerates};
use crate::template;

/// The label of old clients for the age of a template.
pub const GENERATION: &str = "pod-template-generation";
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const NODE_NAME: &str = "metadata.name";

/// The age of the template, for old clients.
pub fn generation(set: &DaemonSet) -> Option<&str> {
    annotation(&set.metadata, TEMPLATE_GENERATION).filter(|g| g.parse::<i64>().is_ok())
}

/// Whether a pod should start on a node, and whether one that is there may stay: it must fit the node's name
/// and labels and tolerate its taints, to stay only those of effect NoExecute.
pub fn fits(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let Some(template) = set.spec.as_ref().and_then(|s| s.template.spec.as_ref()) else {
        return (false, false);
    };
    let named = template.node_name.as_deref().filter(|n| !n.is_empty());
    if named.is_some_and(|name| node.metadata.name.as_deref() != Some(name)) || !selects(template, node) {
        return (false, false);
    }
    let mut spec = template.clone();
    tolerate_what_daemons_must(&mut spec);
    let tolerations = spec.tolerations.unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let repelled = |effects: &[&str]| {
        let mut of_effect = taints.iter().filter(|t| effects.contains(&t.effect.as_str()));
        of_effect.any(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
    };
    (!repelled(&["NoSchedule", "NoExecute"]), !repelled(&["NoExecute"]))
}

/// A pod for a node. The scheduler binds it, and finds only that node fit.
pub fn new(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let template = set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let mut pod = template::pod(&template, set);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH.into(), hash.into());
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION.into(), generation.into());
    }
    let spec = pod.spec.get_or_insert_default();
    tolerate_what_daemons_must(spec);
    pin(spec.affinity.get_or_insert_default(), node);
    pod
}

fn pin(affinity: &mut Affinity, node: &str) {
    let required = &mut affinity
        .node_affinity
        .get_or_insert_default()
        .required_during_scheduling_ignored_during_execution;
    let name = NodeSelectorRequirement {
        key: NODE_NAME.into(),
        operator: "In".into(),
        values: Some(vec![node.into()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![name]), match_expressions: None };
    *required = Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that a pod is on, or is meant for.
pub fn target(pod: &Pod) -> Option<&str> {
    let pinned = || {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let terms =
            &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
        let fields = terms.iter().flat_map(|t| t.match_fields.iter().flatten());
        let mut names = fields.filter(|f| f.key == NODE_NAME && f.operator == "In");
        names.find_map(|f| f.values.as_ref()?.first()).map(String::as_str)
    };
    pod_node(pod).or_else(pinned)
}

/// Daemons stay on nodes that are in trouble.
fn tolerate_what_daemons_must(spec: &mut PodSpec) {
    let mut all = vec![
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        all.push(("network-unavailable", "NoSchedule"));
    }
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in all {
        let wanted = Toleration {
            key: Some(format!("node.kubernetes.io/{key}")),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Default::default()
        };
        let same = |t: &&mut Toleration| t.key == wanted.key && t.effect == wanted.effect;
        match tolerations.iter_mut().find(same) {
            Some(known) => *known = wanted,
            None => tolerations.push(wanted),
        }
    }
}
