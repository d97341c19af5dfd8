//! The pure core: from what is known about a pod to what has to be done now.
//!
//! 1. A pod that is deleted, or that this node gave up, is stopped: main containers, then sidecars in
//!    reverse order, then the sandbox, then the object.
//! 2. A pod that is finished stops its sidecars and nothing else.
//! 3. Otherwise: the sandbox, then init containers in order, then all others at once; what ended is
//!    restarted as the policy says, after its back-off.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::ephemeral;
use super::spec::{self, Restart};
use super::state::{Doom, Life, PodState, Record, Sandbox};

/// One thing to do. Each is performed at most once: [`begin`] records that it is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Volumes, then the sandbox.
    Prepare,
    /// Image, container, process.
    Start {
        container: String,
        attempt: i32,
    },
    /// preStop, SIGTERM, and SIGKILL at `deadline`; repeated with an earlier one to hurry.
    Kill {
        container: String,
        id: String,
        deadline: Timestamp,
        why: Why,
    },
    /// Clear away a sandbox that died, to make another.
    ClearSandbox,
    RemoveSandbox,
    /// Delete the object for good: grace 0 and our uid.
    DeleteObject,
    /// Decide again then, whatever happens.
    Wake(Timestamp),
}

/// Why a container is killed; kubelet words its event by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Stopping,
    Doomed(Doom),
}

/// All that a decision may depend on.
#[derive(Clone, Copy)]
pub struct PodView<'a> {
    pub pod: &'a Pod,
    pub state: &'a PodState,
    pub now: Timestamp,
}

/// What has to be done now, in order.
pub fn decide(view: &PodView) -> Vec<Action> {
    let PodView { pod, state, .. } = *view;
    let mut actions = Vec::new();
    let deleted = pod.metadata.deletion_timestamp.is_some();
    if deleted || state.verdict.is_some() {
        stop(view, deleted, &mut actions);
    } else if !state.settled {
        if finished(pod, state) {
            let deadline = view.now + SignedDuration::from_secs(spec::grace(pod));
            stop_sidecars(view, deadline, &mut actions);
        } else {
            run(view, &mut actions);
        }
    }
    actions
}

/// Whether every container has ended for good, so that the pod's phase is final.
pub fn finished(pod: &Pod, state: &PodState) -> bool {
    if init_failed(pod, state) {
        return true;
    }
    spec::containers(pod).iter().all(|c| match state.record(&c.name).map(|r| &r.life) {
        Some(Life::Exited(exit)) => !restarts_after(spec::restart_policy(pod, c), exit.code),
        _ => false,
    })
}

/// An init container failed for good: the pod fails without running its main containers.
pub fn init_failed(pod: &Pod, state: &PodState) -> bool {
    spec::init_containers(pod).iter().filter(|c| !spec::is_sidecar(c)).any(|c| {
        matches!(state.record(&c.name).map(|r| &r.life), Some(Life::Exited(exit))
            if exit.code != 0 && !restarts_after(spec::restart_policy(pod, c), exit.code))
    })
}

/// The first init container that holds back those after it.
pub fn blocking_init<'a>(pod: &'a Pod, state: &PodState) -> Option<&'a Container> {
    spec::init_containers(pod).iter().find(|c| {
        let record = state.record(&c.name);
        match record.map(|r| &r.life) {
            Some(Life::Exited(exit)) if !spec::is_sidecar(c) => exit.code != 0,
            Some(Life::Running { .. }) if spec::is_sidecar(c) => !record.is_some_and(|r| r.started),
            _ => true,
        }
    })
}

pub(super) fn restarts_after(policy: Restart, code: i32) -> bool {
    match policy {
        Restart::Always => true,
        Restart::OnFailure => code != 0,
        Restart::Never => false,
    }
}

fn run(view: &PodView, actions: &mut Vec<Action>) {
    let PodView { pod, state, now } = *view;
    if let Some(at) = spec::active_deadline(pod, state.start_time) {
        actions.push(Action::Wake(at));
    }
    match &state.sandbox {
        Sandbox::Absent => return actions.push(Action::Prepare),
        Sandbox::Failed { until, .. } if *until <= now => return actions.push(Action::Prepare),
        Sandbox::Failed { until, .. } => return actions.push(Action::Wake(*until)),
        Sandbox::Lost => return actions.push(Action::ClearSandbox),
        Sandbox::Ready { .. } => {}
        Sandbox::Preparing | Sandbox::Clearing | Sandbox::Removing | Sandbox::Removed => return,
    }
    for c in ephemeral::containers(pod) {
        tend(view, &c, actions);
    }
    let blocking = blocking_init(pod, state).map(|c| c.name.as_str());
    // Once past initialisation, a sidecar that restarts holds nobody back.
    let initialised = blocking.is_none() || mains_began(pod, state);
    for c in spec::init_containers(pod) {
        if spec::is_sidecar(c) || !initialised {
            tend(view, c, actions);
        }
        if !initialised && blocking == Some(c.name.as_str()) {
            return;
        }
    }
    for c in spec::containers(pod) {
        tend(view, c, actions);
    }
}

pub(super) fn mains_began(pod: &Pod, state: &PodState) -> bool {
    spec::containers(pod).iter().filter_map(|c| state.record(&c.name)).any(|r| {
        r.running() || (r.last.is_some() || matches!(r.life, Life::Exited(_))) && inits_done(pod, state)
    })
}

fn inits_done(pod: &Pod, state: &PodState) -> bool {
    spec::init_containers(pod)
        .iter()
        .filter(|c| !spec::is_sidecar(c))
        .all(|c| matches!(state.record(&c.name).map(|r| &r.life), Some(Life::Exited(e)) if e.code == 0))
}

/// Starts, restarts or kills one container of a pod that should run.
fn tend(view: &PodView, container: &Container, actions: &mut Vec<Action>) {
    let PodView { pod, state, now } = *view;
    let Some(record) = state.record(&container.name) else { return };
    let start = |restarts| Action::Start { container: container.name.clone(), attempt: restarts };
    match &record.life {
        Life::Idle => actions.push(start(record.restarts)),
        Life::Blocked { until, .. } if *until <= now => actions.push(start(record.restarts)),
        Life::Blocked { since, until, .. } => {
            let relabel = *since + PULL_ERROR_SHOWN;
            actions.push(Action::Wake(if now < relabel { relabel.min(*until) } else { *until }));
        }
        Life::Starting => {}
        Life::Exited(exit) => {
            if !restarts_after(spec::restart_policy(pod, container), exit.code) {
                return;
            }
            let due = record.restart_wait.due(exit.seen_at);
            actions.push(if due <= now { start(record.restarts + 1) } else { Action::Wake(due) });
        }
        Life::Running { id, kill: None, .. } => {
            if let Some(doom) = record.doom {
                let deadline = now + SignedDuration::from_secs(doom_grace(pod, container, doom));
                let why = Why::Doomed(doom);
                actions.push(Action::Kill {
                    container: container.name.clone(),
                    id: id.clone(),
                    deadline,
                    why,
                });
            }
        }
        Life::Running { .. } => {}
    }
}

/// `ErrImagePull` is shown this long before it becomes `ImagePullBackOff`.
pub(super) const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(2);

fn doom_grace(pod: &Pod, container: &Container, doom: Doom) -> i64 {
    let probe = match doom {
        Doom::Liveness => container.liveness_probe.as_ref(),
        Doom::Startup => container.startup_probe.as_ref(),
        Doom::ImageChanged => None,
    };
    probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or_else(|| spec::grace(pod))
}

fn stop(view: &PodView, deleted: bool, actions: &mut Vec<Action>) {
    let PodView { pod, state, now } = *view;
    let deadline = state.stopping.as_ref().map_or(now, |s| s.deadline);
    let (sidecars, others): (Vec<_>, Vec<_>) =
        spec::all_containers(pod).map(|c| c.name.clone()).partition(|name| spec::is_sidecar_named(pod, name));
    let mut waiting = false;
    for name in others {
        let Some(record) = state.record(&name) else { continue };
        waiting |= record.running() || record.life == Life::Starting;
        kill_by(&name, record, deadline, actions);
    }
    waiting = waiting || stop_in_reverse(state, &sidecars, deadline, actions);
    if waiting {
        return;
    }
    match &state.sandbox {
        Sandbox::Preparing | Sandbox::Removing | Sandbox::Clearing => {}
        Sandbox::Removed if deleted && !state.delete_sent => actions.push(Action::DeleteObject),
        Sandbox::Removed => {}
        Sandbox::Absent | Sandbox::Ready { .. } | Sandbox::Failed { .. } | Sandbox::Lost => {
            actions.push(Action::RemoveSandbox)
        }
    }
}

/// Kills the last running sidecar; returns whether any still runs.
fn stop_in_reverse(
    state: &PodState,
    sidecars: &[String],
    deadline: Timestamp,
    actions: &mut Vec<Action>,
) -> bool {
    for name in sidecars.iter().rev() {
        let Some(record) = state.record(name) else { continue };
        if record.running() || record.life == Life::Starting {
            kill_by(name, record, deadline, actions);
            return true;
        }
    }
    false
}

fn stop_sidecars(view: &PodView, deadline: Timestamp, actions: &mut Vec<Action>) {
    let sidecars = spec::init_containers(view.pod).iter().filter(|c| spec::is_sidecar(c));
    // Whoever looks into a pod that is finished has seen it.
    let ephemeral = ephemeral::containers(view.pod).map(|c| c.name);
    let sidecars: Vec<String> = sidecars.map(|c| c.name.clone()).chain(ephemeral).collect();
    let mut wanted = Vec::new();
    stop_in_reverse(view.state, &sidecars, deadline, &mut wanted);
    // The grace period runs from the first kill, so a kill under way is left alone.
    actions.extend(wanted.into_iter().filter(|a| match a {
        Action::Kill { container, .. } => !view.state.record(container).is_some_and(being_killed),
        _ => true,
    }));
}

fn being_killed(record: &Record) -> bool {
    matches!(record.life, Life::Running { kill: Some(_), .. })
}

fn kill_by(name: &str, record: &Record, deadline: Timestamp, actions: &mut Vec<Action>) {
    let Life::Running { id, kill, .. } = &record.life else { return };
    if kill.is_none_or(|k| deadline < k.deadline) {
        let (container, id) = (name.to_owned(), id.clone());
        actions.push(Action::Kill { container, id, deadline, why: Why::Stopping });
    }
}

/// Records that `action` is under way.
pub fn begin(state: &mut PodState, action: &Action, now: Timestamp) {
    match action {
        Action::Prepare => {
            if let Sandbox::Failed { wait, .. } = state.sandbox {
                state.prepare_wait = wait;
            }
            state.sandbox = Sandbox::Preparing;
        }
        Action::Start { container, attempt } => {
            let Some(record) = state.containers.get_mut(container) else { return };
            if let Life::Exited(exit) = &record.life {
                record.restart_wait.step_after(exit.seen_at, now);
                record.last = Some(exit.clone());
            }
            record.restarts = *attempt;
            record.life = Life::Starting;
        }
        Action::Kill { container, deadline, .. } => {
            let life = state.containers.get_mut(container).map(|r| &mut r.life);
            if let Some(Life::Running { kill, .. }) = life {
                *kill = Some(super::state::Kill { deadline: *deadline });
            }
        }
        Action::ClearSandbox => state.sandbox = Sandbox::Clearing,
        Action::RemoveSandbox => state.sandbox = Sandbox::Removing,
        Action::DeleteObject => state.delete_sent = true,
        Action::Wake(_) => {}
    }
}
