//! One pod in the memory of the node process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::files::write_atomic;
use super::{ContainerId, ContainerState, ContainerStatus, Exit, SandboxStatus};
use crate::shim::protocol::{ContainerRecord, PodDir, SandboxRecord};

/// A pod's record and what is known of its containers. The disk has the same.
pub struct Pod {
    /// The pod's directory.
    pub dir: PathBuf,
    /// Its shim lives.
    pub ready: AtomicBool,
    /// It is on its way out: its shim's end is no news.
    pub leaving: AtomicBool,
    /// One change at a time.
    pub busy: tokio::sync::Mutex<()>,
    record: Mutex<SandboxRecord>,
    containers: Mutex<BTreeMap<ContainerId, ContainerStatus>>,
}

impl Pod {
    /// A pod without containers.
    pub fn new(dir: PathBuf, record: SandboxRecord) -> Self {
        Self {
            dir,
            ready: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            busy: tokio::sync::Mutex::new(()),
            record: Mutex::new(record),
            containers: Mutex::new(BTreeMap::new()),
        }
    }

    /// Reads a pod back from its directory; a directory without a readable record is `None`.
    pub fn load(dir: &Path) -> Option<Self> {
        let record = serde_json::from_slice(&fs::read(PodDir(dir).record()).ok()?).ok()?;
        let pod = Self::new(dir.to_owned(), record);
        for entry in fs::read_dir(PodDir(dir).containers()).into_iter().flatten().flatten() {
            let text = fs::read(entry.path().join("container.json")).ok();
            let record = text.and_then(|text| serde_json::from_slice::<ContainerRecord>(&text).ok());
            match record {
                Some(record) => pod.add(record),
                // Its creation was interrupted.
                None => drop(fs::remove_dir_all(entry.path())),
            }
        }
        Some(pod)
    }

    /// A copy of the record.
    pub fn record(&self) -> SandboxRecord {
        lock(&self.record).clone()
    }

    /// Changes the record in memory and on disk.
    pub fn change(&self, change: impl FnOnce(&mut SandboxRecord)) -> io::Result<()> {
        let mut record = lock(&self.record);
        change(&mut record);
        write_atomic(&PodDir(&self.dir).record(), &serde_json::to_vec(&*record)?)
    }

    /// The pod as callers see it.
    pub fn status(&self) -> SandboxStatus {
        let record = self.record();
        let mut containers = lock(&self.containers).values().cloned().collect::<Vec<_>>();
        containers.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        SandboxStatus {
            ips: record.ips,
            ready: self.ready.load(Ordering::SeqCst),
            created_at: record.created_at,
            link: record.link,
            netns: PathBuf::from(format!("/proc/{}/ns/net", record.shim_pid.unwrap_or(0))),
            containers,
            spec: record.spec,
        }
    }

    /// Takes note of a container that is on disk.
    pub fn add(&self, record: ContainerRecord) {
        let status = ContainerStatus {
            state: self.state_on_disk(&record.id),
            pod_uid: lock(&self.record).spec.uid.clone(),
            spec: record.spec,
            created_at: record.created_at,
            id: record.id,
        };
        lock(&self.containers).insert(status.id.clone(), status);
    }

    /// A container as it is known.
    pub fn container(&self, id: &ContainerId) -> Option<ContainerStatus> {
        lock(&self.containers).get(id).cloned()
    }

    /// Ids of all containers.
    pub fn container_ids(&self) -> Vec<ContainerId> {
        lock(&self.containers).keys().cloned().collect()
    }

    /// Forgets a container.
    pub fn forget(&self, id: &ContainerId) {
        lock(&self.containers).remove(id);
    }

    /// Takes over what the shim has saved last.
    pub fn refresh(&self, id: &ContainerId) {
        let mut containers = lock(&self.containers);
        if let Some(status) = containers.get_mut(id) {
            status.state = self.state_on_disk(id);
        }
    }

    /// The shim is gone: whatever ran has been killed with it. Returns the containers that this ended.
    pub fn shim_died(&self) -> Vec<(ContainerId, Exit)> {
        self.ready.store(false, Ordering::SeqCst);
        let now = jiff::Timestamp::now();
        let mut ended = Vec::new();
        let mut containers = lock(&self.containers);
        for (id, status) in containers.iter_mut() {
            status.state = self.state_on_disk(id);
            let ContainerState::Running { started_at, .. } = status.state else { continue };
            let exit = Exit {
                code: 137,
                signal: Some(9),
                reason: "ContainerStatusUnknown".into(),
                message: "The container could not be located when the pod's shim ended".into(),
                started_at,
                finished_at: now,
            };
            status.state = ContainerState::Exited(exit.clone());
            let text = serde_json::to_vec(&status.state).unwrap_or_default();
            if let Err(error) = write_atomic(&self.state_path(id), &text) {
                tracing::warn!(%id, %error, "cannot save a container's state");
            }
            ended.push((id.clone(), exit));
        }
        ended
    }

    fn state_path(&self, id: &ContainerId) -> PathBuf {
        PodDir(&self.dir).container(id).join("state.json")
    }

    fn state_on_disk(&self, id: &ContainerId) -> ContainerState {
        let text = fs::read(self.state_path(id)).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or(ContainerState::Created)
    }
}

/// Locks; what panicked elsewhere doesn't stop the node.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
