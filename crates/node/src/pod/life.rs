//! One container of a pod over all its lives.

use jiff::Timestamp;

use super::backoff::BackOff;

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub container_id: String,
    pub code: i32,
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, …
    pub reason: String,
    pub message: String,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    /// When this node heard of it, by the clock that back-off is measured with.
    pub seen_at: Timestamp,
}

/// Why a container could not be started, before there was a process to exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A waiting reason as kubelet words it: `ErrImagePull`, `CreateContainerConfigError`, …
    pub reason: String,
    pub message: String,
}

/// A stop that was asked for: SIGTERM is out, SIGKILL follows at `deadline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    pub deadline: Timestamp,
}

/// Where a container is in its life. `Idle → Starting → Running → Exited → Starting …`, with
/// `Blocked` after an attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    Idle,
    /// Image, create and start are in flight.
    Starting,
    Blocked {
        failure: Failure,
        since: Timestamp,
        until: Timestamp,
    },
    Running {
        id: String,
        started_at: Timestamp,
        kill: Option<Kill>,
    },
    Exited(Exit),
}

/// Why a running container has to be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    Liveness,
    Startup,
    ImageChanged,
}

/// One container of the pod over all its restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub life: Life,
    /// The end before the present life; its log is what `kubectl logs --previous` shows.
    pub last: Option<Exit>,
    pub restarts: i32,
    /// The image that was asked for when it was started last.
    pub image: String,
    pub image_id: String,
    pub restart_wait: BackOff,
    pub attempt_wait: BackOff,
    /// The startup probe has passed, or there is none.
    pub started: bool,
    /// The readiness probe's verdict, or true when there is none.
    pub ready: bool,
    pub doom: Option<Doom>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            life: Life::Idle,
            last: None,
            restarts: 0,
            image: String::new(),
            image_id: String::new(),
            restart_wait: BackOff::restarts(),
            attempt_wait: BackOff::restarts(),
            started: false,
            ready: false,
            doom: None,
        }
    }
}

impl Record {
    /// Id of the container that lived last, running or not.
    pub fn container_id(&self) -> Option<&str> {
        match &self.life {
            Life::Running { id, .. } => Some(id),
            Life::Exited(exit) if !exit.container_id.is_empty() => Some(&exit.container_id),
            _ => self.last.as_ref().map(|l| l.container_id.as_str()).filter(|id| !id.is_empty()),
        }
    }

    pub fn running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }
}
