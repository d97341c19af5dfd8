//! `daymark status`: nodes, processes, addresses, versions, health.

use daymark_model::AddressFamily;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;
use miette::{IntoDiagnostic, Result};
use serde::Serialize;

use super::table;
use crate::cli::Status;
use crate::cluster::pki::Holder;
use crate::cluster::spec::show;
use crate::cluster::{Cluster, kubeconfig, process};
use crate::lan;
use crate::say::say;

/// How long the API server may take before it counts as not answering.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

/// What there is to say of one process.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    process: String,
    /// `running` or `stopped`.
    state: &'static str,
    pid: Option<i32>,
    address: String,
    pod_cidr: Option<String>,
    resident_bytes: Option<u64>,
    /// What the API server says of it: `ok`, `Ready`, `NotReady`, or why it can't be asked.
    health: String,
    version: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    cluster: String,
    context: String,
    lan: String,
    pod_cidr: String,
    service_cidr: String,
    /// None in a cluster without IPv4.
    load_balancer_pool: Option<String>,
    egress: bool,
    egress_families: Vec<&'static str>,
    state_folder: String,
    processes: Vec<Row>,
}

pub async fn run(args: &Status) -> Result<()> {
    let report = gather(&Cluster::open(&args.cluster.name)?).await;
    if args.output == "json" {
        say!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
    } else {
        print(&report);
    }
    Ok(())
}

async fn gather(cluster: &Cluster) -> Report {
    let spec = &cluster.spec;
    let nodes = ask(cluster).await;
    let mut processes = vec![row(cluster, "daemon", spec.api_advertise().to_string(), None)];
    processes[0].health = match &nodes {
        Ok(_) => "ok".into(),
        Err(why) => why.clone(),
    };
    processes[0].version = Some(env!("CARGO_PKG_VERSION").into());
    for node in spec.all_nodes() {
        let mut row = row(cluster, &node.name, show(node.ips, " "), Some(show(node.pod_cidrs, " ")));
        let known = nodes
            .as_ref()
            .ok()
            .and_then(|all| all.iter().find(|n| n.metadata.name.as_ref() == Some(&node.name)));
        row.health = known.map_or_else(|| "unknown".into(), |n| ready(n).into());
        row.version =
            known.and_then(|n| n.status.as_ref()?.node_info.as_ref()).map(|i| i.kubelet_version.clone());
        processes.push(row);
    }
    Report {
        cluster: spec.name.clone(),
        context: kubeconfig::context_name(&spec.name),
        lan: format!("{} (this host: {})", show(spec.lan, ","), show(spec.gateways(), ", ")),
        pod_cidr: show(spec.pod_cidr, ","),
        service_cidr: show(spec.service_cidr, ","),
        load_balancer_pool: spec.pool().map(|(first, last)| format!("{first}-{last}")),
        egress: spec.egress,
        egress_families: lan::egress::families(spec).into_iter().map(family_name).collect(),
        state_folder: cluster.paths.state.display().to_string(),
        processes,
    }
}

fn row(cluster: &Cluster, name: &str, address: String, pod_cidr: Option<String>) -> Row {
    let pid = process::living(&cluster.paths.lock(name));
    Row {
        process: name.into(),
        state: if pid.is_some() { "running" } else { "stopped" },
        pid,
        address,
        pod_cidr,
        resident_bytes: pid.and_then(process::resident),
        health: String::new(),
        version: None,
    }
}

async fn ask(cluster: &Cluster) -> Result<Vec<Node>, String> {
    let client = cluster.client(&Holder::Admin, false).await.map_err(|e| crate::one_line(&e))?;
    let (api, all) = (Api::<Node>::all(client), ListParams::default());
    match tokio::time::timeout(ANSWER_WITHIN, api.list(&all)).await {
        Ok(Ok(list)) => Ok(list.items),
        Ok(Err(_)) => Err("the API server does not answer".into()),
        Err(_) => Err("the API server is too slow to answer".into()),
    }
}

fn family_name(family: AddressFamily) -> &'static str {
    match family {
        AddressFamily::Ipv4 => "IPv4",
        AddressFamily::Ipv6 => "IPv6",
    }
}

fn egress_in_words(report: &Report) -> String {
    match (report.egress, report.egress_families.as_slice()) {
        (false, _) => "off".into(),
        (true, []) => "none: this host does not forward IPv6 (sysctl net.ipv6.conf.all.forwarding)".into(),
        (true, families) => format!("on ({})", families.join(", ")),
    }
}

fn ready(node: &Node) -> &'static str {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    if ready { "Ready" } else { "NotReady" }
}

fn print(report: &Report) {
    say!("Cluster {} (kubectl context {})", report.cluster, report.context);
    say!("  LAN                 {}", report.lan);
    say!("  pods                {}", report.pod_cidr);
    say!("  Services            {}", report.service_cidr);
    let pool = report.load_balancer_pool.as_deref().unwrap_or("none: IPv6 addresses are not announced");
    say!("  LoadBalancer pool   {}", pool);
    say!("  egress              {}", egress_in_words(report));
    say!("  state               {}", report.state_folder);
    let mut table = table(["PROCESS", "STATE", "PID", "ADDRESS", "PODS", "MEMORY", "HEALTH", "VERSION"]);
    for row in &report.processes {
        table.add_row([
            row.process.clone(),
            row.state.to_owned(),
            row.pid.map_or_else(|| "-".into(), |p| p.to_string()),
            row.address.clone(),
            row.pod_cidr.clone().unwrap_or_else(|| "-".into()),
            row.resident_bytes.map_or_else(|| "-".into(), |b| format!("{} MiB", b >> 20)),
            row.health.clone(),
            row.version.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    say!("{}", table.trim_fmt());
}
