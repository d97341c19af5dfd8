//! The pod runtime of a node: sandboxes, containers, exec, attach and logs, owned by one shim process per pod.

mod error;
pub(crate) mod files;
mod session;
mod types;

use std::path::PathBuf;

use tokio::sync::broadcast;

pub use error::RuntimeError;
pub use session::{ExecSession, SessionControl, StreamReader, StreamWriter};
pub use types::*;

use crate::image::ImageError;

/// Result of a runtime operation.
pub type Result<T> = std::result::Result<T, RuntimeError>;

/// The runtime of one node. Cheap to clone; all clones are one runtime.
#[derive(Clone)]
pub struct Runtime {
    config: std::sync::Arc<RuntimeConfig>,
    events: broadcast::Sender<RuntimeEvent>,
}

impl Runtime {
    /// Opens the runtime and adopts the sandboxes found on disk: those whose shim lives are ready,
    /// the remains of the others are killed and shown as not ready.
    pub async fn open(config: RuntimeConfig) -> Result<Self> {
        Ok(Self { config: std::sync::Arc::new(config), events: broadcast::channel(1024).0 })
    }

    /// All sandboxes of the node with their containers, ordered by pod UID.
    pub async fn sandboxes(&self) -> Vec<SandboxStatus> {
        Vec::new()
    }

    /// One sandbox.
    pub async fn sandbox(&self, uid: &str) -> Result<SandboxStatus> {
        Err(RuntimeError::NoSandbox { uid: uid.into() })
    }

    /// Makes the namespaces, link, address and shim of a pod. Nothing is left behind on failure.
    /// Asking again for a living sandbox returns it.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus> {
        Err(RuntimeError::NoSandbox { uid: spec.uid })
    }

    /// Kills what still runs in a pod and removes everything of it but its logs directory when
    /// `keep_logs`. Removing a sandbox that does not exist succeeds.
    pub async fn remove_sandbox(&self, _uid: &str) -> Result<()> {
        Ok(())
    }

    /// Makes sure that an image is in the store, pulling it as the policy says.
    /// `secrets` are the pod's image pull secrets.
    pub async fn ensure_image(
        &self,
        image: &str,
        _policy: PullPolicy,
        _secrets: &PullSecrets,
    ) -> std::result::Result<ImageInfo, ImageError> {
        Err(ImageError::NeverPull { image: image.into() })
    }

    /// Makes a container from an image in the store; it does not run yet.
    pub async fn create_container(&self, uid: &str, _spec: ContainerSpec) -> Result<ContainerId> {
        Err(RuntimeError::NoSandbox { uid: uid.into() })
    }

    /// Starts a created container's program. When that fails the container is `Exited` with code 128
    /// and reason `StartError`, and the error is returned.
    pub async fn start_container(&self, id: &ContainerId) -> Result<()> {
        Err(RuntimeError::NoContainer { id: id.to_string() })
    }

    /// Sends a signal to a container's first process (`SIGKILL` reaches all of them). A container that
    /// does not run any more is fine.
    pub async fn kill_container(&self, id: &ContainerId, _signal: i32) -> Result<()> {
        Err(RuntimeError::NoContainer { id: id.to_string() })
    }

    /// The signal that asks a container to stop: the image's `StopSignal`, otherwise `SIGTERM`.
    pub async fn stop_signal(&self, id: &ContainerId) -> Result<i32> {
        Err(RuntimeError::NoContainer { id: id.to_string() })
    }

    /// Kills a container if it runs and removes it, except its log. Removing one that does not exist succeeds.
    pub async fn remove_container(&self, _id: &ContainerId) -> Result<()> {
        Ok(())
    }

    /// A container as it is now.
    pub async fn container(&self, id: &ContainerId) -> Result<ContainerStatus> {
        Err(RuntimeError::NoContainer { id: id.to_string() })
    }

    /// Events from now on. A receiver that lags must look at [`Runtime::sandboxes`] again.
    pub fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }

    /// Runs a program inside a running container.
    pub async fn exec(&self, id: &ContainerId, _spec: ExecSpec) -> Result<ExecSession> {
        Err(RuntimeError::NoContainer { id: id.to_string() })
    }

    /// Connects to the streams of a running container's own program; output from now on.
    pub async fn attach(&self, id: &ContainerId, _stdin: bool) -> Result<ExecSession> {
        Err(RuntimeError::NoContainer { id: id.to_string() })
    }

    /// The container's log in CRI format (`RFC3339Nano stream F|P text`). Rotated files are
    /// `<path>.1` (newest) and `<path>.2`.
    pub async fn log_path(&self, id: &ContainerId) -> Result<PathBuf> {
        Err(RuntimeError::NoContainer { id: id.to_string() })
    }

    /// The file on the node behind the container's termination message path.
    pub async fn termination_message_path(&self, id: &ContainerId) -> Result<PathBuf> {
        Err(RuntimeError::NoContainer { id: id.to_string() })
    }

    /// The directory where the caller may keep a pod's volumes; removed with the sandbox.
    pub fn volumes_dir(&self, uid: &str) -> PathBuf {
        self.config.state_dir.join("pods").join(uid).join("volumes")
    }
}
