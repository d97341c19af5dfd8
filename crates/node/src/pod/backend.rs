//! What workers ask of the runtime; a seam, so that they can be tested without containers.

use std::path::PathBuf;

use async_trait::async_trait;
use tokio::io::AsyncReadExt;

use crate::image::ImageError;
use crate::runtime::{
    ContainerId, ContainerSpec, ContainerStatus, ExecSpec, ImageInfo, PullPolicy, PullSecrets, Result,
    Runtime, SandboxSpec, SandboxStatus, StreamReader,
};

/// How much of a hook's or probe's output is kept, bytes.
const MOST_OUTPUT: u64 = 10 * 1024;

/// The runtime as workers see it.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus>;
    async fn remove_sandbox(&self, uid: &str) -> Result<()>;
    async fn ensure_image(
        &self,
        image: &str,
        policy: PullPolicy,
        secrets: &PullSecrets,
    ) -> std::result::Result<ImageInfo, ImageError>;
    async fn create_container(&self, uid: &str, spec: ContainerSpec) -> Result<ContainerId>;
    async fn start_container(&self, id: &ContainerId) -> Result<()>;
    async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<()>;
    async fn stop_signal(&self, id: &ContainerId) -> Result<i32>;
    async fn remove_container(&self, id: &ContainerId) -> Result<()>;
    async fn container(&self, id: &ContainerId) -> Result<ContainerStatus>;
    /// Runs a program to its end: exit code and output.
    async fn run(&self, id: &ContainerId, argv: &[String]) -> Result<(i32, String)>;
    async fn log_path(&self, id: &ContainerId) -> Result<PathBuf>;
    async fn termination_message_path(&self, id: &ContainerId) -> Result<PathBuf>;
    fn volumes_dir(&self, uid: &str) -> PathBuf;
}

#[async_trait]
impl Backend for Runtime {
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus> {
        Runtime::create_sandbox(self, spec).await
    }

    async fn remove_sandbox(&self, uid: &str) -> Result<()> {
        Runtime::remove_sandbox(self, uid).await
    }

    async fn ensure_image(
        &self,
        image: &str,
        policy: PullPolicy,
        secrets: &PullSecrets,
    ) -> std::result::Result<ImageInfo, ImageError> {
        Runtime::ensure_image(self, image, policy, secrets).await
    }

    async fn create_container(&self, uid: &str, spec: ContainerSpec) -> Result<ContainerId> {
        Runtime::create_container(self, uid, spec).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        Runtime::start_container(self, id).await
    }

    async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<()> {
        Runtime::kill_container(self, id, signal).await
    }

    async fn stop_signal(&self, id: &ContainerId) -> Result<i32> {
        Runtime::stop_signal(self, id).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        Runtime::remove_container(self, id).await
    }

    async fn container(&self, id: &ContainerId) -> Result<ContainerStatus> {
        Runtime::container(self, id).await
    }

    async fn run(&self, id: &ContainerId, argv: &[String]) -> Result<(i32, String)> {
        let spec = ExecSpec { argv: argv.to_vec(), tty: false, stdin: false };
        let mut session = Runtime::exec(self, id, spec).await?;
        let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
        let (out, err, code) = tokio::join!(read_some(stdout), read_some(stderr), session.control.wait());
        Ok((code?, out + &err))
    }

    async fn log_path(&self, id: &ContainerId) -> Result<PathBuf> {
        Runtime::log_path(self, id).await
    }

    async fn termination_message_path(&self, id: &ContainerId) -> Result<PathBuf> {
        Runtime::termination_message_path(self, id).await
    }

    fn volumes_dir(&self, uid: &str) -> PathBuf {
        Runtime::volumes_dir(self, uid)
    }
}

/// The beginning of a stream; the rest is read and dropped so that the program is not held up.
async fn read_some(stream: Option<StreamReader>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    let _ = (&mut stream).take(MOST_OUTPUT).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}
