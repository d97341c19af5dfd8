//! The daemon: API server and controllers, joined by nothing but the Kubernetes API.

use daymark_apiserver::{Config, Server};
use miette::{Report, Result, miette};
use tokio_util::sync::CancellationToken;

use crate::cluster::pki::Holder;
use crate::cluster::process::{self, Readiness};
use crate::cluster::{Cluster, spec::ClusterSpec};
use crate::interrupt;

pub async fn run(name: &str, readiness: Readiness) -> Result<()> {
    let cluster = Cluster::open(name)?;
    let _alive = process::claim(&cluster.paths.lock("daemon"))?;
    match start(&cluster).await {
        Ok((server, controllers, stop)) => {
            readiness.ready();
            serve(server, controllers, stop).await
        }
        Err(why) => {
            readiness.failed(&crate::one_line(&why));
            Err(why)
        }
    }
}

type Controllers = tokio::task::JoinHandle<anyhow::Result<()>>;

async fn start(cluster: &Cluster) -> Result<(Server, Controllers, CancellationToken)> {
    let server = Server::start(api_config(cluster)?).await.map_err(from_anyhow)?;
    let client = cluster.client(&Holder::Controllers, false).await?;
    let stop = CancellationToken::new();
    let settings = controllers_config(&cluster.spec);
    let controllers = tokio::spawn(daymark_control::run_controllers(client, settings, stop.clone()));
    Ok((server, controllers, stop))
}

async fn serve(server: Server, controllers: Controllers, stop: CancellationToken) -> Result<()> {
    let outcome = tokio::select! {
        signal = interrupt::requested() => {
            tracing::info!(signal, "stopping");
            Ok(())
        }
        ended = controllers => Err(miette!("the controllers ended: {ended:?}")),
    };
    stop.cancel();
    server.shutdown().await;
    outcome
}

fn api_config(cluster: &Cluster) -> Result<Config> {
    let _ = cluster;
    todo_config()
}

fn controllers_config(spec: &ClusterSpec) -> daymark_control::ControllersConfig {
    let _ = spec;
    daymark_control::ControllersConfig::default()
}

pub fn from_anyhow(error: anyhow::Error) -> Report {
    miette!("{error:#}")
}
