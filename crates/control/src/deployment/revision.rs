//! Annotations that tie ReplicaSets to revisions of their Deployment.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::{Rollout, desired, limits};
use crate::meta::{Labels, annotation};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
const ROLLBACK: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The revision in a ReplicaSet's annotations, 0 if there is none.
pub fn of(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

fn is_own(key: &str) -> bool {
    [REVISION, HISTORY, DESIRED, MAXIMUM, ROLLBACK, LAST_APPLIED].contains(&key)
}

/// Sets the annotations of the ReplicaSet of the current template.
pub fn annotate_current(set: &mut ReplicaSet, deployment: &Deployment, revision: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten().filter(|(k, _)| !is_own(k)) {
        annotations.insert(key.clone(), value.clone());
    }
    let known: i64 = annotations.get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0);
    if known < revision {
        if known > 0 {
            let history =
                annotations.get(HISTORY).map_or_else(|| known.to_string(), |h| format!("{h},{known}"));
            annotations.insert(HISTORY.into(), history);
        }
        annotations.insert(REVISION.into(), revision.to_string());
    }
}

/// Sets the annotations from which a later look tells scaling from rolling.
pub fn annotate_size(set: &mut ReplicaSet, rollout: &Rollout<'_>) {
    let want = desired(rollout.spec);
    let annotations: &mut Labels = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.into(), want.to_string());
    annotations.insert(MAXIMUM.into(), (want + limits(rollout.spec).0).to_string());
}

impl Rollout<'_> {
    /// The revision that the current template has or gets.
    pub(super) fn revision(&self) -> i64 {
        let newest_old = self.old.iter().map(|s| of(s)).max().unwrap_or(0);
        let known = self.current.as_ref().map_or(0, |s| of(s));
        known.max(newest_old + 1)
    }

    /// Copies the revision of the current ReplicaSet to the Deployment.
    pub(super) fn adopt_revision(&mut self) {
        if let Some(current) = &self.current
            && let Some(revision) = annotation(&current.metadata, REVISION)
        {
            let revision = revision.to_owned();
            self.wanted.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision);
        }
    }
}
