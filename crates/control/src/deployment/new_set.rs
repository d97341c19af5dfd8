//! The ReplicaSet of the current template: found, or made.

use std::sync::Arc;

use daymark_model::ObjectName;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::revision::{self, REVISION};
use super::{COMPONENT, Rollout, desired, limits, size, strategy};
use crate::action::{Action, Report};
use crate::meta::{controller_reference, is_controlled_by, reference};
use crate::template;

/// The label that tells the pods of a Deployment's ReplicaSets apart.
pub const HASH: &str = "pod-template-hash";

/// Whether a ReplicaSet has this template, its hash label aside.
pub fn same_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(own) = set.spec.as_ref().and_then(|s| s.template.as_ref()) else { return false };
    own.spec == template.spec && bare(own.metadata.as_ref()) == bare(template.metadata.as_ref())
}

fn bare(meta: Option<&ObjectMeta>) -> ObjectMeta {
    let mut meta = meta.cloned().unwrap_or_default();
    meta.creation_timestamp = None;
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH);
    }
    meta.labels = meta.labels.filter(|l| !l.is_empty());
    meta.annotations = meta.annotations.filter(|a| !a.is_empty());
    meta
}

impl Rollout<'_> {
    /// Makes sure that the current template has its ReplicaSet. False if it is only being made.
    pub(super) fn ensure_current(&mut self) -> bool {
        match self.current.clone() {
            Some(set) => self.refresh_current(&set),
            None => {
                self.create_current();
                false
            }
        }
    }

    fn refresh_current(&mut self, set: &Arc<ReplicaSet>) -> bool {
        let mut new = (**set).clone();
        revision::annotate_current(&mut new, self.deployment, self.revision());
        if let Some(spec) = &mut new.spec {
            spec.min_ready_seconds = self.spec.min_ready_seconds;
        }
        if let Some(update) = Action::update(&**set, &new, "") {
            self.actions.push(update);
            self.current = Some(Arc::new(new));
            self.adopt_revision();
            return false;
        }
        self.adopt_revision();
        if !self.has_progress() {
            let message =
                format!("Found new replica set \"{}\"", set.metadata.name.as_deref().unwrap_or_default());
            self.progress = Some(("True", "FoundNewReplicaSet", message));
        }
        true
    }

    fn create_current(&mut self) {
        let collisions = self.deployment.status.as_ref().and_then(|s| s.collision_count);
        let hash = template::hash(&self.spec.template, collisions);
        let meta = &self.deployment.metadata;
        let name = format!("{}-{hash}", meta.name.as_deref().unwrap_or_default());
        let namespace = meta.namespace.clone().unwrap_or_default();
        if let Some(other) = self.view.state.replica_sets.get(&ObjectName::new(namespace, name.as_str())) {
            // Ours but being deleted: wait for it to go. Otherwise somebody else has the name.
            if !is_controlled_by(&other.metadata, meta) || !same_template(other, &self.spec.template) {
                let status = self.wanted.status.get_or_insert_default();
                status.collision_count = Some(collisions.unwrap_or(0) + 1);
            }
            return;
        }
        let replicas = self.size_of_current(0);
        let set = self.build(&name, &hash, replicas);
        let report = Report {
            about: reference(&**self.deployment),
            component: COMPONENT,
            done: None,
            failed: ("ReplicaSetCreateError", "Failed to create new replica set: {}".into()),
        };
        self.actions.push(Action::create(&set, Some(report)));
        if replicas > 0 {
            self.event("ScalingReplicaSet", format!("Scaled up replica set {name} from 0 to {replicas}"));
        }
        self.progress = Some(("True", "NewReplicaSetCreated", format!("Created new replica set \"{name}\"")));
        let revision = self.revision().to_string();
        self.wanted.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision);
    }

    fn build(&self, name: &str, hash: &str, replicas: i32) -> ReplicaSet {
        let mut template = self.spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH.into(), hash.into());
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH.into(), hash.into());
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![controller_reference(&**self.deployment)]),
                ..Default::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        revision::annotate_current(&mut set, self.deployment, self.revision());
        revision::annotate_size(&mut set, self);
        set
    }

    /// How large the ReplicaSet of the current template, now of size `own`, may be.
    pub(super) fn size_of_current(&self, own: i32) -> i32 {
        if strategy(self.spec) == "Recreate" {
            return desired(self.spec);
        }
        let most = desired(self.spec) + limits(self.spec).0;
        let now: i32 = self.all().map(|s| size(s)).sum();
        if now >= most { own } else { own + (most - now).min(desired(self.spec) - own) }
    }
}
