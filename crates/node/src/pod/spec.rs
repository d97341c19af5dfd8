//! Questions about a pod's spec.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::ephemeral;

/// What to do with a container that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

fn spec(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

pub fn containers(pod: &Pod) -> &[Container] {
    spec(pod).map_or(&[], |s| &s.containers)
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).and_then(|s| s.init_containers.as_deref()).unwrap_or(&[])
}

/// Init containers first, in the order of the spec; ephemeral ones last.
pub fn all_containers(pod: &Pod) -> impl Iterator<Item = Cow<'_, Container>> {
    let of_spec = init_containers(pod).iter().chain(containers(pod)).map(Cow::Borrowed);
    of_spec.chain(ephemeral::containers(pod).map(Cow::Owned))
}

pub fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    all_containers(pod).find(|c| c.name == name)
}

pub fn is_init(pod: &Pod, name: &str) -> bool {
    init_containers(pod).iter().any(|c| c.name == name)
}

/// The ServiceAccount that the pod is.
pub fn service_account(pod: &Pod) -> &str {
    let name = spec(pod).and_then(|s| s.service_account_name.as_deref().or(s.service_account.as_deref()));
    name.filter(|n| !n.is_empty()).unwrap_or("default")
}

/// An init container that keeps running beside the others (KEP-753).
pub fn is_sidecar(init: &Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

pub fn is_sidecar_named(pod: &Pod, name: &str) -> bool {
    init_containers(pod).iter().any(|c| c.name == name && is_sidecar(c))
}

/// The policy for one container: sidecars are always restarted, other init containers never once
/// they succeeded.
pub fn restart_policy(pod: &Pod, container: &Container) -> Restart {
    let of_pod = match spec(pod).and_then(|s| s.restart_policy.as_deref()) {
        Some("Never") => Restart::Never,
        Some("OnFailure") => Restart::OnFailure,
        _ => Restart::Always,
    };
    if ephemeral::is_ephemeral(pod, &container.name) {
        return Restart::Never;
    }
    match (is_init(pod, &container.name), container.restart_policy.as_deref(), of_pod) {
        (true, Some("Always"), _) => Restart::Always,
        (true, _, Restart::Always) => Restart::OnFailure,
        _ => of_pod,
    }
}

/// Whether the pod's own policy is to restart what ends.
pub fn pod_restarts_always(pod: &Pod) -> bool {
    !matches!(spec(pod).and_then(|s| s.restart_policy.as_deref()), Some("Never" | "OnFailure"))
}

pub fn pod_never_restarts(pod: &Pod) -> bool {
    spec(pod).and_then(|s| s.restart_policy.as_deref()) == Some("Never")
}

/// `terminationGracePeriodSeconds`, 30 when unset.
pub fn grace(pod: &Pod) -> i64 {
    spec(pod).and_then(|s| s.termination_grace_period_seconds).unwrap_or(30).max(0)
}

/// The grace period of the deletion in progress, seconds.
pub fn deletion_grace(pod: &Pod) -> i64 {
    pod.metadata.deletion_grace_period_seconds.unwrap_or_else(|| grace(pod)).max(0)
}

pub fn host_network(pod: &Pod) -> bool {
    spec(pod).and_then(|s| s.host_network).unwrap_or(false)
}

/// When `activeDeadlineSeconds` runs out.
pub fn active_deadline(pod: &Pod, start: Option<Timestamp>) -> Option<Timestamp> {
    let limit = spec(pod)?.active_deadline_seconds?;
    Some(start? + SignedDuration::from_secs(limit))
}

pub fn past_deadline(pod: &Pod, start: Option<Timestamp>, now: Timestamp) -> bool {
    active_deadline(pod, start).is_some_and(|at| at <= now)
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// `name_namespace(uid)`, how kubelet names a pod in messages.
pub fn described(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}
