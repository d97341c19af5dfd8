//! `containerStatuses` and `initContainerStatuses`: states, reasons and counts.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus,
};

use super::decide::{self, PULL_ERROR_SHOWN, PodView};
use super::state::{Exit, Failure, Life, Record, Sandbox};
use super::status::seconds;
use super::{ephemeral, spec};

/// Scheme of `containerID`s.
pub const ID_SCHEME: &str = "daymark://";

/// Statuses of ephemeral containers; none of them is ever ready.
pub fn ephemeral_statuses(view: &PodView) -> Option<Vec<ContainerStatus>> {
    let all = ephemeral::containers(view.pod);
    let all: Vec<_> =
        all.map(|c| ContainerStatus { ready: false, started: None, ..container_status(view, &c) }).collect();
    (!all.is_empty()).then_some(all)
}

/// Statuses of init containers and of the others, in the order of the spec.
pub fn container_statuses(view: &PodView) -> (Vec<ContainerStatus>, Vec<ContainerStatus>) {
    let of = |all: &[Container]| all.iter().map(|c| container_status(view, c)).collect::<Vec<_>>();
    (of(spec::init_containers(view.pod)), of(spec::containers(view.pod)))
}

fn container_status(view: &PodView, container: &Container) -> ContainerStatus {
    let fresh = Record::default();
    let record = view.state.record(&container.name).unwrap_or(&fresh);
    let (state, last) = states(view, container, record);
    let ended_well = matches!(&record.life, Life::Exited(exit) if exit.code == 0);
    let init = spec::is_init(view.pod, &container.name) && !spec::is_sidecar(container);
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: record.image_id.clone(),
        container_id: record.container_id().map(|id| format!("{ID_SCHEME}{id}")),
        // An init container is ready when it is done.
        ready: if init { ended_well } else { record.running() && record.ready },
        started: Some(record.running() && record.started && !init),
        restart_count: record.restarts,
        stop_signal: container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()),
        state: Some(state),
        last_state: Some(ContainerState { terminated: last.map(terminated), ..ContainerState::default() }),
        ..ContainerStatus::default()
    }
}

fn states<'r>(
    view: &PodView,
    container: &Container,
    record: &'r Record,
) -> (ContainerState, Option<&'r Exit>) {
    let last = record.last.as_ref();
    match &record.life {
        Life::Idle | Life::Starting => match last {
            // Being restarted: the former end stays in sight until the new life shows.
            Some(exit) if record.life == Life::Starting && record.restarts > 0 => (ended(exit), None),
            _ => (waiting(waiting_reason(view), None), last),
        },
        Life::Blocked { failure, since, .. } => {
            let (reason, message) = blocked(container, failure, *since, view.now);
            (waiting(&reason, Some(message)), last)
        }
        Life::Running { started_at, .. } => {
            let running = ContainerStateRunning { started_at: Some(seconds(*started_at)) };
            (ContainerState { running: Some(running), ..ContainerState::default() }, last)
        }
        Life::Exited(exit) if backing_off(view, container, record, exit) => {
            let message = format!(
                "back-off {} restarting failed container={} pod={}",
                go_duration(record.restart_wait.wait().as_secs()),
                container.name,
                spec::described(view.pod),
            );
            (waiting("CrashLoopBackOff", Some(message)), Some(exit))
        }
        Life::Exited(exit) => (ended(exit), last),
    }
}

/// Whether the container waits for its next restart.
pub fn backing_off(view: &PodView, container: &Container, record: &Record, exit: &Exit) -> bool {
    let stopping = view.pod.metadata.deletion_timestamp.is_some() || view.state.verdict.is_some();
    !stopping
        && matches!(view.state.sandbox, Sandbox::Ready { .. })
        && decide::restarts_after(spec::restart_policy(view.pod, container), exit.code)
        && record.restart_wait.due(exit.seen_at) > view.now
}

fn waiting_reason(view: &PodView) -> &'static str {
    let (pod, state) = (view.pod, view.state);
    let initialised = decide::blocking_init(pod, state).is_none() || decide::mains_began(pod, state);
    if spec::init_containers(pod).is_empty() || initialised { "ContainerCreating" } else { "PodInitializing" }
}

fn blocked(container: &Container, failure: &Failure, since: Timestamp, now: Timestamp) -> (String, String) {
    let image = container.image.as_deref().unwrap_or_default();
    if failure.reason == "ErrImagePull" && now >= since + PULL_ERROR_SHOWN {
        let message = format!("Back-off pulling image \"{image}\": ErrImagePull: {}", failure.message);
        return ("ImagePullBackOff".into(), message);
    }
    (failure.reason.clone(), failure.message.clone())
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn ended(exit: &Exit) -> ContainerState {
    ContainerState { terminated: Some(terminated(exit)), ..ContainerState::default() }
}

fn terminated(exit: &Exit) -> ContainerStateTerminated {
    let id = (!exit.container_id.is_empty()).then(|| format!("{ID_SCHEME}{}", exit.container_id));
    ContainerStateTerminated {
        container_id: id,
        exit_code: exit.code,
        signal: exit.signal,
        reason: Some(exit.reason.clone()),
        message: (!exit.message.is_empty()).then(|| exit.message.clone()),
        started_at: exit.started_at.map(seconds),
        finished_at: Some(seconds(exit.finished_at)),
    }
}

/// Seconds as Go prints a duration: `10s`, `2m40s`, `5m0s`.
fn go_duration(secs: i64) -> String {
    if secs < 60 { format!("{secs}s") } else { format!("{}m{}s", secs / 60, secs % 60) }
}
