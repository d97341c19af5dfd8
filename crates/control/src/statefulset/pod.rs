//! Pods of a StatefulSet: names, labels, volumes.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};

use super::COMPONENT;
use super::claims::claim_name;
use crate::action::{Action, Report};
use crate::meta::reference;
use crate::revisions::HASH;
use crate::template;

const NAME: &str = "statefulset.kubernetes.io/pod-name";
const INDEX: &str = "apps.kubernetes.io/pod-index";

fn set_name(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// The ordinal of a pod that is named as one of the StatefulSet's.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i64> {
    let rest = pod.metadata.name.as_deref()?.strip_prefix(set_name(set))?.strip_prefix('-')?;
    let digits = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    let number: i32 = rest.parse().ok().filter(|_| digits)?;
    // `web-01` is nobody's name.
    (number.to_string() == rest).then_some(number.into())
}

/// The name of the pod of an ordinal.
pub fn name(set: &StatefulSet, ordinal: i64) -> String {
    format!("{}-{ordinal}", set_name(set))
}

/// The pod of an ordinal, made from a template of a revision.
pub fn new(set: &StatefulSet, template: &PodTemplateSpec, ordinal: i64, revision: &str) -> Pod {
    let mut pod = template::pod(template, set);
    pod.metadata.generate_name = None;
    label(set, &mut pod, ordinal);
    pod.metadata.labels.get_or_insert_default().insert(HASH.into(), revision.into());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = pod.metadata.name.clone();
    spec.subdomain = set.spec.as_ref().and_then(|s| s.service_name.clone()).filter(|s| !s.is_empty());
    let claims = set.spec.as_ref().and_then(|s| s.volume_claim_templates.as_deref()).unwrap_or_default();
    if claims.is_empty() {
        return pod;
    }
    let mut volumes: Vec<Volume> = claims
        .iter()
        .map(|claim| Volume {
            name: claim.metadata.name.clone().unwrap_or_default(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, claim, ordinal),
                read_only: None,
            }),
            ..Default::default()
        })
        .collect();
    let own = spec.volumes.take().unwrap_or_default();
    let is_claim = |v: &Volume| volumes.iter().any(|c| c.name == v.name);
    let own: Vec<_> = own.into_iter().filter(|v| !is_claim(v)).collect();
    volumes.extend(own);
    spec.volumes = Some(volumes);
    pod
}

fn label(set: &StatefulSet, pod: &mut Pod, ordinal: i64) {
    let name = name(set, ordinal);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME.into(), name.clone());
    labels.insert(INDEX.into(), ordinal.to_string());
    pod.metadata.name = Some(name);
}

/// Gives a pod back the labels that name it, if somebody took them.
pub fn identify(set: &StatefulSet, pod: &Pod, ordinal: i64) -> Option<Action> {
    if crate::meta::label(&pod.metadata, NAME) == pod.metadata.name.as_deref() {
        return None;
    }
    let mut new = pod.clone();
    label(set, &mut new, ordinal);
    Action::update(pod, &new, "")
}

/// How the creation or deletion of a pod is reported.
pub fn report(set: &StatefulSet, ordinal: i64, verb: &'static str) -> Report {
    let what = format!("{verb} Pod {} in StatefulSet {}", name(set, ordinal), set_name(set));
    let (done, failed) = match verb {
        "Create" => ("SuccessfulCreate", "FailedCreate"),
        _ => ("SuccessfulDelete", "FailedDelete"),
    };
    Report {
        about: reference(set),
        component: COMPONENT,
        done: Some((done, format!("{what} successful").into())),
        failed: (failed, format!("{what} failed error: {{}}").into()),
    }
}
