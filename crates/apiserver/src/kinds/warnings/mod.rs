//! What the author of an object should know though it is accepted, worded as Kubernetes words it.

mod address;
mod labels;
mod network;
mod pod;
mod ports;
#[cfg(test)]
mod tests;
mod volumes;

use serde_json::Value;

use super::field::Path;
use super::format::dns1123_label;
use super::value::{at, int, list, text};
use crate::schema::Resource;

/// What is told of an object that a write came to; `old` is what it was before.
pub fn of(res: &Resource, sub: &str, old: Option<&Value>, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match (res.group, res.kind, sub) {
        ("", "Service", "" | "scale") => network::service(new, &mut found),
        ("", "Service", "status") | ("networking.k8s.io", "Ingress", "status") => {
            network::load_balancer_status(new, &mut found);
        }
        ("", "Endpoints", "") => network::endpoints(new, &mut found),
        ("discovery.k8s.io", "EndpointSlice", "") => network::endpoint_slice(old, new, &mut found),
        ("networking.k8s.io", "Ingress", "") if old.is_none() => network::ingress(new, &mut found),
        ("networking.k8s.io", "NetworkPolicy", "") => network::policy(new, &mut found),
        ("", "Node", "") => network::node(new, &mut found),
        ("", "Pod", "status") => network::pod_status(new, &mut found),
        ("", "Pod", "") if old.is_none() => {
            check_name(new, "the Pod's hostname", &mut found);
            pod::check(&Path::new(""), new, &mut found);
        }
        ("", "ServiceAccount", "") => account(old, new, &mut found),
        ("", "PersistentVolumeClaim", "") => volumes::claim(new, &mut found),
        ("", "PodTemplate" | "ReplicationController", "" | "scale") | ("apps" | "batch", _, "" | "scale") => {
            workload(res, old, new, &mut found);
        }
        _ => {}
    }
    found
}

/// Kinds with a template of pods.
fn workload(res: &Resource, old: Option<&Value>, new: &Value, found: &mut Vec<String>) {
    let (owner, place) = match res.kind {
        "PodTemplate" => (new, ""),
        "CronJob" => match at(new, "spec.jobTemplate.spec") {
            Some(spec) => (spec, "spec.jobTemplate.spec"),
            None => return,
        },
        _ => match at(new, "spec") {
            Some(spec) => (spec, "spec"),
            None => return,
        },
    };
    let changed = match (old, res.kind) {
        (None, _) => true,
        (Some(old), "DaemonSet") => at(old, "spec.template") != at(new, "spec.template"),
        (Some(old), _) => int(old, "metadata.generation") != int(new, "metadata.generation"),
    };
    if old.is_none()
        && !matches!(res.kind, "PodTemplate" | "DaemonSet" | "StatefulSet" | "ControllerRevision")
    {
        check_name(new, "Pod names and hostnames", found);
    }
    if changed && let Some(template) = at(owner, "template") {
        pod::check(&Path::new(place).child("template"), template, found);
    }
    match res.kind {
        "StatefulSet" => stateful(old, new, found),
        "CronJob" if old.is_some() && text(new, "spec.schedule").contains("TZ") => found.push(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_owned(),
        ),
        _ => {}
    }
}

fn stateful(old: Option<&Value>, new: &Value, found: &mut Vec<String>) {
    for (i, claim) in list(new, "spec.volumeClaimTemplates").iter().enumerate() {
        let path = Path::new("spec").child("volumeClaimTemplates").index(i);
        let path = if old.is_some() { path.child("Spec") } else { path };
        volumes::claim_spec(&path, &claim["spec"], found);
    }
    if int(new, "spec.revisionHistoryLimit") < 0 {
        found.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
}

/// Names that are no labels are no good host names.
fn check_name(obj: &Value, used_in: &str, found: &mut Vec<String>) {
    let complaints = dns1123_label(text(obj, "metadata.name"));
    if !complaints.is_empty() {
        found.push(format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            complaints.join(" ")
        ));
    }
}

fn account(old: Option<&Value>, new: &Value, found: &mut Vec<String>) {
    const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
    let set = |account: &Value| account["metadata"]["annotations"].get(ENFORCE).is_some();
    if set(new) && !old.is_some_and(set) {
        found.push(format!(
            "metadata.annotations[{ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to \
             mounted secrets"
        ));
    }
}
