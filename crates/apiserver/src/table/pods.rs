//! How a pod is doing, in one word and two numbers.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    age,
    column::{AGE, Column, NAME, or_none},
};
use crate::kinds::value::{at, int, list, present, text, truth};

pub const PODS: &[Column] = &[
    NAME,
    Column::string("Ready", "Containers that are ready, of all", |pod, now| {
        let summary = summary(pod, now);
        format!("{}/{}", summary.ready, summary.containers).into()
    }),
    Column::string("Status", "How the pod's containers are doing, in a word", |pod, now| {
        summary(pod, now).reason.into()
    }),
    Column::string("Restarts", "How often containers restarted, and when last", |pod, now| {
        summary(pod, now).restarts.into()
    }),
    AGE,
    Column::string("IP", "Address of the pod", |pod, _| {
        or_none(list(pod, "status.podIPs").first().map_or("", |ip| text(ip, "ip")))
    })
    .wide(),
    Column::string("Node", "Node that the pod runs on", |pod, _| or_none(text(pod, "spec.nodeName"))).wide(),
    Column::string("Nominated Node", "Node on which others are to make room for the pod", |pod, _| {
        or_none(text(pod, "status.nominatedNodeName"))
    })
    .wide(),
    Column::string("Readiness Gates", "Conditions beyond its containers that the pod waits for", |pod, _| {
        readiness_gates(pod)
    })
    .wide(),
];

/// The conditions of the row of a pod that has ended.
pub fn conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "status.phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

struct Summary {
    ready: usize,
    containers: usize,
    reason: String,
    restarts: String,
}

/// Restarts so far and the end of the last run.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += int(status, "restartCount");
        let ended = at(status, "lastState.terminated.finishedAt").and_then(age::parse);
        self.last = self.last.max(ended);
    }

    fn shown(&self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.count != 0 => {
                format!("{} ({} ago)", self.count, age::human(now.as_second() - last.as_second()))
            }
            _ => self.count.to_string(),
        }
    }
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    list(pod, "status.conditions").iter().find(|c| text(c, "type") == kind)
}

fn is_true(pod: &Value, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|c| text(c, "status") == "True")
}

fn summary(pod: &Value, now: Timestamp) -> Summary {
    let sidecars = list(pod, "spec.initContainers").iter().filter(|c| is_sidecar(c)).count();
    let mut reason = match text(pod, "status.reason") {
        "" => text(pod, "status.phase"),
        reason => reason,
    }
    .to_owned();
    if condition(pod, "PodScheduled").is_some_and(|c| text(c, "reason") == "SchedulingGated") {
        reason = "SchedulingGated".to_owned();
    }
    let init = initialisation(pod);
    let (mut ready, mut restarts) = (init.ready, init.restarts);
    if let Some(stage) = &init.stage {
        reason.clone_from(stage);
    }
    if init.stage.is_none() || is_true(pod, "Initialized") {
        restarts = init.sidecar_restarts;
        ready += running(pod, &mut reason, &mut restarts);
    }
    let phase = text(pod, "status.phase");
    if present(pod, "metadata.deletionTimestamp") {
        if text(pod, "status.reason") == "NodeLost" {
            reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            reason = "Terminating".to_owned();
        }
    }
    let containers = list(pod, "spec.containers").len() + sidecars;
    Summary { ready, containers, reason, restarts: restarts.shown(now) }
}

/// How far the init containers are.
struct Initialisation {
    /// `None` once all are done.
    stage: Option<String>,
    ready: usize,
    restarts: Restarts,
    sidecar_restarts: Restarts,
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

fn initialisation(pod: &Value) -> Initialisation {
    let specs = list(pod, "spec.initContainers");
    let mut out = Initialisation {
        stage: None,
        ready: 0,
        restarts: Restarts::default(),
        sidecar_restarts: Restarts::default(),
    };
    for (i, status) in list(pod, "status.initContainerStatuses").iter().enumerate() {
        let sidecar = specs.iter().any(|c| text(c, "name") == text(status, "name") && is_sidecar(c));
        out.restarts.add(status);
        if sidecar {
            out.sidecar_restarts.add(status);
        }
        let terminated = at(status, "state.terminated");
        if terminated.is_some_and(|t| int(t, "exitCode") == 0) {
            continue;
        }
        if sidecar && truth(status, "started") {
            out.ready += usize::from(truth(status, "ready"));
            continue;
        }
        let waiting = text(status, "state.waiting.reason");
        out.stage = Some(match terminated {
            Some(terminated) => format!("Init:{}", ending(terminated)),
            None if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
            None => format!("Init:{i}/{}", specs.len()),
        });
        break;
    }
    out
}

/// Why a container ended.
fn ending(terminated: &Value) -> String {
    match (text(terminated, "reason"), int(terminated, "signal")) {
        ("", 0) => format!("ExitCode:{}", int(terminated, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Looks at the containers proper, the first having the last word; answers how many are ready.
fn running(pod: &Value, reason: &mut String, restarts: &mut Restarts) -> usize {
    let (mut ready, mut error) = (0, None);
    for status in list(pod, "status.containerStatuses").iter().rev() {
        restarts.add(status);
        let waiting = text(status, "state.waiting.reason");
        if !waiting.is_empty() {
            waiting.clone_into(reason);
        } else if let Some(terminated) = at(status, "state.terminated") {
            *reason = ending(terminated);
            if int(terminated, "exitCode") != 0 {
                error = Some(reason.clone());
            }
        } else if truth(status, "ready") && present(status, "state.running") {
            ready += 1;
        }
    }
    if reason == "Completed" {
        match error {
            _ if ready > 0 && is_true(pod, "Ready") => "Running".clone_into(reason),
            Some(error) => *reason = error,
            None if ready > 0 => "NotReady".clone_into(reason),
            None => {}
        }
    }
    ready
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = list(pod, "spec.readinessGates");
    if gates.is_empty() {
        return or_none("");
    }
    let open = gates.iter().filter(|gate| is_true(pod, text(gate, "conditionType"))).count();
    format!("{open}/{}", gates.len()).into()
}
