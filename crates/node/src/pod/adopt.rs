//! What a new process recalls of a pod: from the API status, and from the containers still running.

use k8s_openapi::api::core::v1 as core;

use super::state::{Exit, Life, PodState, Record, Sandbox};
use crate::runtime::{self, ContainerState, SandboxStatus};

/// Restart counts and former ends out of the status in the API. A container that the API thinks is
/// running is marked as ended for reasons unknown; [`adopt`] corrects that for those that live.
pub(super) fn recall(state: &mut PodState) {
    let status = state.last_status.clone();
    for (statuses, init) in [
        (&status.init_container_statuses, true),
        (&status.container_statuses, false),
        (&status.ephemeral_container_statuses, false),
    ] {
        for known in statuses.iter().flatten() {
            if let Some(record) = state.containers.get_mut(&known.name) {
                recall_one(record, known, init);
            }
        }
    }
}

fn recall_one(record: &mut Record, known: &core::ContainerStatus, init: bool) {
    record.restarts = known.restart_count;
    record.image_id = known.image_id.clone();
    record.last = known.last_state.as_ref().and_then(|s| s.terminated.as_ref()).map(exit_of);
    let Some(now) = &known.state else { return };
    if let Some(ended) = &now.terminated {
        // An init container runs again in a new sandbox, any other ended container is history.
        if !init {
            record.life = Life::Exited(exit_of(ended));
        }
    } else if let (Some(running), false) = (&now.running, init) {
        let started_at = running.started_at.as_ref().map(|t| t.0);
        record.life = Life::Exited(Exit {
            container_id: plain_id(known.container_id.as_deref().unwrap_or_default()),
            code: 255,
            signal: None,
            reason: "Unknown".into(),
            message: "The container was gone when the node came back".into(),
            started_at,
            finished_at: started_at.unwrap_or_default(),
            seen_at: started_at.unwrap_or_default(),
        });
    } else if let Some(last) = record.last.clone().filter(|_| !init && known.restart_count > 0) {
        record.life = Life::Exited(last);
        record.last = None;
    }
}

fn exit_of(t: &core::ContainerStateTerminated) -> Exit {
    Exit {
        container_id: plain_id(t.container_id.as_deref().unwrap_or_default()),
        code: t.exit_code,
        signal: t.signal,
        reason: t.reason.clone().unwrap_or_default(),
        message: t.message.clone().unwrap_or_default(),
        started_at: t.started_at.as_ref().map(|t| t.0),
        finished_at: t.finished_at.as_ref().map(|t| t.0).unwrap_or_default(),
        seen_at: t.finished_at.as_ref().map(|t| t.0).unwrap_or_default(),
    }
}

fn plain_id(id: &str) -> String {
    id.rsplit("://").next().unwrap_or_default().to_owned()
}

/// How the runtime words an end, in the machine's terms.
pub fn runtime_exit(id: &str, exit: &runtime::Exit) -> Exit {
    Exit {
        container_id: id.to_owned(),
        code: exit.code,
        signal: exit.signal,
        reason: exit.reason.clone(),
        message: exit.message.clone(),
        started_at: Some(exit.started_at),
        finished_at: exit.finished_at,
        seen_at: exit.finished_at,
    }
}

/// Takes over a sandbox that outlived the former process, without touching its containers.
pub fn adopt(state: &mut PodState, pod: &core::Pod, found: &SandboxStatus) {
    state.sandbox = if found.ready { Sandbox::Ready { ips: found.ips } } else { Sandbox::Lost };
    for container in &found.containers {
        let name = &container.spec.name;
        let ready_before = was_ready(&state.last_status, name, &container.id.0);
        let Some(record) = state.containers.get_mut(name) else { continue };
        let spec = super::spec::find_container(pod, name);
        record.restarts = container.spec.attempt as i32;
        record.doom = None;
        match &container.state {
            ContainerState::Created => continue,
            ContainerState::Running { started_at, .. } => {
                demote(record, &container.id.0);
                record.life =
                    Life::Running { id: container.id.0.clone(), started_at: *started_at, kill: None };
                let (started, ready) = ready_before.unwrap_or((false, false));
                record.started = started || spec.as_ref().is_none_or(|c| c.startup_probe.is_none());
                record.ready = record.started && (ready || spec.is_none_or(|c| c.readiness_probe.is_none()));
            }
            ContainerState::Exited(exit) => {
                demote(record, &container.id.0);
                record.life = Life::Exited(runtime_exit(&container.id.0, exit));
            }
        }
    }
}

/// Moves an earlier life aside when `id` is a later one.
fn demote(record: &mut Record, id: &str) {
    if let Life::Exited(earlier) = &record.life
        && earlier.container_id != id
        && !earlier.container_id.is_empty()
    {
        record.last = Some(earlier.clone());
    }
}

/// `(started, ready)` as the API had it, if it meant this very container.
fn was_ready(status: &core::PodStatus, name: &str, id: &str) -> Option<(bool, bool)> {
    let mut all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let known = all.rfind(|s| s.name == name)?;
    let same = known.container_id.as_deref().is_some_and(|c| plain_id(c) == id);
    same.then(|| (known.started.unwrap_or(false), known.ready))
}
