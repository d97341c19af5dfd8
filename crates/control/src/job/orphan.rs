//! Pods that nobody will count: their Job is gone, or has finished.

use daymark_model::ObjectName;

use super::pods::{is_tracked, untrack};
use super::{is_finished, is_foreign};
use crate::action::Decision;
use crate::meta::controller;
use crate::view::View;

/// Looks at one pod and lets it go if no Job that still counts owns it.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let mut decision = Decision::default();
    let Some(pod) = view.state.pods.get(key).filter(|p| is_tracked(p)) else { return decision };
    if let Some(owner) = controller(&pod.metadata) {
        if owner.kind != "Job" || owner.api_version != "batch/v1" {
            return decision;
        }
        let job = view.state.jobs.get(&ObjectName::new(&*key.namespace, owner.name.as_str()));
        let job = job.filter(|j| j.metadata.uid.as_ref() == Some(&owner.uid));
        if job.is_some_and(|j| is_foreign(j) || !is_finished(j)) {
            return decision;
        }
    }
    decision.push(untrack(pod));
    decision
}
