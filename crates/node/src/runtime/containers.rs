//! Making, starting, killing and removing containers; exec and attach.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::client::{self, Connection};
use super::pod::{Pod, lock};
use super::{ContainerId, ContainerSpec, ContainerState, ExecSession, Result, Runtime, RuntimeError};
use crate::image::{ImageInfo, Store};
use crate::shim::protocol::{ContainerRecord, PodDir, Request, Response};

impl Runtime {
    pub(super) async fn make_container(&self, uid: &str, spec: ContainerSpec) -> Result<ContainerId> {
        let pod = self.find(uid).ok_or_else(|| RuntimeError::NoSandbox { uid: uid.to_owned() })?;
        if !pod.ready.load(Ordering::SeqCst) {
            return Err(RuntimeError::Shim { uid: uid.to_owned(), cause: "it has ended".into() });
        }
        let _busy = pod.busy.lock().await;
        let (one, two) = (uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let id = ContainerId(format!("{one}{two}"));
        let (store, dir, wanted) = (self.inner.store.clone(), pod.dir.clone(), id.clone());
        let log_path = self.log_file(uid, &spec.name, spec.attempt);
        let name = spec.name.clone();
        let place = [
            ("DAYMARK_NODE", &self.inner.config.node_name),
            ("DAYMARK_NAMESPACE", &pod.record().spec.namespace),
        ]
        .map(|(name, value)| format!("{name}={value}"));
        let made = tokio::task::spawn_blocking(move || {
            write_container(&store, &dir, wanted.clone(), spec, log_path, &place).inspect_err(|_| {
                store.release(&wanted.0);
                let _ = fs::remove_dir_all(PodDir(&dir).container(&wanted));
            })
        });
        let failed = |error: tokio::task::JoinError| RuntimeError::Create { name, cause: error.to_string() };
        pod.add(made.await.map_err(failed)??);
        lock(&self.inner.owners).insert(id.clone(), uid.to_owned());
        Ok(id)
    }

    pub(super) async fn launch_container(&self, id: &ContainerId) -> Result<()> {
        let pod = self.owner(id)?;
        let _busy = pod.busy.lock().await;
        let status = pod.container(id).ok_or_else(|| RuntimeError::NoContainer { id: id.to_string() })?;
        if status.state != ContainerState::Created {
            let state = match status.state {
                ContainerState::Running { .. } => "running",
                _ => "exited",
            };
            return Err(RuntimeError::WrongState {
                name: status.spec.name,
                state: state.into(),
                operation: "start",
            });
        }
        let response = self.ask(&pod, &Request::Start { id: id.clone() }).await;
        pod.refresh(id);
        match response? {
            Response::Failed(failure) => {
                Err(RuntimeError::Start { name: status.spec.name, cause: failure.message })
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn signal_container(&self, id: &ContainerId, signal: i32) -> Result<()> {
        let pod = self.owner(id)?;
        let status = pod.container(id).ok_or_else(|| RuntimeError::NoContainer { id: id.to_string() })?;
        if !matches!(status.state, ContainerState::Running { .. }) {
            return Ok(());
        }
        match self.ask(&pod, &Request::Kill { id: id.clone(), signal }).await? {
            Response::Failed(failure) => {
                Err(RuntimeError::Shim { uid: status.pod_uid, cause: failure.message })
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn delete_container(&self, id: &ContainerId) -> Result<()> {
        let Ok(pod) = self.owner(id) else { return Ok(()) };
        let _busy = pod.busy.lock().await;
        if pod.ready.load(Ordering::SeqCst) {
            self.ask(&pod, &Request::Remove { id: id.clone() }).await?;
        }
        let (store, name, dir) = (self.inner.store.clone(), id.0.clone(), PodDir(&pod.dir).container(id));
        let swept = tokio::task::spawn_blocking(move || {
            store.release(&name);
            match fs::remove_dir_all(&dir) {
                Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                    Err(RuntimeError::Io { what: format!("removing {}", dir.display()), cause })
                }
                _ => Ok(()),
            }
        });
        match swept.await {
            Ok(result) => result?,
            Err(error) => return Err(RuntimeError::Unavailable { what: error.to_string() }),
        }
        pod.forget(id);
        lock(&self.inner.owners).remove(id);
        Ok(())
    }

    pub(super) async fn open_session(&self, id: &ContainerId, request: Request) -> Result<ExecSession> {
        let pod = self.owner(id)?;
        let uid = pod.record().spec.uid;
        let status = pod.container(id).ok_or_else(|| RuntimeError::NoContainer { id: id.to_string() })?;
        if !matches!(status.state, ContainerState::Running { .. }) {
            let cause = format!("container {} is not running", status.spec.name);
            return Err(RuntimeError::Exec { cause, code: 126 });
        }
        let broken =
            |error: std::io::Error| RuntimeError::Shim { uid: uid.clone(), cause: error.to_string() };
        let mut connection = Connection::ask(&pod.record().socket, &request).await.map_err(broken)?;
        match connection.next_with_fds().await.map_err(broken)? {
            (Some(Response::Failed(failure)), _) => {
                Err(RuntimeError::Exec { cause: failure.message, code: failure.code })
            }
            (Some(answer), fds) => ExecSession::new(connection, &answer, fds).map_err(broken),
            (None, _) => Err(broken(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }

    async fn ask(&self, pod: &Pod, request: &Request) -> Result<Response> {
        let record = pod.record();
        let answer = client::call(&record.socket, request).await;
        answer.map_err(|error| RuntimeError::Shim { uid: record.spec.uid, cause: error.to_string() })
    }

    pub(super) fn owner(&self, id: &ContainerId) -> Result<Arc<Pod>> {
        let uid = lock(&self.inner.owners).get(id).cloned();
        let pod = uid.and_then(|uid| self.find(&uid));
        pod.ok_or_else(|| RuntimeError::NoContainer { id: id.to_string() })
    }
}

/// Puts a container's directory, record and lease on disk.
fn write_container(
    store: &Store,
    pod_dir: &Path,
    id: ContainerId,
    spec: ContainerSpec,
    log_path: PathBuf,
    place: &[String],
) -> Result<ContainerRecord> {
    let dir = PodDir(pod_dir).container(&id);
    let io = |cause: std::io::Error| RuntimeError::Io { what: format!("making {}", dir.display()), cause };
    fs::create_dir_all(&dir).map_err(io)?;
    let image: ImageInfo = store
        .find(&spec.image_id)?
        .ok_or_else(|| crate::image::ImageError::NotPresent { image: spec.image_id.clone() })?;
    let mut config = image.config;
    if image.builtin {
        // The built-in page shows where it runs, without the pod having to say so.
        config.env.extend_from_slice(place);
    }
    let layers = store.lease(&image.id, &id.0, &dir)?;
    let created_at = jiff::Timestamp::now();
    let record = ContainerRecord { id, created_at, spec, image: config, layers, log_path };
    if crate::shim::program(&record).is_empty() {
        let cause = "no command specified: the image has neither Entrypoint nor Cmd".to_owned();
        return Err(RuntimeError::Create { name: record.spec.name, cause });
    }
    let text = serde_json::to_vec(&record).map_err(|error| io(error.into()))?;
    super::files::write_atomic(&dir.join("container.json"), &text).map_err(io)?;
    Ok(record)
}
