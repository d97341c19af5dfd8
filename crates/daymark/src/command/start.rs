//! Starting a cluster's processes, and waiting until it can be used.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::runtime::conditions::Condition;
use kube::runtime::wait::await_condition;
use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::progress::Progress;
use crate::cli::Part;
use crate::cluster::pki::Holder;
use crate::cluster::spec::Controllers;
use crate::cluster::{Cluster, kubeconfig, preflight, process};
use crate::say::say;
use crate::{interrupt, lan};

/// How long a node may take to become ready before `up` gives up.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How often the processes are looked after while waiting for them.
const LIFE_SIGN: Duration = Duration::from_millis(250);

pub async fn run(args: &Part) -> Result<()> {
    preflight::check()?;
    let cluster = Cluster::open(&args.cluster.name)?;
    let _lock = process::exclusive(&cluster.paths.cluster_lock(), &cluster.spec.name)?;
    let progress = Progress::begin();
    tokio::select! {
        done = async {
            match &args.node {
                Some(node) => one_node(&cluster, node, &progress).await,
                None => whole(&cluster, &progress).await,
            }
        } => done?,
        signal = interrupt::requested() => return Err(miette!("interrupted by {signal}")),
    }
    say!("Cluster \"{}\" runs ({:.2} s).", cluster.spec.name, progress.done());
    Ok(())
}

/// Starts whatever does not run, and waits until the cluster is ready.
pub async fn whole(cluster: &Cluster, progress: &Progress) -> Result<()> {
    cluster.pki().ensure(&cluster.spec)?;
    progress.step("building the LAN");
    lan::build::build(&cluster.spec, &cluster.paths).await?;
    progress.step("starting the API server and the nodes");
    let began = Timestamp::now();
    let mut started: BTreeSet<String> =
        cluster.processes().into_iter().filter(|name| !lives(cluster, name)).collect();
    let starting: Vec<_> = started.iter().map(|name| spawn(cluster, name)).collect::<Result<_>>()?;
    for result in futures::future::join_all(starting.into_iter().map(process::Starting::ready)).await {
        result?;
    }
    progress.step("waiting for the nodes");
    while let Some(dead) = ready_or_dead(cluster, &started, began).await? {
        // One that was on its way out when we looked is started like those that had gone already.
        if !started.insert(dead.clone()) {
            let words = process::last_words(&cluster.paths.log(&dead));
            return Err(miette!(
                help = format!("its last words: {words}"),
                "{dead} ended while the cluster was starting"
            ));
        }
        spawn(cluster, &dead)?.ready().await?;
    }
    let context = kubeconfig::context_name(&cluster.spec.name);
    if cluster.spec.controllers == Controllers::None {
        for holder in [Holder::ControllerManager, Holder::Scheduler] {
            let file = cluster.paths.kubeconfig(&holder.file());
            kubeconfig::merge(&file, &context, &cluster.access(&holder, false)?)?;
        }
    }
    kubeconfig::merge(&kubeconfig::user_file()?, &context, &cluster.access(&Holder::Admin, false)?)
}

/// Waits until the cluster is ready, or a process is no more, which is returned. Of a node that was started
/// what it said before does not count.
async fn ready_or_dead(
    cluster: &Cluster,
    started: &BTreeSet<String>,
    began: Timestamp,
) -> Result<Option<String>> {
    let since = |name: &String| if started.contains(name) { began } else { Timestamp::MIN };
    let all = cluster.spec.all_nodes().into_iter().map(|n| (since(&n.name), n.name));
    let ready = async {
        nodes_ready(cluster, all).await?;
        let account = async {
            if cluster.spec.controllers == Controllers::None { Ok(()) } else { account_ready(cluster).await }
        };
        futures::future::try_join(dns_ready(cluster), account).await.map(drop)
    };
    let why = tokio::select! {
        ready = ready => match ready {
            Ok(()) => return Ok(None),
            Err(why) => why,
        },
        dead = somebody_died(cluster) => return Ok(Some(dead)),
    };
    // The API server may have broken off because it is just ending.
    match tokio::time::timeout(2 * LIFE_SIGN, somebody_died(cluster)).await {
        Ok(dead) => Ok(Some(dead)),
        Err(_) => Err(why),
    }
}

fn lives(cluster: &Cluster, process: &str) -> bool {
    process::living(&cluster.paths.lock(process)).is_some()
}

fn spawn(cluster: &Cluster, process: &str) -> Result<process::Starting> {
    if process != "daemon" {
        return spawn_node(cluster, process);
    }
    preflight::port_free(cluster.spec.api_port)?;
    process::spawn("the daemon", &["daemon", "--name", &cluster.spec.name], &cluster.paths.log("daemon"))
}

/// Waits until a process of the cluster is no more.
async fn somebody_died(cluster: &Cluster) -> String {
    loop {
        tokio::time::sleep(LIFE_SIGN).await;
        if let Some(dead) = cluster.processes().into_iter().find(|process| !lives(cluster, process)) {
            return dead;
        }
    }
}

async fn one_node(cluster: &Cluster, node: &str, progress: &Progress) -> Result<()> {
    let node = cluster.spec.node_named(node)?;
    if process::living(&cluster.paths.lock(&node.name)).is_some() {
        let flag = cluster.flag();
        return Err(miette!(
            help = format!("`daymark status{flag}` shows what runs"),
            "{} is already running",
            node.name
        ));
    }
    progress.step(format!("starting {}", node.name));
    let began = Timestamp::now();
    spawn_node(cluster, &node.name)?.ready().await?;
    nodes_ready(cluster, [(began, node.name)]).await
}

fn spawn_node(cluster: &Cluster, node: &str) -> Result<process::Starting> {
    process::spawn(node, &["node", "--name", &cluster.spec.name, "--node", node], &cluster.paths.log(node))
}

/// A node's DNS server joins the DNS Service when it can answer; pods can be served from then on.
async fn dns_ready(cluster: &Cluster) -> Result<()> {
    let api: Api<EndpointSlice> =
        Api::namespaced(cluster.client(&Holder::Admin, false).await?, "kube-system");
    let waits = cluster.spec.all_nodes().into_iter().map(|node| {
        let api = api.clone();
        async move {
            let name = format!("kube-dns-{}", node.name);
            let there = await_condition(api, &name, |slice: Option<&EndpointSlice>| slice.is_some());
            let done = tokio::time::timeout(READY_WITHIN, there).await;
            done.map_err(|_| {
                miette!(
                    help = format!("its last words: {}", process::last_words(&cluster.paths.log(&node.name))),
                    "{} does not serve DNS within {} s",
                    node.name,
                    READY_WITHIN.as_secs()
                )
            })?
            .map(drop)
            .into_diagnostic()
        }
    });
    futures::future::try_join_all(waits).await.map(drop)
}

/// Pods can be made once their namespace has its account.
async fn account_ready(cluster: &Cluster) -> Result<()> {
    let api: Api<ServiceAccount> = Api::namespaced(cluster.client(&Holder::Admin, false).await?, "default");
    let there = await_condition(api, "default", |account: Option<&ServiceAccount>| account.is_some());
    match tokio::time::timeout(READY_WITHIN, there).await {
        Ok(done) => done.map(drop).into_diagnostic(),
        Err(_) => Err(miette!(
            help = format!("its last words: {}", process::last_words(&cluster.paths.log("daemon"))),
            "the controllers do not make the ServiceAccount \"default\" within {} s",
            READY_WITHIN.as_secs()
        )),
    }
}

/// Waits until each node has said that it is ready, not before the time beside it.
async fn nodes_ready(cluster: &Cluster, nodes: impl IntoIterator<Item = (Timestamp, String)>) -> Result<()> {
    let api: Api<Node> = Api::all(cluster.client(&Holder::Admin, false).await?);
    let waits = nodes.into_iter().map(|(since, name)| {
        let api = api.clone();
        async move {
            let ready = await_condition(api, &name, is_ready(since));
            match tokio::time::timeout(READY_WITHIN, ready).await {
                Ok(done) => done.map(drop).into_diagnostic().wrap_err_with(|| format!("waiting for {name}")),
                Err(_) => Err(miette!(
                    help = format!("its last words: {}", process::last_words(&cluster.paths.log(&name))),
                    "{name} did not become ready within {} s",
                    READY_WITHIN.as_secs()
                )),
            }
        }
    });
    futures::future::try_join_all(waits).await.map(drop)
}

/// The API knows time in whole seconds.
fn is_ready(since: Timestamp) -> impl Condition<Node> {
    move |node: Option<&Node>| {
        let conditions = node.and_then(|n| n.status.as_ref()).and_then(|s| s.conditions.as_ref());
        let ready = conditions.into_iter().flatten().find(|c| c.type_ == "Ready" && c.status == "True");
        ready.is_some_and(|c| {
            c.last_heartbeat_time.as_ref().is_none_or(|at| at.0.as_second() >= since.as_second())
        })
    }
}
