//! The pod's status as kubelet would report it, computed from the view alone.

use std::net::IpAddr;

use daymark_model::PerFamily;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::container_status::{container_statuses, ephemeral_statuses};
use super::decide::{self, PodView};
use super::qos;
use super::spec::{self, Restart};
use super::state::{Life, PodState, Sandbox};

/// The whole status; conditions that others own are not in it.
pub fn status(view: &PodView, host_ips: PerFamily<IpAddr>) -> PodStatus {
    let PodView { pod, state, now } = *view;
    if state.settled {
        return state.last_status.clone();
    }
    let phase = phase(pod, state);
    let (init_statuses, statuses) = container_statuses(view);
    let ips = pod_ips(state);
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        reason: state.verdict.as_ref().map(|v| v.reason.clone()),
        message: state.verdict.as_ref().map(|v| v.message.clone()),
        host_ip: Some(host_ips.primary().to_string()),
        host_ips: Some(host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: ips.first().map(|p| p.ip.clone()),
        pod_ips: (!ips.is_empty()).then_some(ips),
        start_time: state.start_time.map(seconds),
        qos_class: Some(qos::class(pod).to_owned()),
        observed_generation: pod.metadata.generation,
        init_container_statuses: (!init_statuses.is_empty()).then_some(init_statuses),
        container_statuses: Some(statuses),
        ephemeral_container_statuses: ephemeral_statuses(view),
        ..PodStatus::default()
    };
    status.conditions = Some(conditions(view, phase, now));
    status
}

/// API times have whole seconds.
pub(super) fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn pod_ips(state: &PodState) -> Vec<PodIP> {
    match &state.sandbox {
        Sandbox::Ready { ips } => ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect(),
        Sandbox::Absent | Sandbox::Preparing | Sandbox::Failed { .. } => Vec::new(),
        _ => state.last_status.pod_ips.clone().unwrap_or_default(),
    }
}

/// The phase, counted as kubelet does.
pub fn phase(pod: &Pod, state: &PodState) -> &'static str {
    if state.verdict.is_some() || decide::init_failed(pod, state) {
        return "Failed";
    }
    let initialising = decide::blocking_init(pod, state).is_some() && !decide::mains_began(pod, state);
    let (mut waiting, mut running, mut failed) = (0, 0, 0);
    for c in spec::containers(pod) {
        let Some(record) = state.record(&c.name) else { continue };
        let ended = match &record.life {
            Life::Running { .. } => {
                running += 1;
                continue;
            }
            Life::Exited(exit) => Some(exit),
            Life::Idle | Life::Starting | Life::Blocked { .. } => record.last.as_ref(),
        };
        match ended {
            None => waiting += 1,
            Some(exit) => failed += u32::from(exit.code != 0),
        }
    }
    let stopping = pod.metadata.deletion_timestamp.is_some();
    let policy = spec::containers(pod).first().map_or(Restart::Always, |c| spec::restart_policy(pod, c));
    match () {
        // A deleted pod ends in a final phase once nothing of it runs.
        () if stopping && running == 0 && waiting == 0 && state.sandbox_going() => {
            if failed == 0 {
                "Succeeded"
            } else {
                "Failed"
            }
        }
        () if stopping && running == 0 && state.sandbox_going() => "Failed",
        () if initialising || waiting > 0 => "Pending",
        () if running > 0 => "Running",
        () if policy == Restart::Always => "Running",
        () if failed == 0 => "Succeeded",
        () if policy == Restart::Never => "Failed",
        () => "Running",
    }
}

struct Truth {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Truth {
    fn yes() -> Self {
        Self { holds: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { holds: false, reason: Some(reason), message: Some(message) }
    }

    fn bare_no() -> Self {
        Self { holds: false, reason: None, message: None }
    }
}

fn conditions(view: &PodView, phase: &str, now: Timestamp) -> Vec<PodCondition> {
    let PodView { pod, state, .. } = *view;
    let sandbox = match state.sandbox {
        Sandbox::Ready { .. } => Truth::yes(),
        _ => Truth::bare_no(),
    };
    let containers_ready = containers_ready(pod, state, phase);
    let ready = pod_ready(pod, &containers_ready);
    [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(pod, state, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Truth::yes()),
    ]
    .into_iter()
    .map(|(kind, truth)| condition(pod, state, kind, truth, now))
    .collect()
}

fn condition(pod: &Pod, state: &PodState, kind: &str, truth: Truth, now: Timestamp) -> PodCondition {
    let value = if truth.holds { "True" } else { "False" };
    let known = |status: Option<&PodStatus>| {
        let all = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
        all.filter(|c| c.type_ == kind && c.status == value).find_map(|c| c.last_transition_time.clone())
    };
    let since = known(Some(&state.last_status)).or_else(|| known(pod.status.as_ref()));
    PodCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        last_transition_time: Some(since.unwrap_or_else(|| seconds(now))),
        reason: truth.reason.map(str::to_owned),
        message: truth.message,
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn initialized(pod: &Pod, state: &PodState, phase: &str) -> Truth {
    if phase == "Succeeded" {
        return Truth { holds: true, reason: Some("PodCompleted"), message: None };
    }
    if decide::mains_began(pod, state) {
        return Truth::yes();
    }
    let incomplete: Vec<&str> = spec::init_containers(pod)
        .iter()
        .filter(|c| {
            let record = state.record(&c.name);
            !match record.map(|r| &r.life) {
                Some(Life::Exited(exit)) => !spec::is_sidecar(c) && exit.code == 0,
                Some(Life::Running { .. }) => spec::is_sidecar(c) && record.is_some_and(|r| r.started),
                _ => false,
            }
        })
        .map(|c| c.name.as_str())
        .collect();
    if incomplete.is_empty() {
        return Truth::yes();
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Truth::no("ContainersNotInitialized", message)
}

fn containers_ready(pod: &Pod, state: &PodState, phase: &str) -> Truth {
    match phase {
        "Succeeded" => return Truth { holds: false, reason: Some("PodCompleted"), message: None },
        "Failed" => return Truth { holds: false, reason: Some("PodFailed"), message: None },
        _ => {}
    }
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
    let unready: Vec<&str> = sidecars
        .chain(spec::containers(pod))
        .filter(|c| !state.record(&c.name).is_some_and(|r| r.running() && r.ready))
        .map(|c| c.name.as_str())
        .collect();
    if unready.is_empty() {
        return Truth::yes();
    }
    Truth::no("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
}

fn pod_ready(pod: &Pod, containers: &Truth) -> Truth {
    if !containers.holds {
        let message = containers.message.clone();
        return Truth { holds: false, reason: containers.reason, message };
    }
    let gates = pod.spec.as_ref().and_then(|s| s.readiness_gates.as_ref()).into_iter().flatten();
    let known = || pod.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let mut closed = Vec::new();
    for gate in gates {
        match known().find(|c| c.type_ == gate.condition_type) {
            None => closed.push(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(c) if c.status != "True" => closed.push(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, c.status
            )),
            Some(_) => {}
        }
    }
    if closed.is_empty() { Truth::yes() } else { Truth::no("ReadinessGatesNotReady", closed.join(", ")) }
}
