//! The ReplicaSet controller: as many pods as asked for, no more, no less.

mod rank;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daymark_model::ObjectName;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::action::{Action, Decision, Report};
use crate::meta::{
    controller_reference, is_controlled_by, pod_active, reference, selector_is_empty, selector_matches,
};
use crate::view::View;

const COMPONENT: &str = "replicaset-controller";
/// At most so many pods are created or deleted for one ReplicaSet before it is looked at again.
const BURST: usize = 500;

/// Looks at one ReplicaSet:
/// 1. pods that match and have no controller are adopted, own pods that no longer match are released;
/// 2. if there are too few active pods, the missing are created; if too many, the least useful deleted;
/// 3. the status is brought up to date.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let mut decision = Decision::default();
    let Some(set) = view.state.replica_sets.get(key) else { return decision };
    let Some(spec) = &set.spec else { return decision };
    if selector_is_empty(&spec.selector) {
        return decision;
    }
    let own: Vec<_> = view.state.pods_of(set.metadata.uid.as_deref().unwrap_or_default()).cloned().collect();
    let (pods, released): (Vec<_>, Vec<_>) =
        own.into_iter().partition(|p| selector_matches(&spec.selector, p.metadata.labels.as_ref()));
    if set.metadata.deletion_timestamp.is_none() {
        released.iter().for_each(|pod| decision.push(release(pod, set)));
        let adopted: Vec<_> = view
            .state
            .orphan_pods(&key.namespace)
            .filter(|p| pod_active(p) && selector_matches(&spec.selector, p.metadata.labels.as_ref()))
            .collect();
        if !adopted.is_empty() {
            // The adopted come back as ours, and then we count.
            adopted.iter().for_each(|pod| decision.push(adopt(pod, set)));
            return decision;
        }
    }
    let active: Vec<_> = pods.iter().filter(|p| pod_active(p)).cloned().collect();
    let failure =
        view.state.failures.get(&crate::task::Task::new(crate::task::Controller::ReplicaSet, key.clone()));
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let status =
        status::update(view, set, &pods, &active, failure.map(|f| (f.as_str(), active.len() < wanted)));
    if let Some(soon) = status::next_available(view, set, &active) {
        decision.look_again(soon);
    }
    let scaling =
        if set.metadata.deletion_timestamp.is_none() { scale(view, set, &active, wanted) } else { vec![] };
    if failure.is_some() {
        decision.push(status);
        decision.actions.extend(scaling);
    } else {
        decision.actions.extend(scaling);
        decision.push(status);
    }
    decision
}

fn scale(view: &View<'_>, set: &Arc<ReplicaSet>, active: &[Arc<Pod>], wanted: usize) -> Vec<Action> {
    if active.len() < wanted {
        let report = Report {
            about: reference(&**set),
            component: COMPONENT,
            done: Some(("SuccessfulCreate", "Created pod: ")),
            failed: ("FailedCreate", "Error creating: "),
        };
        let pod = new_pod(set);
        (active.len()..wanted).take(BURST).map(|_| Action::create(&pod, Some(report.clone()))).collect()
    } else {
        let report = Report {
            about: reference(&**set),
            component: COMPONENT,
            done: Some(("SuccessfulDelete", "Deleted pod: ")),
            failed: ("FailedDelete", "Error deleting: "),
        };
        let surplus = (active.len() - wanted).min(BURST);
        rank::least_useful(view, active, surplus)
            .iter()
            .map(|pod| Action::delete(&***pod, Some(report.clone())))
            .collect()
    }
}

fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.as_ref().and_then(|s| s.template.clone()).unwrap_or_default();
    let given = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.metadata.name.as_deref().unwrap_or_default())),
            namespace: set.metadata.namespace.clone(),
            labels: given.labels,
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: Some(vec![controller_reference(set)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}

fn adopt(pod: &Pod, set: &ReplicaSet) -> Option<Action> {
    let mut new = pod.clone();
    new.metadata.owner_references.get_or_insert_default().push(controller_reference(set));
    Action::update(pod, &new, "")
}

fn release(pod: &Pod, set: &ReplicaSet) -> Option<Action> {
    if !is_controlled_by(&pod.metadata, &set.metadata) {
        return None;
    }
    let mut new = pod.clone();
    let mut owners = new.metadata.owner_references.take().unwrap_or_default();
    owners.retain(|o| Some(&o.uid) != set.metadata.uid.as_ref());
    new.metadata.owner_references = (!owners.is_empty()).then_some(owners);
    Action::update(pod, &new, "")
}
