//! Runs `tests/cases/*.yaml`: Kubernetes objects in, readable tables out.
//!
//! A file's first document is the case: `case` says what it shows in one sentence, `node` may change the
//! node that is compiled for, `tables` is what must come out. The others are objects, and they must lead
//! to the same tables in whatever order they arrive, before or after the first complete list. Those behind
//! a document `then: what happens` arrive later, over what the others led to; `gone: true` deletes one.
//! `UPDATE_CASES=1 cargo test` writes what comes out into the files: read the diff before you commit it.

use std::fmt::Write as _;
use std::path::Path;

use daymark_model::{AddressFamily, Change, reduce, wire};
use daymark_plan::tables::{ServiceEntry, ServiceId, Tables};
use daymark_plan::{NodePortAddresses, NodeView, Planner, apply_ops};
use serde::Deserialize;
use serde_yaml::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    case: String,
    #[serde(default)]
    node: NodeSpec,
    #[serde(default)]
    tables: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NodeSpec {
    name: String,
    zone: Option<String>,
    addresses: Vec<String>,
    /// `all`, `primary`, or CIDRs.
    nodeport_addresses: String,
    allow_special_endpoints: bool,
    external_ip_cidrs: Option<Vec<String>>,
}

impl Default for NodeSpec {
    fn default() -> Self {
        let addresses = vec!["172.30.0.11".to_owned()];
        Self {
            name: "n1".into(),
            zone: Some("a".into()),
            addresses,
            nodeport_addresses: "all".into(),
            allow_special_endpoints: false,
            external_ip_cidrs: None,
        }
    }
}

impl NodeSpec {
    fn view(&self) -> NodeView {
        let addresses = self.addresses.iter().map(|ip| ip.parse().expect("a node address")).collect();
        let cidrs = |cidrs: &Vec<String>| cidrs.iter().map(|c| c.parse().expect("a CIDR")).collect();
        NodeView {
            zone: self.zone.as_deref().map(Into::into),
            allow_special_endpoints: self.allow_special_endpoints,
            external_ip_cidrs: self.external_ip_cidrs.as_ref().map(cidrs),
            nodeport_addresses: match self.nodeport_addresses.as_str() {
                "all" => NodePortAddresses::All,
                "primary" => NodePortAddresses::Primary,
                cidrs => {
                    NodePortAddresses::Within(cidrs.split(',').map(|c| c.parse().expect("a CIDR")).collect())
                }
            },
            ..NodeView::new(self.name.as_str(), addresses)
        }
    }
}

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    assert!(files.len() >= 85, "only {} cases", files.len());
    let mut failures = Vec::new();
    for file in &files {
        let name = file.file_name().expect("a file name").to_string_lossy().into_owned();
        failures.extend(run(file).err().map(|failure| format!("{name}: {failure}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn run(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let mut documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
    let header = documents.next().ok_or("empty")?.map_err(|error| error.to_string())?;
    let header: Header = serde_yaml::from_value(header).map_err(|error| error.to_string())?;
    let mut stages: Vec<Vec<Change>> = vec![Vec::new()];
    for object in documents {
        let object = object.map_err(|error| error.to_string())?;
        if object.get("then").is_some() {
            stages.push(Vec::new());
        } else {
            stages.last_mut().ok_or("no stage")?.push(change(object)?);
        }
    }
    let view = header.node.view();

    let as_written: Vec<Change> = stages.concat();
    let got = describe(&arrive(&view, &as_written, as_written.len()));
    for (order, changes, listed) in in_all_orders(&stages) {
        let other = describe(&arrive(&view, &changes, listed));
        if other != got {
            return Err(format!("order {order}, listed after {listed}:\n{other}\nbut as written:\n{got}"));
        }
    }
    if std::env::var_os("UPDATE_CASES").is_some() {
        return update(file, &text, &got);
    }
    if got.trim() == header.tables.trim() {
        Ok(())
    } else {
        Err(format!("{}\nexpected:\n{}\ngot:\n{got}", header.case, header.tables))
    }
}

fn change(mut object: Value) -> Result<Change, String> {
    let is_gone = object.as_mapping_mut().is_some_and(|fields| fields.remove("gone").is_some());
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let reduced = match kind.as_str() {
        "Service" => {
            wire::Service::deserialize(object).map(|object| reduce::service(&object).map(Change::Service))
        }
        "EndpointSlice" => wire::EndpointSlice::deserialize(object).map(reduce::slice),
        "Pod" => wire::Pod::deserialize(object).map(|object| reduce::host_ports(&object)),
        "Node" => wire::Node::deserialize(object).map(|object| reduce::node(&object).map(Change::Node)),
        other => return Err(format!("kind {other:?}")),
    };
    let change = reduced.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(if is_gone { gone(&change) } else { change })
}

fn gone(change: &Change) -> Change {
    match change.clone() {
        Change::Service(service) => Change::ServiceGone(service.name),
        Change::Slice(slice) => Change::SliceGone(slice.name),
        Change::Node(node) => Change::NodeGone(node.name),
        Change::HostPorts(ports) => Change::HostPortsGone(ports.name),
        other => other,
    }
}

/// Every order of the first stage's changes with every order of the next one's and so on, and after how many
/// of them the world is complete: at once, after the first stage, at the end.
fn in_all_orders(stages: &[Vec<Change>]) -> Vec<(String, Vec<Change>, usize)> {
    let mut sequences: Vec<(String, Vec<Change>, usize)> = vec![(String::new(), Vec::new(), 0)];
    for stage in stages {
        let mut longer = Vec::new();
        for (before, start, first) in &sequences {
            for (order, changes) in orders(stage) {
                let all: Vec<Change> = start.iter().chain(&changes).cloned().collect();
                let first = if start.is_empty() { all.len() } else { *first };
                longer.push((format!("{before} `{order}`"), all, first));
            }
        }
        sequences = longer;
    }
    let listed = |(order, changes, first): (String, Vec<Change>, usize)| {
        [0, first, changes.len()].map(|listed| (order.clone(), changes.clone(), listed))
    };
    sequences.into_iter().flat_map(listed).collect()
}

fn orders(changes: &[Change]) -> Vec<(&'static str, Vec<Change>)> {
    let reversed: Vec<Change> = changes.iter().rev().cloned().collect();
    let (services, others): (Vec<Change>, Vec<Change>) =
        changes.iter().cloned().partition(|change| matches!(change, Change::Service(_)));
    let twice = changes.iter().chain(changes).cloned().collect();
    let replaced = changes.iter().cloned().chain(changes.iter().flat_map(|c| [gone(c), c.clone()])).collect();
    let returned =
        reversed.iter().cloned().chain(changes.iter().map(gone)).chain(changes.iter().cloned()).collect();
    vec![
        ("as written", changes.to_vec()),
        ("reversed", reversed.clone()),
        ("Services last", others.into_iter().chain(services).collect()),
        ("everything twice", twice),
        ("each deleted and created again", replaced),
        ("all deleted and created again", returned),
    ]
}

/// Applies changes; the first complete list is known after `listed` of them.
fn arrive(view: &NodeView, changes: &[Change], listed: usize) -> Planner {
    let mut planner = Planner::new(view.clone(), Tables::default());
    let mut kernel = Tables::default();
    for (index, change) in changes.iter().enumerate() {
        if index == listed {
            apply_ops(&mut kernel, &planner.synced());
        }
        apply_ops(&mut kernel, &planner.apply(change.clone()));
    }
    apply_ops(&mut kernel, &planner.synced());
    assert_eq!(&kernel, planner.tables(), "the operations lead to the tables");
    planner
}

fn describe(planner: &Planner) -> String {
    let tables = planner.tables();
    let mut entries: Vec<(String, String)> = Vec::new();
    for (id, entry) in &tables.services {
        let key = planner.entry_key(*id).expect("every entry is somebody's");
        let family = if key.family == AddressFamily::Ipv4 { "IPv4" } else { "IPv6" };
        let title = format!("{}:{}/{} {family}\n", key.service, key.port, key.protocol);
        entries.push((title, describe_entry(tables, *id, entry)));
    }
    entries.sort();
    let mut text: String = entries.into_iter().map(|(title, body)| title + &body).collect();
    let ips: Vec<String> = tables.cluster_ips.iter().map(ToString::to_string).collect();
    writeln!(text, "cluster IPs: {}", if ips.is_empty() { "none".to_owned() } else { ips.join(" ") })
        .expect("String");
    for issue in planner.issues() {
        writeln!(text, "{}: {issue}", issue.reason()).expect("String");
    }
    text
}

fn describe_entry(tables: &Tables, id: ServiceId, entry: &ServiceEntry) -> String {
    let mut text = String::new();
    for (key, frontend) in tables.frontends.iter().filter(|(_, frontend)| frontend.service == id) {
        let address = std::net::SocketAddr::new(key.ip, key.port);
        let policy = if frontend.local_only { ", policy Local" } else { "" };
        let checked = if frontend.source_checked { ", source checked" } else { "" };
        writeln!(text, "  {:?} {address}{policy}{checked}", frontend.kind).expect("String");
    }
    for (index, slot) in entry.slots.iter().enumerate() {
        let index = index as u32;
        let cluster = index >= entry.cluster_from;
        let local = index < entry.n_local;
        assert_eq!(slot.local && local, local, "policy Local has only backends of this node");
        let clients = match (cluster, local) {
            (true, true) => "every client",
            (true, false) => "policy Cluster",
            (false, true) => "policy Local",
            (false, false) => panic!("slot {index} is nobody's"),
        };
        let place = if slot.local { " (here)" } else { "" };
        writeln!(text, "  -> {}{place} for {clients}", std::net::SocketAddr::new(slot.ip, slot.port))
            .expect("String");
    }
    for slot in &entry.draining {
        let address = std::net::SocketAddr::new(slot.ip, slot.port);
        writeln!(text, "  -> {address} for flows that have it").expect("String");
    }
    if entry.slots.is_empty() {
        text.push_str("  no backend: refuse\n");
    } else if entry.n_local == 0 && tables.frontends.values().any(|f| f.service == id && f.local_only) {
        assert!(entry.elsewhere);
        text.push_str("  no backend here: policy Local drops\n");
    }
    if entry.maglev {
        text.push_str("  chosen by Maglev\n");
    }
    if entry.affinity_seconds > 0 {
        writeln!(text, "  affinity {} s", entry.affinity_seconds).expect("String");
    }
    if let Some(ranges) = tables.source_ranges.get(&id) {
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        let ranges = if ranges.is_empty() { "nobody".to_owned() } else { ranges.join(" ") };
        writeln!(text, "  only from {ranges}").expect("String");
    }
    text
}

/// Replaces the `tables` of a case file, which end its first document.
fn update(file: &Path, text: &str, tables: &str) -> Result<(), String> {
    let end = text.find("\n---\n").unwrap_or(text.len());
    let (header, rest) = text.split_at(end);
    let header = header.split("\ntables: |").next().unwrap_or_default().trim_end();
    let indented: String = tables.lines().map(|line| format!("\n  {line}")).collect();
    std::fs::write(file, format!("{header}\ntables: |{indented}{rest}")).map_err(|error| error.to_string())
}
