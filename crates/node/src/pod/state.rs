//! What this node knows about one pod beyond its API object, and how observations change it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use daymark_model::PerFamily;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::backoff::BackOff;
pub use super::life::{Doom, Exit, Failure, Kill, Life, Record};
use super::spec;
use crate::probe::ProbeKind;

const FIRST_PREPARE_WAIT: SignedDuration = SignedDuration::from_millis(500);
const LONGEST_PREPARE_WAIT: SignedDuration = SignedDuration::from_secs(5);

/// The pod's namespaces and volumes: what must exist before any container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandbox {
    Absent,
    Preparing,
    Ready {
        ips: PerFamily<IpAddr>,
    },
    /// Preparing failed; it is tried again at `until`, and the next wait is longer.
    Failed {
        message: String,
        until: Timestamp,
        wait: SignedDuration,
    },
    /// It died under its containers.
    Lost,
    /// It died and is being cleared away before a new one is made.
    Clearing,
    Removing,
    Removed,
}

/// Why a pod is being stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// When SIGKILL falls due.
    pub deadline: Timestamp,
    /// The grace period that the deadline came from, seconds.
    pub grace: i64,
}

/// A pod that this node will not run, or runs no longer, though nobody deleted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `status.reason`, such as `DeadlineExceeded` or `UnexpectedAdmissionError`.
    pub reason: String,
    pub message: String,
}

/// What one worker knows about its pod.
#[derive(Clone, Debug)]
pub struct PodState {
    pub sandbox: Sandbox,
    pub containers: BTreeMap<String, Record>,
    pub start_time: Option<Timestamp>,
    /// The pause before the latest attempt to prepare the sandbox.
    pub prepare_wait: SignedDuration,
    pub stopping: Option<Stopping>,
    pub verdict: Option<Verdict>,
    /// The pod had reached a final phase before this process knew it: nothing runs again.
    pub settled: bool,
    /// Exits that were reported before their start was.
    pub early: Vec<Exit>,
    /// The status computed last; transition times come from it.
    pub last_status: PodStatus,
    /// The object's deletion was handed to the status writer.
    pub delete_sent: bool,
}

/// A container that came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    pub id: String,
    pub image: String,
    pub image_id: String,
    pub started_at: Timestamp,
}

/// Why an attempt to start a container ended without a running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The pod began to stop meanwhile.
    Cancelled,
    /// Nothing was created; the attempt is repeated with back-off.
    Blocked(Failure),
    /// The container was created but its process did not start; counts as an exit.
    Dead { id: String, image: String, image_id: String, message: String },
}

/// What a worker can be told.
#[derive(Clone, Debug)]
pub enum Observation {
    Prepared(Result<PerFamily<IpAddr>, String>),
    Started {
        container: String,
        result: Result<Started, StartError>,
    },
    Exited(Exit),
    Probed {
        container: String,
        id: String,
        kind: ProbeKind,
        passed: bool,
    },
    /// The sandbox died under the containers.
    SandboxLost,
    SandboxRemoved,
}

impl PodState {
    /// A pod that this process has not seen before and that has nothing running.
    pub fn new(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let mut state = Self {
            sandbox: Sandbox::Absent,
            containers: spec::all_containers(pod).map(|c| (c.name.clone(), Record::default())).collect(),
            start_time: status.start_time.as_ref().map(|t| t.0),
            prepare_wait: SignedDuration::ZERO,
            stopping: None,
            verdict: None,
            settled: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            early: Vec::new(),
            last_status: status,
            delete_sent: false,
        };
        super::adopt::recall(&mut state);
        state
    }

    pub fn record(&self, name: &str) -> Option<&Record> {
        self.containers.get(name)
    }

    /// Name of the container that runs under this id.
    pub fn running(&self, id: &str) -> Option<&str> {
        let same = |r: &Record| matches!(&r.life, Life::Running { id: its, .. } if its == id);
        self.containers.iter().find(|(_, r)| same(r)).map(|(name, _)| name.as_str())
    }

    /// The sandbox is being removed for good, or already is.
    pub fn sandbox_going(&self) -> bool {
        matches!(self.sandbox, Sandbox::Removing | Sandbox::Removed)
    }

    /// Takes in what the API object says now: new containers' records, deletion, deadlines.
    pub fn sync(&mut self, pod: &Pod, now: Timestamp) {
        self.start_time.get_or_insert(now);
        for c in spec::all_containers(pod) {
            let record = self.containers.entry(c.name.clone()).or_default();
            let wanted = c.image.as_deref().unwrap_or_default();
            if record.running() && !record.image.is_empty() && record.image != wanted {
                record.doom.get_or_insert(Doom::ImageChanged);
            }
        }
        if self.verdict.is_none() && !self.settled && spec::past_deadline(pod, self.start_time, now) {
            self.verdict = Some(Verdict {
                reason: "DeadlineExceeded".into(),
                message: "Pod was active on the node longer than the specified deadline".into(),
            });
        }
        self.sync_stopping(pod, now);
    }

    fn sync_stopping(&mut self, pod: &Pod, now: Timestamp) {
        let grace = match (&pod.metadata.deletion_timestamp, &self.verdict) {
            (Some(_), _) => spec::deletion_grace(pod),
            (None, Some(_)) => spec::grace(pod),
            (None, None) => return,
        };
        let deadline = now + SignedDuration::from_secs(grace);
        match &mut self.stopping {
            None => self.stopping = Some(Stopping { deadline, grace }),
            Some(s) if grace < s.grace => {
                s.grace = grace;
                s.deadline = s.deadline.min(deadline);
            }
            Some(_) => {}
        }
    }

    /// Takes in one observation.
    pub fn observe(&mut self, pod: &Pod, seen: Observation, now: Timestamp) {
        match seen {
            Observation::Prepared(Ok(ips)) => self.sandbox = Sandbox::Ready { ips },
            Observation::Prepared(Err(message)) => {
                let wait = (self.prepare_wait * 2).clamp(FIRST_PREPARE_WAIT, LONGEST_PREPARE_WAIT);
                self.sandbox = Sandbox::Failed { message, until: now + wait, wait };
            }
            Observation::Started { container, result } => self.on_started(pod, &container, result, now),
            Observation::Exited(exit) => self.on_exit(Exit { seen_at: now, ..exit }),
            Observation::Probed { container, id, kind, passed } => {
                self.on_probe(pod, &container, &id, kind, passed)
            }
            Observation::SandboxLost => self.on_sandbox_lost(pod, now),
            Observation::SandboxRemoved if self.sandbox == Sandbox::Clearing => {
                self.sandbox = Sandbox::Absent
            }
            Observation::SandboxRemoved => self.sandbox = Sandbox::Removed,
        }
    }

    fn on_started(&mut self, pod: &Pod, name: &str, result: Result<Started, StartError>, now: Timestamp) {
        let container = spec::find_container(pod, name);
        let Some(record) = self.containers.get_mut(name) else { return };
        match result {
            Ok(s) => {
                record.attempt_wait.reset();
                record.image = s.image;
                record.image_id = s.image_id;
                record.started = container.as_ref().is_none_or(|c| c.startup_probe.is_none());
                record.ready = record.started && container.is_none_or(|c| c.readiness_probe.is_none());
                record.doom = None;
                record.life = Life::Running { id: s.id.clone(), started_at: s.started_at, kill: None };
                if let Some(at) = self.early.iter().position(|e| e.container_id == s.id) {
                    let exit = self.early.remove(at);
                    self.on_exit(exit);
                }
            }
            Err(StartError::Cancelled) => record.life = Life::Idle,
            Err(StartError::Blocked(failure)) => {
                record.attempt_wait.step(now);
                let until = now + attempt_pause(&failure, &record.attempt_wait);
                record.life = Life::Blocked { failure, since: now, until };
            }
            Err(StartError::Dead { id, image, image_id, message }) => {
                record.image = image;
                record.image_id = image_id;
                record.life = Life::Exited(Exit {
                    container_id: id,
                    code: 128,
                    signal: None,
                    reason: "StartError".into(),
                    message,
                    // As kubelet says of what never ran: kubectl shows 1970, not the year 1.
                    started_at: Some(Timestamp::UNIX_EPOCH),
                    finished_at: now,
                    seen_at: now,
                });
            }
        }
    }

    fn on_exit(&mut self, exit: Exit) {
        let starting = self.containers.values().any(|r| r.life == Life::Starting);
        let running = self
            .containers
            .values_mut()
            .find(|r| matches!(&r.life, Life::Running { id, .. } if *id == exit.container_id));
        match running {
            Some(record) => {
                record.started = false;
                record.ready = false;
                record.doom = None;
                record.life = Life::Exited(exit);
            }
            None if starting => self.early.push(exit),
            None => {}
        }
    }

    fn on_probe(&mut self, pod: &Pod, name: &str, of: &str, kind: ProbeKind, passed: bool) {
        let container = spec::find_container(pod, name);
        let Some(record) = self.containers.get_mut(name) else { return };
        if !matches!(&record.life, Life::Running { id, .. } if id == of) {
            return;
        }
        match (kind, passed) {
            (ProbeKind::Readiness, verdict) => record.ready = verdict,
            (ProbeKind::Startup, true) => {
                record.started = true;
                record.ready = container.is_none_or(|c| c.readiness_probe.is_none());
            }
            (ProbeKind::Startup, false) => record.doom = Some(Doom::Startup),
            (ProbeKind::Liveness, false) => record.doom = Some(Doom::Liveness),
            (ProbeKind::Liveness, true) => {}
        }
    }

    fn on_sandbox_lost(&mut self, pod: &Pod, now: Timestamp) {
        if !matches!(self.sandbox, Sandbox::Ready { .. }) {
            return;
        }
        self.sandbox = Sandbox::Lost;
        for (name, record) in &mut self.containers {
            if let Life::Running { id, started_at, .. } = &record.life {
                record.life = Life::Exited(Exit {
                    container_id: id.clone(),
                    code: 255,
                    signal: None,
                    reason: "Unknown".into(),
                    message: "the pod's sandbox is gone".into(),
                    started_at: Some(*started_at),
                    finished_at: now,
                    seen_at: now,
                });
            }
            record.started = false;
            record.ready = false;
            if spec::is_init(pod, name) && !spec::is_sidecar_named(pod, name) {
                record.life = Life::Idle;
            }
        }
    }
}

/// Pull failures wait like restarts do; configuration errors are cheap to retry and often mended at
/// once by whoever creates the missing object.
fn attempt_pause(failure: &Failure, waits: &BackOff) -> SignedDuration {
    match failure.reason.as_str() {
        "ErrImagePull" | "ErrImageNeverPull" | "InvalidImageName" => waits.wait(),
        _ => waits.wait().min(SignedDuration::from_secs(2)),
    }
}
