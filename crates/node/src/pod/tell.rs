//! Events that follow from a change of status rather than from something done.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use super::context::Context;
use super::spec;

/// Tells of containers that began to wait for their next attempt, and of pods given up.
pub fn transitions(ctx: &Context, pod: &Pod, old: &PodStatus, new: &PodStatus) {
    let before: BTreeMap<&str, &str> = waiting(old).collect();
    for (name, reason) in waiting(new) {
        if before.get(name) == Some(&reason) {
            continue;
        }
        match reason {
            "CrashLoopBackOff" => {
                let described = spec::described(pod);
                let message = format!("Back-off restarting failed container {name} in pod {described}");
                ctx.warn(pod, Some(name), "BackOff", message);
            }
            "ImagePullBackOff" => {
                let image = spec::find_container(pod, name).and_then(|c| c.image.clone()).unwrap_or_default();
                ctx.normal(pod, Some(name), "BackOff", format!("Back-off pulling image \"{image}\""));
                ctx.warn(pod, Some(name), "Failed", "Error: ImagePullBackOff".into());
            }
            _ => {}
        }
    }
    if let Some(reason) = new.reason.as_deref().filter(|_| old.reason != new.reason) {
        let message = new.message.clone().unwrap_or_default();
        let known = ["DeadlineExceeded", "OutOfpods", "NodePorts", "PodOSNotSupported"];
        let reason = known.into_iter().find(|k| *k == reason).unwrap_or("Failed");
        ctx.warn(pod, None, reason, message);
    }
}

fn waiting(status: &PodStatus) -> impl Iterator<Item = (&str, &str)> {
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    all.filter_map(|c: &ContainerStatus| {
        let waiting = c.state.as_ref()?.waiting.as_ref()?;
        Some((c.name.as_str(), waiting.reason.as_deref()?))
    })
}
