//! Cluster DNS: answers names of the cluster from the zone, forwards all others to the host's resolvers.
//!
//! [`answer::answer`] decides, purely; [`Server`] has the sockets.

use std::sync::Arc;

use daymark_plan::Zone;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub mod answer;
pub mod cache;
pub mod query;
pub mod reply;
mod server;
mod upstream;
mod wire;

pub use server::{Config, ListenError, Server};

/// Serves DNS until cancelled; the cluster domain is the zone's.
pub async fn run(
    config: Config,
    zone: watch::Receiver<Arc<Zone>>,
    cancel: CancellationToken,
) -> Result<(), ListenError> {
    Server::bind(config)?.run(zone, cancel).await;
    Ok(())
}
