//! Which objects belong to an owner: adoption of those that match and have no controller, release of those
//! that no longer match.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::action::Action;
use crate::meta::{controller_reference, selector_matches};
use crate::object::Cached;
use crate::view::View;

/// The pods of an owner, and what has to be written so that they are.
#[derive(Default)]
pub struct Claim {
    pub pods: Vec<Arc<Pod>>,
    pub releases: Vec<Action>,
    /// The adopted come back as the owner's own, and only then count.
    pub adoptions: Vec<Action>,
}

/// Finds the pods of `owner`: its own that match, and orphans that match and that it may adopt.
pub fn pods<T: Cached>(
    view: &View<'_>,
    owner: &T,
    selector: &LabelSelector,
    may_adopt: impl Fn(&Pod) -> bool,
) -> Claim {
    let meta = owner.metadata();
    let alive = meta.deletion_timestamp.is_none();
    let matches = |pod: &Pod| selector_matches(selector, pod.metadata.labels.as_ref());
    let mut claim = Claim::default();
    for pod in view.state.pods_of(meta.uid.as_deref().unwrap_or_default()) {
        if matches(pod) {
            claim.pods.push(pod.clone());
        } else if alive {
            claim.releases.extend(release(&**pod, owner));
        }
    }
    if alive {
        let orphans = view.state.orphan_pods(meta.namespace.as_deref().unwrap_or_default());
        let adopted = orphans.filter(|pod| matches(pod) && may_adopt(pod));
        claim.adoptions.extend(adopted.filter_map(|pod| adopt(&**pod, owner)));
    }
    claim
}

/// Makes `owner` the controller of an object.
pub fn adopt<T: Cached, O: Cached>(object: &T, owner: &O) -> Option<Action> {
    let mut new = object.clone();
    new.metadata_mut().owner_references.get_or_insert_default().push(controller_reference(owner));
    Action::update(object, &new, "")
}

/// Lets an object go.
pub fn release<T: Cached, O: Cached>(object: &T, owner: &O) -> Option<Action> {
    let mut new = object.clone();
    let mut owners = new.metadata_mut().owner_references.take().unwrap_or_default();
    owners.retain(|o| Some(&o.uid) != owner.metadata().uid.as_ref());
    new.metadata_mut().owner_references = (!owners.is_empty()).then_some(owners);
    Action::update(object, &new, "")
}
