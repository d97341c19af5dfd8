//! `daymark dump`: what is programmed on a node, read from the kernel alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use daymark_dataplane::Inspection;
use daymark_dataplane::inspect::{FlowState, protocol_name};
use daymark_plan::tables::{FrontendKind, ServiceEntry, ServiceId, Tables};
use miette::{IntoDiagnostic, Result};
use serde::Serialize;

use super::observe::{self, name_of};
use super::table;
use crate::cli::{Dump, DumpPart};
use crate::say::say;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    frontends: Option<Vec<FrontendRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backends: Option<Vec<BackendRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flows: Option<Vec<FlowRow>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FrontendRow {
    address: SocketAddr,
    protocol: String,
    kind: &'static str,
    service: String,
    id: ServiceId,
    /// `Cluster` or `Local`.
    policy: &'static str,
    /// `loadBalancerSourceRanges`; none means everybody.
    source_ranges: Vec<String>,
    backends: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BackendRow {
    service: String,
    id: ServiceId,
    address: SocketAddr,
    /// Whether it is on this node.
    local: bool,
    /// Whom it is for.
    clients: &'static str,
    affinity_seconds: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FlowRow {
    protocol: String,
    client: SocketAddr,
    frontend: SocketAddr,
    seen_as: SocketAddr,
    backend: SocketAddr,
    service: Option<String>,
    state: &'static str,
    idle_seconds: u64,
}

pub async fn run(args: &Dump) -> Result<()> {
    let mut reports = Vec::new();
    for place in observe::places(&args.observed)? {
        let inspection = place.inspect()?;
        let names = observe::names_if_known(&args.observed, &place, inspection.tables()).await;
        reports.push(report(&place.node, &inspection, &names, args.part)?);
    }
    if args.observed.output == "json" {
        say!("{}", serde_json::to_string_pretty(&reports).into_diagnostic()?);
    } else {
        reports.iter().for_each(print);
    }
    Ok(())
}

fn report(
    node: &str,
    inspection: &Inspection,
    names: &BTreeMap<ServiceId, String>,
    part: DumpPart,
) -> Result<Report> {
    let wants = |wanted| part == wanted || part == DumpPart::All;
    let tables = inspection.tables();
    let flows = wants(DumpPart::Flows).then(|| flow_rows(inspection, names)).transpose()?;
    Ok(Report {
        node: node.to_owned(),
        frontends: wants(DumpPart::Frontends).then(|| frontend_rows(tables, names)),
        backends: wants(DumpPart::Backends).then(|| backend_rows(tables, names)),
        flows,
    })
}

fn kind_name(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "ClusterIP",
        FrontendKind::NodePort => "NodePort",
        FrontendKind::LoadBalancerIp => "LoadBalancer",
        FrontendKind::ExternalIp => "ExternalIP",
        FrontendKind::HostPort => "HostPort",
    }
}

fn frontend_rows(tables: &Tables, names: &BTreeMap<ServiceId, String>) -> Vec<FrontendRow> {
    let row = |(key, frontend): (&daymark_plan::tables::FrontendKey, &daymark_plan::tables::Frontend)| {
        let entry = tables.services.get(&frontend.service);
        let ranges = tables.source_ranges.get(&frontend.service).filter(|_| frontend.source_checked);
        FrontendRow {
            address: SocketAddr::new(key.ip, key.port),
            protocol: key.protocol.to_string(),
            kind: kind_name(frontend.kind),
            service: name_of(names, frontend.service),
            id: frontend.service,
            policy: if frontend.local_only { "Local" } else { "Cluster" },
            source_ranges: ranges.into_iter().flatten().map(ToString::to_string).collect(),
            backends: entry.map_or(0, |entry| entry.slots.len()),
        }
    };
    tables.frontends.iter().map(row).collect()
}

/// For which clients the slot of that index is.
pub fn clients_of(entry: &ServiceEntry, index: usize) -> &'static str {
    match (index >= entry.cluster_from as usize, index < entry.n_local as usize) {
        (true, true) => "all",
        (true, false) => "policy Cluster",
        (false, _) => "policy Local",
    }
}

fn backend_rows(tables: &Tables, names: &BTreeMap<ServiceId, String>) -> Vec<BackendRow> {
    let mut rows = Vec::new();
    for (id, entry) in &tables.services {
        let chosen = entry.slots.iter().enumerate().map(|(index, slot)| (slot, clients_of(entry, index)));
        let draining = entry.draining.iter().map(|slot| (slot, "flows that have it"));
        rows.extend(chosen.chain(draining).map(|(slot, clients)| BackendRow {
            service: name_of(names, *id),
            id: *id,
            address: SocketAddr::new(slot.ip, slot.port),
            local: slot.local,
            clients,
            affinity_seconds: entry.affinity_seconds,
        }));
    }
    rows.sort_by(|a, b| a.service.cmp(&b.service));
    rows
}

fn flow_rows(inspection: &Inspection, names: &BTreeMap<ServiceId, String>) -> Result<Vec<FlowRow>> {
    let flows = inspection.meters.flows().into_diagnostic()?;
    let rows = flows.into_iter().map(|flow| FlowRow {
        protocol: protocol_name(flow.protocol),
        client: flow.client,
        frontend: flow.frontend,
        seen_as: flow.seen_as,
        backend: flow.backend,
        service: flow.service.map(|id| name_of(names, id)),
        state: match flow.state {
            FlowState::Opening => "opening",
            FlowState::Established => "established",
            FlowState::Closing => "closing",
        },
        idle_seconds: flow.idle.as_secs(),
    });
    Ok(rows.collect())
}

fn print(report: &Report) {
    if !report.node.is_empty() {
        say!("Node {}", report.node);
    }
    if let Some(rows) = &report.frontends {
        let mut table = table(["FRONTEND", "PROTOCOL", "KIND", "SERVICE", "POLICY", "FROM", "BACKENDS"]);
        for row in rows {
            let from = if row.source_ranges.is_empty() { "all".into() } else { row.source_ranges.join(",") };
            table.add_row([
                row.address.to_string(),
                row.protocol.clone(),
                row.kind.into(),
                row.service.clone(),
                row.policy.into(),
                from,
                row.backends.to_string(),
            ]);
        }
        say!("{}\n", table.trim_fmt());
    }
    if let Some(rows) = &report.backends {
        let mut table = table(["SERVICE", "BACKEND", "HERE", "FOR", "AFFINITY"]);
        for row in rows {
            let affinity =
                if row.affinity_seconds == 0 { "-".into() } else { format!("{} s", row.affinity_seconds) };
            let here = if row.local { "yes" } else { "no" };
            table.add_row([
                row.service.clone(),
                row.address.to_string(),
                here.into(),
                row.clients.into(),
                affinity,
            ]);
        }
        say!("{}\n", table.trim_fmt());
    }
    if let Some(rows) = &report.flows {
        let mut table =
            table(["PROTOCOL", "CLIENT", "FRONTEND", "SEEN AS", "BACKEND", "SERVICE", "STATE", "IDLE"]);
        for row in rows {
            table.add_row([
                row.protocol.clone(),
                row.client.to_string(),
                row.frontend.to_string(),
                row.seen_as.to_string(),
                row.backend.to_string(),
                row.service.clone().unwrap_or_else(|| "-".into()),
                row.state.into(),
                format!("{} s", row.idle_seconds),
            ]);
        }
        say!("{}\n", table.trim_fmt());
    }
}
