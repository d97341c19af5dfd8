//! The pod runtime of a node: sandboxes, containers, exec, attach and logs, owned by one shim process per pod.

pub(crate) mod addresses;
mod client;
mod containers;
mod error;
pub(crate) mod files;
mod images;
mod pod;
mod sandboxes;
mod session;
mod types;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;

pub use error::RuntimeError;
pub use session::{ExecSession, SessionControl, StreamReader, StreamWriter};
pub use types::*;

use crate::image::{ImageError, Store};
use crate::sandbox::ipam::Pool;
use crate::shim::protocol::{PodDir, Request};
use pod::{Pod, lock};

/// Result of a runtime operation.
pub type Result<T> = std::result::Result<T, RuntimeError>;

/// The runtime of one node. Cheap to clone; all clones are one runtime.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    config: RuntimeConfig,
    store: Store,
    netlink: rtnetlink::Handle,
    events: broadcast::Sender<RuntimeEvent>,
    addresses: Mutex<Pool>,
    pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    owners: Mutex<BTreeMap<ContainerId, String>>,
    pulls: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// What watching a pod needs, without keeping the runtime alive.
struct Watcher {
    events: broadcast::Sender<RuntimeEvent>,
}

impl Runtime {
    /// Opens the runtime and adopts the sandboxes found on disk: those whose shim lives are ready,
    /// the remains of the others are killed and shown as not ready. Must run on a thread in the node's
    /// network namespace.
    pub async fn open(config: RuntimeConfig) -> Result<Self> {
        for path in [config.state_dir.join("pods"), config.run_dir.clone(), config.cgroup_v2_dir.clone()] {
            let made = std::fs::create_dir_all(&path);
            made.map_err(|cause| RuntimeError::Io { what: format!("making {}", path.display()), cause })?;
        }
        let netlink = rtnetlink::new_connection();
        let (connection, netlink, _) =
            netlink.map_err(|cause| RuntimeError::Io { what: "opening netlink".into(), cause })?;
        tokio::spawn(connection);
        let images = (config.images_dir.clone(), config.shim_command.first().cloned());
        let opened = tokio::task::spawn_blocking(move || {
            let store = Store::open(&images.0)?;
            if let Some(program) = images.1 {
                store.install_builtin(program.as_ref())?;
            }
            std::result::Result::<_, ImageError>::Ok(store)
        });
        let store = opened.await.map_err(|error| RuntimeError::Unavailable { what: error.to_string() })??;
        let inner = Inner {
            addresses: Mutex::new(Pool::new(config.pod_cidrs)),
            events: broadcast::channel(1024).0,
            pods: Mutex::default(),
            owners: Mutex::default(),
            pulls: Mutex::default(),
            netlink,
            store,
            config,
        };
        let runtime = Self { inner: Arc::new(inner) };
        runtime.adopt().await?;
        for pod in lock(&runtime.inner.pods).values() {
            for id in pod.container_ids() {
                lock(&runtime.inner.owners).insert(id, pod.record().spec.uid);
            }
        }
        Ok(runtime)
    }

    /// All sandboxes of the node with their containers, ordered by pod UID.
    pub async fn sandboxes(&self) -> Vec<SandboxStatus> {
        let pods = lock(&self.inner.pods).values().cloned().collect::<Vec<_>>();
        pods.iter().map(|pod| pod.status()).collect()
    }

    /// One sandbox.
    pub async fn sandbox(&self, uid: &str) -> Result<SandboxStatus> {
        self.find(uid).map(|pod| pod.status()).ok_or_else(|| RuntimeError::NoSandbox { uid: uid.into() })
    }

    /// Makes the namespaces, link, address and shim of a pod. Nothing is left behind on failure.
    /// Asking again for a living sandbox returns it; one that is not ready is made anew (its containers
    /// are gone then). Calls for one pod must not overlap.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus> {
        self.make_sandbox(spec).await
    }

    /// Kills what still runs in a pod and removes everything of it but its logs and volumes, see
    /// [`Runtime::remove_pod_data`]. Removing a sandbox that does not exist succeeds.
    pub async fn remove_sandbox(&self, uid: &str) -> Result<()> {
        self.unmake_sandbox(uid).await
    }

    /// Removes a pod's logs and volumes: when the pod itself is gone. File systems mounted below its
    /// volumes must be unmounted before.
    pub async fn remove_pod_data(&self, uid: &str) -> Result<()> {
        let uid = uid.to_owned();
        let (volumes, logs) = (self.volumes_dir(&uid), self.logs_dir(&uid));
        let swept = tokio::task::spawn_blocking(move || {
            for dir in [volumes, logs] {
                match std::fs::remove_dir_all(&dir) {
                    Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                        return Err(RuntimeError::Io { what: format!("removing {}", dir.display()), cause });
                    }
                    _ => {}
                }
            }
            Ok(())
        });
        swept.await.unwrap_or_else(|error| Err(RuntimeError::Unavailable { what: error.to_string() }))
    }

    /// Makes sure that an image is in the store, pulling it as the policy says.
    /// `secrets` are the pod's image pull secrets.
    pub async fn ensure_image(
        &self,
        image: &str,
        policy: PullPolicy,
        secrets: &PullSecrets,
    ) -> std::result::Result<ImageInfo, ImageError> {
        self.image(image, policy, secrets).await
    }

    /// The image store of this node, shared with the other nodes of the machine.
    pub fn images(&self) -> &Store {
        &self.inner.store
    }

    /// Makes a container from an image in the store; it does not run yet.
    pub async fn create_container(&self, uid: &str, spec: ContainerSpec) -> Result<ContainerId> {
        self.make_container(uid, spec).await
    }

    /// Starts a created container's program. When that fails the container is `Exited` with code 128
    /// and reason `StartError`, and the error is returned.
    pub async fn start_container(&self, id: &ContainerId) -> Result<()> {
        self.launch_container(id).await
    }

    /// Sends a signal to a container's first process (`SIGKILL` ends all of them). A container that
    /// does not run any more is fine.
    pub async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.signal_container(id, signal).await
    }

    /// The signal that asks a container to stop: the image's `StopSignal`, otherwise `SIGTERM`.
    pub async fn stop_signal(&self, id: &ContainerId) -> Result<i32> {
        let pod = self.owner(id)?;
        let missing = || RuntimeError::NoContainer { id: id.to_string() };
        let status = pod.container(id).ok_or_else(missing)?;
        let image = self.inner.store.find(&status.spec.image_id)?;
        Ok(image.and_then(|image| signal_number(&image.config.stop_signal)).unwrap_or(libc::SIGTERM))
    }

    /// Kills a container if it runs and removes it, except its log. Removing one that does not exist succeeds.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        self.delete_container(id).await
    }

    /// A container as it is now.
    pub async fn container(&self, id: &ContainerId) -> Result<ContainerStatus> {
        self.owner(id)?.container(id).ok_or_else(|| RuntimeError::NoContainer { id: id.to_string() })
    }

    /// Events from now on. A receiver that lags must look at [`Runtime::sandboxes`] again.
    pub fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.inner.events.subscribe()
    }

    /// Runs a program inside a running container.
    pub async fn exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<ExecSession> {
        self.open_session(id, Request::Exec { id: id.clone(), spec }).await
    }

    /// Connects to the streams of a running container's own program; output from now on.
    pub async fn attach(&self, id: &ContainerId, stdin: bool) -> Result<ExecSession> {
        self.open_session(id, Request::Attach { id: id.clone(), stdin }).await
    }

    /// The container's log in CRI format (`RFC3339Nano stream F|P text`). Rotated files are
    /// `<path>.1` (newest) and `<path>.2`.
    pub async fn log_path(&self, id: &ContainerId) -> Result<PathBuf> {
        let status = self.container(id).await?;
        Ok(self.log_file(&status.pod_uid, &status.spec.name, status.spec.attempt))
    }

    /// Where the log of a container is, was or will be; it outlives container and sandbox.
    pub fn log_file(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.logs_dir(uid).join(container).join(format!("{attempt}.log"))
    }

    /// The file on the node behind the container's termination message path.
    pub async fn termination_message_path(&self, id: &ContainerId) -> Result<PathBuf> {
        Ok(PodDir(&self.owner(id)?.dir).container(id).join("termination-log"))
    }

    /// The directory where the caller may keep a pod's volumes, see [`Runtime::remove_pod_data`].
    pub fn volumes_dir(&self, uid: &str) -> PathBuf {
        self.inner.config.state_dir.join("volumes").join(uid)
    }

    fn logs_dir(&self, uid: &str) -> PathBuf {
        self.inner.config.state_dir.join("logs").join(uid)
    }

    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.inner.config.state_dir.join("pods").join(uid)
    }

    fn find(&self, uid: &str) -> Option<Arc<Pod>> {
        lock(&self.inner.pods).get(uid).cloned()
    }

    fn downgrade(&self) -> Watcher {
        Watcher { events: self.inner.events.clone() }
    }
}
