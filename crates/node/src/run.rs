//! Runs a node: wires the runtime, the pods, the kubelet API and the registration together.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::NodeConfig;
use crate::env::dns::Resolver;
use crate::pod::cluster::KubeCluster;
use crate::pod::context::{Clock, Context, Directory, Settings};
use crate::pod::manager::Manager;
use crate::pod::{events, sources};
use crate::register::{self, Facts, Identity};
use crate::runtime::Runtime;
use crate::server;

/// Events that may wait to be written; more are dropped.
const MOST_WAITING_EVENTS: usize = 512;

/// Runs the node's pods until `stop`; their containers run on afterwards and are adopted by the next
/// call. Must be called on a tokio runtime whose threads are in the node's network namespace.
///
/// # Errors
/// When the runtime cannot be opened or the kubelet API cannot listen; later trouble is retried.
pub async fn run(cfg: NodeConfig, client: kube::Client, stop: CancellationToken) -> anyhow::Result<()> {
    let runtime = Runtime::open(cfg.runtime.clone()).await?;
    run_with(cfg, client, runtime, stop).await
}

/// Like [`run`], with a runtime that is open already.
///
/// # Errors
/// When the kubelet API cannot listen.
pub async fn run_with(
    cfg: NodeConfig,
    client: kube::Client,
    runtime: Runtime,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (sender, inbox) = mpsc::channel(MOST_WAITING_EVENTS);
    let node = cfg.runtime.node_name.clone();
    let telling = tokio::spawn(events::run(client.clone(), node, inbox));
    let cluster = Arc::new(KubeCluster::new(client.clone(), sender));
    let ctx = Arc::new(Context {
        backend: Arc::new(runtime.clone()),
        cluster: cluster.clone(),
        settings: settings(&cfg),
        directory: Directory::default(),
        clock: Clock::start(),
    });
    let listener = server::listen(&cfg).await?;
    let serving = tokio::spawn(server::serve(listener, ctx.directory.clone(), runtime.clone(), stop.clone()));
    let registering = tokio::spawn(register::run(
        client.clone(),
        identity(&cfg),
        cfg.runtime.state_dir.clone(),
        cfg.status_interval,
        stop.clone(),
    ));
    let manager = Manager::new(ctx, cluster, runtime, sources::through_api(client.clone()));
    manager.run(client, stop).await;
    for task in [serving, registering, telling] {
        task.abort();
    }
    Ok(())
}

fn settings(cfg: &NodeConfig) -> Settings {
    let facts = Facts::read(&cfg.runtime.state_dir);
    let host = std::fs::read_to_string(&cfg.host_resolv_conf).unwrap_or_default();
    Settings {
        node: cfg.runtime.node_name.clone(),
        node_ips: cfg.runtime.node_ips,
        dns_ip: cfg.dns_ip,
        domain: cfg.domain.clone(),
        host_resolver: Resolver::parse(&host),
        cpu: facts.cpus * 1000,
        memory: facts.memory,
        max_pods: cfg.max_pods,
    }
}

fn identity(cfg: &NodeConfig) -> Identity {
    Identity {
        name: cfg.runtime.node_name.clone(),
        ips: cfg.runtime.node_ips.iter().map(|ip| ip.to_string()).collect(),
        pod_cidrs: cfg.runtime.pod_cidrs.iter().map(|cidr| cidr.to_string()).collect(),
        labels: cfg.labels.clone(),
        kubelet_port: cfg.kubelet_port,
        max_pods: cfg.max_pods,
        lease_interval: cfg.lease_interval,
    }
}
