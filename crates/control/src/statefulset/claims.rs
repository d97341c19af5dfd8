//! The claims of a StatefulSet's pods: made from its templates, kept or given to the garbage collector as its
//! retention policy says.

use daymark_model::ObjectName;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{COMPONENT, Sync, pod};
use crate::action::{Action, EventNote, Report};
use crate::meta::{controller_reference, reference};

/// `TEMPLATE-SET-ORDINAL`.
pub fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i64) -> String {
    let template = template.metadata.name.as_deref().unwrap_or_default();
    format!("{template}-{}", pod::name(set, ordinal))
}

/// Whether claims are deleted with their StatefulSet, and when it is scaled down.
fn policy(set: &StatefulSet) -> (bool, bool) {
    let policy = set
        .spec
        .as_ref()
        .and_then(|s| s.persistent_volume_claim_retention_policy.clone())
        .unwrap_or_default();
    let deletes = |word: Option<String>| word.as_deref() == Some("Delete");
    (deletes(policy.when_deleted), deletes(policy.when_scaled))
}

fn names(owner: &OwnerReference, kind: &str, name: &str) -> bool {
    owner.kind == kind && owner.name == name
}

impl Sync<'_> {
    fn templates(&self) -> &[PersistentVolumeClaim] {
        self.spec.volume_claim_templates.as_deref().unwrap_or_default()
    }

    fn claim(&self, name: &str) -> Option<&PersistentVolumeClaim> {
        let namespace = self.set.metadata.namespace.as_deref().unwrap_or_default();
        self.view.state.claims.get(&ObjectName::new(namespace, name)).map(|c| &**c)
    }

    /// Whether a claim still belongs to an earlier pod of that name, which the garbage collector will see to.
    pub(super) fn has_stale_claim(&self, ordinal: i64) -> bool {
        let pod = pod::name(self.set, ordinal);
        let is_stale = |c: &PersistentVolumeClaim| {
            c.metadata.owner_references.iter().flatten().any(|o| names(o, "Pod", &pod))
        };
        let claims = self.templates().iter().filter_map(|t| self.claim(&claim_name(self.set, t, ordinal)));
        policy(self.set).1 && claims.into_iter().any(is_stale)
    }

    /// Creates the claims that a pod lacks.
    pub(super) fn make_claims(&mut self, ordinal: i64) {
        let missing: Vec<_> = self
            .templates()
            .iter()
            .filter(|t| self.claim(&claim_name(self.set, t, ordinal)).is_none())
            .map(|t| self.new_claim(t, ordinal))
            .collect();
        self.actions.extend(missing);
    }

    fn new_claim(&self, template: &PersistentVolumeClaim, ordinal: i64) -> Action {
        let mut claim = template.clone();
        let name = claim_name(self.set, template, ordinal);
        claim.metadata.name = Some(name.clone());
        claim.metadata.namespace = self.set.metadata.namespace.clone();
        claim.status = None;
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(self.spec.selector.match_labels.clone().unwrap_or_default());
        if policy(self.set) == (true, false) || policy(self.set) == (true, true) {
            claim.metadata.owner_references.get_or_insert_default().push(controller_reference(self.set));
        }
        let (pod, set) =
            (pod::name(self.set, ordinal), self.set.metadata.name.as_deref().unwrap_or_default());
        let report = Report {
            about: reference(self.set),
            component: COMPONENT,
            done: Some((
                "SuccessfulCreate",
                format!("Create Claim {name} Pod {pod} in StatefulSet {set} success").into(),
            )),
            failed: (
                "FailedCreate",
                format!("Create Claim {name} for Pod {pod} in StatefulSet {set} failed error: {{}}").into(),
            ),
        };
        Action::create(&claim, Some(report))
    }

    /// Makes the owners of a pod's claims what the retention policy says: the StatefulSet if they go with it, the
    /// pod if they go because it is scaled away, nobody otherwise. Claims that somebody else controls are left.
    pub(super) fn mend_claims(&mut self, ordinal: i64, pod: Option<&Pod>) {
        let mut out = Vec::new();
        for template in self.templates() {
            let name = claim_name(self.set, template, ordinal);
            let Some((claim, pod)) = self.claim(&name).zip(pod) else { continue };
            out.extend(self.mend_claim(claim, ordinal, pod));
        }
        self.actions.extend(out);
    }

    fn mend_claim(&self, claim: &PersistentVolumeClaim, ordinal: i64, pod: &Pod) -> Vec<Action> {
        let (with_set, with_scale) = policy(self.set);
        let is_scaled_away = !self.ordinals().contains(&ordinal);
        let (set_meta, pod_meta) = (&self.set.metadata, &pod.metadata);
        let known = claim.metadata.owner_references.clone().unwrap_or_default();
        let set_name = set_meta.name.as_deref().unwrap_or_default();
        let pod_name = pod_meta.name.as_deref().unwrap_or_default();
        let of_set = |o: &OwnerReference| names(o, "StatefulSet", set_name);
        let of_pod = |o: &OwnerReference| names(o, "Pod", pod_name);
        let is_stale = |o: &OwnerReference| {
            (of_set(o) && Some(&o.uid) != set_meta.uid.as_ref())
                || (of_pod(o) && Some(&o.uid) != pod_meta.uid.as_ref())
        };
        if known.iter().any(is_stale) {
            return Vec::new();
        }
        let foreign = |o: &&OwnerReference| !of_set(o) && !of_pod(o);
        let mut wanted: Vec<_> = known.iter().filter(foreign).cloned().collect();
        let conflict = (with_set || with_scale) && wanted.iter().any(|o| o.controller == Some(true));
        if !conflict {
            if with_scale && is_scaled_away {
                wanted.push(controller_reference(pod));
            } else if with_set {
                wanted.push(controller_reference(self.set));
            }
        }
        let key = |o: &OwnerReference| (o.uid.clone(), o.controller == Some(true));
        let ours = |list: &[OwnerReference]| {
            let mut keys: Vec<_> = list.iter().filter(|o| of_set(o) || of_pod(o)).map(key).collect();
            keys.sort();
            keys
        };
        if ours(&known) == ours(&wanted) {
            return Vec::new();
        }
        let mut new = claim.clone();
        new.metadata.owner_references = (!wanted.is_empty()).then_some(wanted);
        let told = conflict.then(|| {
            let message = format!(
                "PersistentVolumeClaim {} has a conflicting OwnerReference that acts as a managing controller, the retention policy is ignored for this claim",
                claim.metadata.name.as_deref().unwrap_or_default()
            );
            Action::Event(EventNote::warning(COMPONENT, self.set, "ConflictingController", message))
        });
        told.into_iter().chain(Action::update(claim, &new, "")).collect()
    }
}
