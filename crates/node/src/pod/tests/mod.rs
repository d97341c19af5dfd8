//! Cases for the pure pod machine, told as stories: what happens, what is done, what the status says.

mod adoption;
mod restarts;
mod stage;
mod starting;
mod stopping;
mod workers;

use daymark_model::PerFamily;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use serde_json::{Value, json};

use super::decide::{Action, PodView, begin, decide};
use super::state::{Exit, Failure, Observation, PodState, StartError, Started};
use crate::probe::ProbeKind;

/// A pod in namespace `shop` whose spec is given.
pub fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "web", "namespace": "shop", "uid": "u1", "generation": 3});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod")
}

/// A pod with one container `c`.
pub fn simple(policy: &str) -> Pod {
    pod(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "web:1"}]}))
}

/// The machine with a clock of its own.
pub struct Story {
    pub pod: Pod,
    pub state: PodState,
    pub now: Timestamp,
    lives: u32,
}

impl Story {
    pub fn new(pod: Pod) -> Self {
        let state = PodState::new(&pod);
        Self { pod, state, now: Timestamp::from_second(1_700_000_000).expect("in range"), lives: 0 }
    }

    /// Decides and begins everything; returns it in words, waits left out.
    pub fn acts(&mut self) -> String {
        self.state.sync(&self.pod, self.now);
        let actions = decide(&PodView { pod: &self.pod, state: &self.state, now: self.now });
        let mut words = Vec::new();
        for action in &actions {
            begin(&mut self.state, action, self.now);
            words.extend(self.word(action));
        }
        let status = self.status();
        self.state.last_status = status;
        words.join(", ")
    }

    fn word(&self, action: &Action) -> Option<String> {
        Some(match action {
            Action::Prepare => "prepare".into(),
            Action::Start { container, attempt } => format!("start {container}#{attempt}"),
            Action::Kill { container, deadline, .. } => {
                format!("kill {container} in {}s", deadline.duration_since(self.now).as_secs())
            }
            Action::ClearSandbox => "clear".into(),
            Action::RemoveSandbox => "remove".into(),
            Action::DeleteObject => "delete".into(),
            Action::Wake(_) => return None,
        })
    }

    /// Seconds until the machine wants to look again.
    pub fn wakes_in(&self) -> Option<i64> {
        let actions = decide(&PodView { pod: &self.pod, state: &self.state, now: self.now });
        let wakes = actions.iter().filter_map(|a| match a {
            Action::Wake(at) => Some(at.duration_since(self.now).as_secs()),
            _ => None,
        });
        wakes.min()
    }

    pub fn pass(&mut self, secs: i64) {
        self.now += SignedDuration::from_secs(secs);
    }

    pub fn see(&mut self, seen: Observation) {
        self.state.observe(&self.pod, seen, self.now);
    }

    pub fn prepared(&mut self) {
        let ips = ["10.244.1.5", "fd00:10:244:1::5"].map(|ip| ip.parse().expect("ip"));
        self.see(Observation::Prepared(Ok(PerFamily::from_list(ips).expect("two families"))));
    }

    /// A start that worked; returns the new id.
    pub fn started(&mut self, container: &str) -> String {
        self.lives += 1;
        let id = format!("{container}-{}", self.lives);
        let image = super::spec::find_container(&self.pod, container).and_then(|c| c.image.clone());
        let started = Started {
            id: id.clone(),
            image: image.unwrap_or_default(),
            image_id: "sha256:1".into(),
            started_at: self.now,
        };
        self.see(Observation::Started { container: container.into(), result: Ok(started) });
        id
    }

    pub fn blocked(&mut self, container: &str, reason: &str) {
        let failure = Failure { reason: reason.into(), message: "why".into() };
        let result = Err(StartError::Blocked(failure));
        self.see(Observation::Started { container: container.into(), result });
    }

    pub fn exit(&self, id: &str, code: i32) -> Exit {
        Exit {
            container_id: id.into(),
            code,
            signal: None,
            reason: if code == 0 { "Completed" } else { "Error" }.into(),
            message: String::new(),
            started_at: Some(self.now),
            finished_at: self.now,
            seen_at: self.now,
        }
    }

    pub fn exited(&mut self, id: &str, code: i32) {
        let exit = self.exit(id, code);
        self.see(Observation::Exited(exit));
    }

    pub fn probed(&mut self, container: &str, id: &str, kind: ProbeKind, passed: bool) {
        self.see(Observation::Probed { container: container.into(), id: id.into(), kind, passed });
    }

    pub fn delete(&mut self, grace: i64) {
        let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now);
        self.pod.metadata.deletion_timestamp = Some(at);
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
    }

    pub fn status(&self) -> PodStatus {
        let view = PodView { pod: &self.pod, state: &self.state, now: self.now };
        super::status(&view, PerFamily::single("172.30.0.11".parse().expect("ip")))
    }

    pub fn phase(&self) -> String {
        self.status().phase.expect("a phase")
    }

    pub fn container(&self, name: &str) -> ContainerStatus {
        let status = self.status();
        let mut all = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
        all.find(|c| c.name == name).expect("the container")
    }

    /// `waiting REASON`, `running`, or `terminated REASON CODE`.
    pub fn shows(&self, name: &str) -> String {
        let state = self.container(name).state.expect("a state");
        match (state.waiting, state.running, state.terminated) {
            (Some(w), None, None) => format!("waiting {}", w.reason.expect("a reason")),
            (None, Some(_), None) => "running".into(),
            (None, None, Some(t)) => format!("terminated {} {}", t.reason.expect("a reason"), t.exit_code),
            odd => panic!("exactly one state must be set: {odd:?}"),
        }
    }

    /// `True`, or `False` with the reason.
    pub fn condition(&self, kind: &str) -> String {
        let conditions = self.status().conditions.expect("conditions");
        let c = conditions.into_iter().find(|c| c.type_ == kind).expect("the condition");
        c.reason.map_or(c.status.clone(), |reason| format!("{} {reason}", c.status))
    }
}
