//! Writes a pod's status to the API: always the latest, at once, again until it is taken.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::watch;

use super::context::{Cluster, WriteError};
use super::spec;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(3);

/// What the API should hold.
#[derive(Clone, Debug)]
pub struct Desired {
    pub pod: Arc<Pod>,
    pub status: PodStatus,
    /// Afterwards the object is to be deleted.
    pub delete: bool,
    /// Somebody else changed it meanwhile: to be written although it is what was written last.
    pub again: bool,
}

/// Runs until the sender is dropped, or the object is gone.
pub async fn run(cluster: Arc<dyn Cluster>, mut desired: watch::Receiver<Option<Desired>>) {
    let mut written: Option<PodStatus> = None;
    let mut pause = FIRST_RETRY;
    while desired.changed().await.is_ok() {
        loop {
            let Some(wanted) = desired.borrow_and_update().clone() else { break };
            match write(cluster.as_ref(), &wanted, &mut written).await {
                Ok(()) | Err(WriteError::Gone) if wanted.delete => return,
                Ok(()) | Err(WriteError::Gone) => {
                    pause = FIRST_RETRY;
                    break;
                }
                Err(WriteError::Refused(cause)) => {
                    let pod = spec::described(&wanted.pod);
                    tracing::warn!(pod, "the API server refuses a pod's status: {cause}");
                    pause = LONGEST_RETRY;
                }
                Err(WriteError::Retry(cause)) => {
                    tracing::debug!(pod = spec::described(&wanted.pod), "writing a pod's status: {cause}");
                }
            }
            // A newer status cuts the wait short only when the API server may be there.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }
}

async fn write(
    cluster: &dyn Cluster,
    wanted: &Desired,
    written: &mut Option<PodStatus>,
) -> Result<(), WriteError> {
    let in_api = written.as_ref().or(wanted.pod.status.as_ref());
    if wanted.again || in_api != Some(&wanted.status) {
        cluster.write_status(&wanted.pod, &wanted.status).await?;
        *written = Some(wanted.status.clone());
    }
    if wanted.delete { cluster.delete_pod(&wanted.pod).await } else { Ok(()) }
}
