//! What `dump`, `verify` and `top` have in common: whose data plane to look at, and what the API says of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use daymark_control::ChangeEvent;
use daymark_dataplane::{Config, Inspection};
use daymark_model::AddressFamily;
use daymark_plan::tables::{Op, ServiceId, Tables};
use daymark_plan::{NodeView, Planner};
use futures::StreamExt;
use miette::{IntoDiagnostic, Result, WrapErr, miette};

use crate::agent::standalone;
use crate::cli::Observed;
use crate::cluster::Cluster;
use crate::cluster::pki::Holder;

/// How long the API server may take to tell everything.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// That names are missing is said once, however many nodes are looked at how often.
static TOLD: Once = Once::new();

/// One node's data plane.
pub struct Place {
    pub node: String,
    pub bpf: PathBuf,
}

/// Which data planes were asked for: one folder of pins, or those of a cluster's nodes.
pub fn places(args: &Observed) -> Result<Vec<Place>> {
    if let Some(bpf) = &args.bpf {
        let node = args.node.clone().unwrap_or_default();
        return Ok(vec![Place { node, bpf: bpf.clone() }]);
    }
    let cluster = Cluster::open(&args.cluster.name)?;
    let nodes = match &args.node {
        Some(name) => vec![cluster.spec.node_named(name)?],
        None => cluster.spec.all_nodes(),
    };
    Ok(nodes
        .into_iter()
        .map(|node| Place { bpf: cluster.paths.bpf().join(&node.name), node: node.name })
        .collect())
}

impl Place {
    pub fn inspect(&self) -> Result<Inspection> {
        Inspection::open(&self.bpf).map_err(|why| {
            miette!(
                help = "start the node (daymark start), or name the agent's folder with --bpf",
                "{}: {why}",
                if self.node.is_empty() { "this machine" } else { &self.node }
            )
        })
    }
}

/// A client for whatever API server the places belong to.
async fn client(args: &Observed) -> Result<kube::Client> {
    if args.bpf.is_some() || args.kubeconfig.is_some() {
        return standalone::client_of(args.kubeconfig.as_deref()).await;
    }
    Cluster::open(&args.cluster.name)?.client(&Holder::Admin, false).await
}

/// What the API says should be programmed on a node, as the operations that lead there from `tables`.
pub async fn plan(args: &Observed, node: &str, tables: &Tables) -> Result<(Planner, Vec<Op>)> {
    let client = client(args).await?;
    let embedded = is_embedded(args);
    let nodeport_addresses = if embedded {
        Cluster::open(&args.cluster.name)?.spec.nodeport_addresses
    } else {
        args.nodeport_addresses.clone().unwrap_or_default()
    };
    let view = NodeView { nodeport_addresses, ..NodeView::new(node, Vec::new()) };
    let mut planner = Planner::new(view, tables.clone());
    let mut changes = std::pin::pin!(daymark_control::changes(client, embedded.then_some(node)));
    let learn = async {
        while let Some(change) = changes.next().await {
            match change {
                Ok(ChangeEvent::Change(change)) => drop(planner.apply(change)),
                Ok(ChangeEvent::Triggered(_)) => {}
                Ok(ChangeEvent::Synced) => return Ok(()),
                Err(why) => return Err(miette!("the API server does not say what should be there: {why:#}")),
            }
        }
        Err(miette!("the API server ended the conversation"))
    };
    tokio::time::timeout(TOLD_WITHIN, learn)
        .await
        .into_diagnostic()
        .wrap_err("the API server is too slow to answer")??;
    let known = planner.world().node(node).ok_or_else(|| {
        miette!(help = "name this machine's Node with --node", "there is no Node \"{node}\"")
    })?;
    let view = NodeView { addresses: known.internal_ips.clone(), ..planner.view().clone() };
    planner.set_view(view);
    let ops = planner.synced();
    Ok((planner, ops))
}

/// Whether the nodes of a cluster of ours are looked at, or an agent's.
fn is_embedded(args: &Observed) -> bool {
    args.bpf.is_none() && args.kubeconfig.is_none()
}

/// What the data plane should know beside its tables, by whoever configured the agent and by the API.
pub fn config(args: &Observed, place: &Place, planner: &Planner) -> Result<Config> {
    let world = planner.world();
    let mut config = Config {
        node_ips: planner.view().addresses.clone(),
        cluster_sources: crate::agent::members(world),
        pod_cidrs: args.cluster_cidr.clone(),
        service_cidrs: args.service_cidr.clone(),
        ..Config::new(&place.bpf)
    };
    if is_embedded(args) {
        let spec = Cluster::open(&args.cluster.name)?.spec;
        config.pod_cidrs = spec.pod_cidr.iter().collect();
        config.service_cidrs = spec.service_cidr.iter().collect();
    } else if config.pod_cidrs.is_empty() {
        config.pod_cidrs = world.node(&place.node).map(|node| node.pod_cidrs.clone()).unwrap_or_default();
    }
    Ok(config)
}

/// The names of what ids stand for: `namespace/name:port/protocol`, with the family where a Service has both.
pub fn names(planner: &Planner) -> BTreeMap<ServiceId, String> {
    let ids = planner.tables().services.keys();
    ids.filter_map(|id| {
        let key = planner.entry_key(*id)?;
        let family = if key.family == AddressFamily::Ipv6 { " IPv6" } else { "" };
        Some((*id, format!("{}:{}/{}{family}", key.service, key.port, key.protocol)))
    })
    .collect()
}

/// Names if the API server tells them, with a word on standard error if it does not.
pub async fn names_if_known(args: &Observed, place: &Place, tables: &Tables) -> BTreeMap<ServiceId, String> {
    match plan(args, &place.node, tables).await {
        Ok((planner, _)) => names(&planner),
        Err(why) => {
            TOLD.call_once(|| {
                eprintln!("note: Services are shown by number: {}", crate::one_line(&why));
            });
            BTreeMap::new()
        }
    }
}

/// The name of an id, or the id.
pub fn name_of(names: &BTreeMap<ServiceId, String>, id: ServiceId) -> String {
    names.get(&id).cloned().unwrap_or_else(|| format!("#{id}"))
}
