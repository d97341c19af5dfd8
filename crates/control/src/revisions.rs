//! ControllerRevisions: the templates that a StatefulSet or DaemonSet has had, as `kubectl rollout history`
//! and `undo` know them.

use std::collections::BTreeSet;
use std::sync::Arc;

use daymark_model::ObjectName;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::action::{Action, to_value};
use crate::claim::adopt;
use crate::meta::{controller_reference, is_controlled_by, selector_matches};
use crate::object::Cached;
use crate::template;
use crate::view::View;

/// The label that ties pods to the revision that they were made from.
pub const HASH: &str = "controller-revision-hash";

/// The history of an owner, and the revision of its present template.
#[derive(Debug)]
pub struct History {
    /// By revision, the oldest first; the current one is among them.
    pub all: Vec<Arc<ControllerRevision>>,
    pub current: Arc<ControllerRevision>,
}

/// What came of looking for the revision of the present template.
pub enum Found {
    History(History),
    /// Something has to be written first; the answer brings the owner back.
    First(Vec<Action>),
    /// Another object has the name: the collision count has to go up.
    Collision,
}

/// The patch that makes an owner's template what it is now. Clients compare its bytes with those of Go's encoder,
/// which sorts keys.
fn patch(template: &PodTemplateSpec) -> Value {
    let mut template = to_value(template);
    template["$patch"] = "replace".into();
    template.sort_all_objects();
    json!({"spec": {"template": template}})
}

/// The template that a revision holds.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The name of a revision.
pub fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

/// Finds or makes the revision of `template`. An old one that is equal becomes the newest again.
pub fn find<T: Cached>(
    view: &View<'_>,
    owner: &T,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    collisions: i32,
) -> Found {
    let meta = owner.metadata();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let matches = |r: &ControllerRevision| selector_matches(selector, r.metadata.labels.as_ref());
    let orphans = view.state.orphan_revisions(namespace).filter(|r| matches(r));
    let adoptions: Vec<_> = orphans.filter_map(|r| adopt(&**r, owner)).collect();
    if !adoptions.is_empty() {
        return Found::First(adoptions);
    }
    let own = view.state.revisions_of(meta.uid.as_deref().unwrap_or_default());
    let mut all: Vec<_> = own.filter(|r| matches(r)).cloned().collect();
    all.sort_by_key(|r| (r.revision, r.metadata.creation_timestamp.clone(), r.metadata.name.clone()));
    let wanted = patch(template);
    let equal = all.iter().rposition(|r| r.data.as_ref().is_some_and(|d| d.0 == wanted));
    let next = all.last().map_or(1, |r| r.revision + 1);
    match equal {
        Some(at) if at + 1 == all.len() => Found::History(History { current: all[at].clone(), all }),
        Some(at) => {
            let mut newest = (*all[at]).clone();
            newest.revision = next;
            Found::First(Action::update(&*all[at], &newest, "").into_iter().collect())
        }
        None => create(view, owner, template, wanted, next, collisions),
    }
}

fn create<T: Cached>(
    view: &View<'_>,
    owner: &T,
    template: &PodTemplateSpec,
    data: Value,
    revision: i64,
    collisions: i32,
) -> Found {
    let meta = owner.metadata();
    let hash = template::hash(template, Some(collisions));
    let prefix: String = meta.name.as_deref().unwrap_or_default().chars().take(223).collect();
    let name = format!("{prefix}-{hash}");
    let namespace = meta.namespace.clone().unwrap_or_default();
    if let Some(other) = view.state.revisions.get(&ObjectName::new(namespace, name.as_str())) {
        let ours = is_controlled_by(&other.metadata, meta);
        // Ours but no longer matching, or being deleted: in either case the name is taken for now.
        return if ours && other.metadata.deletion_timestamp.is_some() {
            Found::First(Vec::new())
        } else {
            Found::Collision
        };
    }
    let mut labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(HASH.into(), hash);
    let new = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: meta.annotations.clone(),
            owner_references: Some(vec![controller_reference(owner)]),
            ..Default::default()
        },
        data: Some(RawExtension(data)),
        revision,
    };
    Found::First(vec![Action::create(&new, None)])
}

impl History {
    /// Deletes the oldest revisions beyond `limit` that nothing lives by: neither the current one nor those
    /// whose hash or name is among `live`.
    pub fn truncate(&self, live: &BTreeSet<&str>, limit: Option<i32>) -> Vec<Action> {
        let lives = |r: &ControllerRevision| {
            let hash = r.metadata.labels.as_ref().and_then(|l| l.get(HASH));
            live.contains(name(r)) || hash.is_some_and(|h| live.contains(h.as_str()))
        };
        let spent: Vec<_> = self.all.iter().filter(|r| name(r) != name(&self.current) && !lives(r)).collect();
        let limit = limit.and_then(|l| usize::try_from(l).ok()).unwrap_or(10);
        let surplus = spent.len().saturating_sub(limit);
        spent[..surplus].iter().map(|r| Action::delete(&***r, None)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_has_the_bytes_that_clients_look_for() {
        let template = json!({"metadata": {"labels": {"b": "1", "a": "2"}}, "spec": {"volumes": [], "containers":
            [{"name": "c", "image": "i", "resources": {}, "imagePullPolicy": "Always"}], "dnsPolicy": "Default"}});
        let template: PodTemplateSpec = serde_json::from_value(template).expect("a template");
        assert_eq!(
            patch(&template).to_string(),
            concat!(
                r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"a":"2","b":"1"}},"#,
                r#""spec":{"containers":[{"image":"i","imagePullPolicy":"Always","name":"c","resources":{}}],"#,
                r#""dnsPolicy":"Default","volumes":[]}}}}"#
            )
        );
    }
}
