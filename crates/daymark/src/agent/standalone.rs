//! `daymark agent`: the agent alone, on a node of any Kubernetes cluster.

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use rtnetlink::packet_route::address::AddressAttribute;
use tokio_util::sync::CancellationToken;

use super::Config;
use crate::cli;
use crate::cluster::preflight;
use crate::{interrupt, lan};

/// What glibc is told before a program runs.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Large pages for what an agent knows of a cluster: a sixth of its start among 50,000 Services was finding pages. The
/// program has to start over for them, as the same process. Where it cannot, and where there are none, it goes without.
pub fn start_over_with_large_pages() {
    let Ok(program) = std::env::current_exe() else { return };
    if std::env::var_os(TUNABLES).is_none() {
        let mut again = Command::new(program);
        let why = again.args(std::env::args_os().skip(1)).env(TUNABLES, "glibc.malloc.hugetlb=1").exec();
        tracing::debug!(%why, "no large pages");
    }
}

pub async fn run(args: &cli::Agent) -> Result<()> {
    preflight::check()?;
    let client = client_of(args.kubeconfig.as_deref()).await?;
    let node =
        Api::<Node>::all(client.clone()).get(&args.node).await.into_diagnostic().wrap_err_with(|| {
            format!("cannot read Node \"{}\"; --node must be this machine's name in the cluster", args.node)
        })?;
    let config = config(args, &node).await?;
    let stop = CancellationToken::new();
    tokio::select! {
        done = super::run(config, client, stop.clone()) => done,
        signal = interrupt::requested() => {
            tracing::info!(signal, "leaving the data plane as it is");
            Ok(())
        }
    }
}

/// A client by kubeconfig, else by the ServiceAccount of the pod that we are in.
pub async fn client_of(kubeconfig: Option<&Path>) -> Result<kube::Client> {
    let config = match kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file)
                .into_diagnostic()
                .wrap_err_with(|| format!("--kubeconfig {}", file.display()))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .into_diagnostic()?
        }
        None => kube::Config::incluster()
            .into_diagnostic()
            .wrap_err("not in a pod: name the API server with --kubeconfig")?,
    };
    kube::Client::try_from(config).into_diagnostic()
}

async fn config(args: &cli::Agent, node: &Node) -> Result<Config> {
    let addresses = internal_ips(node);
    if addresses.is_empty() {
        return Err(miette!(
            help = "the kubelet writes it; wait until the node has registered",
            "Node \"{}\" has no InternalIP in status.addresses",
            args.node
        ));
    }
    let uplink = match &args.uplink {
        Some(name) => name.clone(),
        None => interface_with(&addresses).await?,
    };
    let mut pod_cidrs = args.cluster_cidr.clone();
    if pod_cidrs.is_empty() {
        let own = node.spec.as_ref().and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
        pod_cidrs = own.iter().filter_map(|c| c.parse().ok()).collect();
    }
    Ok(Config {
        node: args.node.clone(),
        addresses,
        nodeport_addresses: args.nodeport_addresses.clone().unwrap_or_default(),
        uplink,
        pod_cidrs,
        service_cidrs: args.service_cidr.clone(),
        pod_interface_prefixes: args.pod_interface_prefix.clone(),
        bpf: args.bpf.clone(),
        sizes: daymark_dataplane::Sizes::SPACIOUS,
        cgroup: match &args.cgroup {
            Some(path) => path.clone(),
            None => preflight::cgroup2_mount()?,
        },
        health: super::health::Addresses {
            healthz: args.healthz_bind_address,
            metrics: args.metrics_bind_address,
        },
        host_ports: false,
        dns: args.dns.as_ref().map(|domain| super::Dns {
            domain: domain.clone(),
            upstreams: super::upstreams(),
            outside: tokio::runtime::Handle::current(),
        }),
    })
}

fn internal_ips(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.as_ref().and_then(|s| s.addresses.as_ref());
    addresses
        .into_iter()
        .flatten()
        .filter(|a| a.type_ == "InternalIP")
        .filter_map(|a| a.address.parse().ok())
        .collect()
}

async fn interface_with(addresses: &[IpAddr]) -> Result<String> {
    let handle = lan::build::netlink()?;
    let mut all = handle.address().get().execute();
    while let Some(message) = all.try_next().await.into_diagnostic()? {
        let matches = message.attributes.iter().any(|a| match a {
            AddressAttribute::Local(ip) | AddressAttribute::Address(ip) => addresses.contains(ip),
            _ => false,
        });
        if matches && let Some(name) = lan::build::name(&handle, message.header.index).await? {
            return Ok(name);
        }
    }
    Err(miette!(help = "name it with --uplink", "no interface has one of the node's addresses {addresses:?}"))
}
