//! The agent of one node: changes come in, operations, zones and announcements go out. It knows the
//! cluster through the Kubernetes API alone.

mod dns;
mod events;
pub mod health;
pub mod links;
mod pins;
mod program;
pub mod standalone;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use daymark_control::ChangeEvent;
use daymark_dataplane::{DataPlane, Sizes};
use daymark_model::{Change, Touched};
use daymark_plan::tables::{FrontendKind, Op, ServiceId};
use daymark_plan::{Announcer, NodePortAddresses, NodeView, Planner, Zone, ZoneBuilder};
use futures::StreamExt;
use ipnet::IpNet;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::lan;
use crate::node::give_back_memory;
pub use dns::{Dns, upstreams};
use events::Events;
use health::{Health, Scrape, metrics};
use links::LinkEvent;
use pins::Attachments;
pub use pins::members;

/// How often expired flows are swept out.
const SWEEP: Duration = Duration::from_secs(5);
/// How many events are taken over before their operations are carried out together.
const BATCH: usize = 64;
/// Changes that were told together, at most.
const CHANGES: usize = 256;

/// What an agent must know beyond what the API tells.
pub struct Config {
    pub node: String,
    /// This node's addresses, the primary first.
    pub addresses: Vec<IpAddr>,
    pub nodeport_addresses: NodePortAddresses,
    /// Name of the interface that other machines are reached by.
    pub uplink: String,
    /// Networks of the pods of all nodes.
    pub pod_cidrs: Vec<IpNet>,
    /// Networks of the cluster IPs.
    pub service_cidrs: Vec<IpNet>,
    pub pod_interface_prefixes: Vec<String>,
    /// Folder on a bpffs for pins.
    pub bpf: PathBuf,
    pub sizes: Sizes,
    /// The cgroup whose processes reach Services.
    pub cgroup: PathBuf,
    pub dns: Option<Dns>,
    /// Whether host ports of this node's pods are served; elsewhere a network plugin does that.
    pub host_ports: bool,
    pub health: health::Addresses,
}

/// Everything that can happen to an agent.
enum Event {
    Changes(Vec<ChangeEvent>),
    Link(LinkEvent),
    Sweep,
    Scrape(Scrape),
}

/// What the agent owns.
struct Agent {
    planner: Planner,
    data_plane: DataPlane,
    attachments: Attachments,
    /// `None` where nobody asks for names.
    zone: Option<ZoneBuilder>,
    zones: watch::Sender<Arc<Zone>>,
    speaker: daymark_speaker::Speaker,
    announcer: Announcer,
    touched: Touched,
    health: Health,
    synced: bool,
    started: SystemTime,
    /// What the next change answers happened then.
    trigger: Option<SystemTime>,
    /// Triggers of changes that are not in the kernel yet.
    triggers: Vec<SystemTime>,
    /// The tables changed since statistics were swept.
    stats_are_stale: bool,
    events: Events,
    /// Operations failed: the kernel may lack what the planner believes it has.
    owing: bool,
    /// Entries that go without what the kernel refused; they were told.
    refused: BTreeSet<ServiceId>,
    /// It refused for another reason than want of room.
    broken: bool,
}

/// Runs until told to stop. Programs and maps stay pinned and go on serving.
pub async fn run(config: Config, client: kube::Client, stop: CancellationToken) -> Result<()> {
    let (events_in, mut events) = mpsc::channel(BATCH);
    let (scrapes_in, scrapes) = mpsc::channel(1);
    let mut agent = open(&config, client.clone(), scrapes_in, &stop).await?;
    tokio::spawn(forward(scrapes, events_in.clone(), Event::Scrape));
    tokio::spawn(watch_links(config.pod_interface_prefixes.clone(), events_in.clone()));
    let host_ports = config.host_ports.then(|| config.node.clone());
    tokio::spawn(watch_changes(client.clone(), host_ports, events_in.clone()));
    tokio::spawn(sweep(events_in));
    if let Some(dns) = config.dns {
        dns::serve(dns, &config.node, &config.addresses, agent.zones.subscribe(), client, stop.clone())
            .await?;
    }
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            taken = events.recv_many(&mut batch, BATCH) => {
                if taken == 0 {
                    return Err(miette!("every source of events ended"));
                }
            }
        }
        if agent.handle(batch.drain(..)) {
            // Compiling everything at once takes as much again as is kept.
            give_back_memory();
        }
    }
}

async fn open(
    config: &Config,
    client: kube::Client,
    scrapes: mpsc::Sender<Scrape>,
    stop: &CancellationToken,
) -> Result<Agent> {
    let netlink = lan::build::netlink()?;
    let uplink = lan::build::index(&netlink, &config.uplink)
        .await?
        .ok_or_else(|| miette!(help = "name it with --uplink", "there is no interface {}", config.uplink))?;
    let mac = lan::build::mac(&netlink, uplink).await?;
    let settings = daymark_dataplane::Config {
        node_ips: config.addresses.clone(),
        pod_cidrs: config.pod_cidrs.clone(),
        service_cidrs: config.service_cidrs.clone(),
        sizes: config.sizes,
        ..daymark_dataplane::Config::new(&config.bpf)
    };
    let (attachments, data_plane, found) = Attachments::open(settings, config.cgroup.clone(), uplink)?;
    let node: Arc<str> = config.node.as_str().into();
    let view = NodeView {
        nodeport_addresses: config.nodeport_addresses.clone(),
        ..NodeView::new(node.clone(), config.addresses.clone())
    };
    let events = Events::new(client, node.clone(), daymark_dataplane::speaks_sctp());
    let trouble = events.about_this_node("FailedToStartProxierHealthcheck");
    let health = Health::start(&view, &config.health, config.bpf.clone(), scrapes, trouble, stop);
    let domain = config.dns.as_ref().map_or("cluster.local", |d| d.domain.as_str());
    let zone = ZoneBuilder::new(domain);
    let zones = watch::Sender::new(zone.snapshot());
    let zone = config.dns.is_some().then_some(zone);
    let (speaker, conflicts) =
        daymark_speaker::Speaker::start(uplink, mac).into_diagnostic().wrap_err("cannot listen for ARP")?;
    tokio::spawn(report(conflicts));
    Ok(Agent {
        planner: Planner::new(view, found),
        data_plane,
        attachments,
        zone,
        zones,
        speaker,
        announcer: Announcer::new(node),
        touched: Touched::default(),
        health,
        synced: false,
        started: SystemTime::now(),
        trigger: None,
        triggers: Vec::new(),
        stats_are_stale: true,
        events,
        owing: false,
        refused: BTreeSet::new(),
        broken: false,
    })
}

impl Agent {
    /// Takes over a batch of events and carries out what follows from all of them together. True if now the whole
    /// cluster is known for the first time.
    fn handle(&mut self, events: impl Iterator<Item = Event>) -> bool {
        let knew_all = self.synced;
        let mut ops = Vec::new();
        for event in events {
            match event {
                Event::Changes(changes) => {
                    for change in changes {
                        self.follow(change, &mut ops);
                    }
                }
                Event::Link(link) => self.link(link),
                Event::Sweep => self.sweep(),
                Event::Scrape(scrape) => self.tell(scrape),
            }
        }
        if self.synced {
            self.carry_out(&ops);
        }
        if self.synced && !self.owing {
            let now = SystemTime::now();
            let took = self.triggers.drain(..).map(|at| now.duration_since(at).unwrap_or_default());
            took.for_each(|took| self.health.metrics.programmed(took));
        }
        let first = self.synced && !knew_all;
        if first || self.synced && !self.touched.is_empty() {
            self.publish();
        }
        first
    }

    fn follow(&mut self, event: ChangeEvent, ops: &mut Vec<Op>) {
        match event {
            ChangeEvent::Triggered(at) => self.trigger = Some(at),
            ChangeEvent::Change(change) => ops.extend(self.take_over(change)),
            ChangeEvent::Synced => {
                let (all, first) = self.planner.synced_touching();
                if ops.is_empty() {
                    *ops = first;
                } else {
                    ops.extend(first);
                }
                self.make_room();
                // All names first: a zone that is complete denies what it does not hold.
                if let Some(zone) = &mut self.zone {
                    zone.update(self.planner.world(), &all);
                    zone.synced();
                    self.zones.send_replace(zone.snapshot());
                }
                self.touched = dns::beside_names(all, self.planner.world());
                self.synced = true;
            }
        }
    }

    /// Answers what only we know for metrics.
    fn tell(&self, scrape: Scrape) {
        let tables = self.planner.tables();
        let name = |id: &u32| {
            let key = self.planner.entry_key(*id)?;
            let port = format!("{}/{}", key.port, key.protocol);
            Some((*id, (key.service.namespace.to_string(), key.service.name.to_string(), port)))
        };
        let mut nowhere_here = BTreeSet::new();
        for frontend in tables.frontends.values().filter(|frontend| frontend.local_only) {
            let entry = tables.services.get(&frontend.service);
            if entry.is_some_and(|entry| entry.n_local == 0 && !entry.slots.is_empty()) {
                let internal = frontend.kind == FrontendKind::ClusterIp;
                nowhere_here.insert((if internal { "internal" } else { "external" }, frontend.service));
            }
        }
        let mut no_local_endpoints = BTreeMap::from([("internal", 0), ("external", 0)]);
        for (policy, _) in nowhere_here {
            *no_local_endpoints.entry(policy).or_default() += 1;
        }
        let told = metrics::Told {
            names: scrape.services.iter().filter_map(name).collect(),
            no_local_endpoints,
            issues: self.planner.issues().len() as i64,
        };
        // Whoever asked may have gone.
        let _ = scrape.answer.send(told);
    }

    /// What nobody but us clears away: expired flows, statistics of what is gone, sockets that could not be
    /// ended at once.
    fn sweep(&mut self) {
        self.mend_pins();
        if let Err(why) = self.data_plane.gc(daymark_dataplane::monotonic_now()) {
            tracing::warn!(%why, "cannot sweep expired flows");
        }
        if !self.synced {
            return;
        }
        if self.owing {
            self.catch_up();
        }
        if std::mem::take(&mut self.stats_are_stale)
            && let Err(why) = self.data_plane.retain_stats(self.planner.tables())
        {
            tracing::warn!(%why, "cannot sweep statistics of what is gone");
        }
        self.end_stuck_sockets();
    }

    fn end_stuck_sockets(&self) {
        match self.data_plane.end_stuck_sockets(&self.attachments.cgroup, self.planner.tables()) {
            Ok(0) => {}
            Ok(ended) => {
                self.health.metrics.ended_sockets(ended);
                tracing::info!(ended, "ended UDP sockets whose backend is gone");
            }
            Err(why) => tracing::warn!(%why),
        }
    }

    fn take_over(&mut self, change: Change) -> Vec<Op> {
        match change {
            Change::Service(_) | Change::ServiceGone(_) => self.health.metrics.queued(1, 0),
            Change::Slice(_) | Change::SliceGone(_) => self.health.metrics.queued(0, 1),
            Change::Node(_) | Change::NodeGone(_) | Change::HostPorts(_) | Change::HostPortsGone(_) => {}
        }
        let trigger =
            self.trigger.take().filter(|at| matches!(change, Change::Slice(_)) && *at > self.started);
        let (touched, ops) = self.planner.apply_touching(change);
        if !touched.is_empty() {
            self.triggers.extend(trigger);
        }
        // At first everything is.
        if self.synced {
            self.touched.merge(touched);
        }
        ops
    }

    /// Lets the zone, the announcements and the set of cluster members follow what was touched.
    fn publish(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        let world = self.planner.world();
        if let Some(zone) = &mut self.zone
            && zone.update(world, &touched)
        {
            self.zones.send_replace(zone.snapshot());
        }
        if !touched.nodes.is_empty()
            && let Err(why) = self.data_plane.set_cluster_sources(members(world))
        {
            tracing::error!(%why, "cannot tell the data plane who belongs to the cluster");
        }
        self.health.update(world, &touched);
        self.events.update(&self.planner, &touched);
        if self.announcer.update(world, &touched) {
            self.speaker.set_addresses(self.announcer.announced().clone());
        }
    }

    fn link(&mut self, event: LinkEvent) {
        let done = match &event {
            LinkEvent::Up { index, .. } => self.attachments.attach_pod(&self.data_plane, *index),
            LinkEvent::Gone { index } => self.attachments.detach_pod(&self.data_plane, *index),
        };
        if let Err(why) = done {
            tracing::warn!(%why, ?event, "cannot follow a pod's interface");
        }
    }
}

/// Turns what comes from one source into events, until either side ends.
async fn forward<T>(mut source: mpsc::Receiver<T>, events: mpsc::Sender<Event>, wrap: fn(T) -> Event) {
    while let Some(item) = source.recv().await {
        if events.send(wrap(item)).await.is_err() {
            return;
        }
    }
}

async fn watch_links(prefixes: Vec<String>, events: mpsc::Sender<Event>) {
    let (out, links) = mpsc::channel(BATCH);
    let (watched, ()) = tokio::join!(links::watch(prefixes, out), forward(links, events, Event::Link));
    if let Err(why) = watched {
        tracing::error!(%why, "pods' interfaces are not watched any more");
    }
}

async fn watch_changes(client: kube::Client, host_ports: Option<String>, events: mpsc::Sender<Event>) {
    let changes = daymark_control::changes(client, host_ports.as_deref()).ready_chunks(CHANGES);
    let mut changes = std::pin::pin!(changes);
    while let Some(told) = changes.next().await {
        let understood = told.into_iter().filter_map(|change| {
            change.inspect_err(|why| tracing::warn!("watching the API server: {why:#}")).ok()
        });
        if events.send(Event::Changes(understood.collect())).await.is_err() {
            return;
        }
    }
}

/// Somebody else on the LAN uses an address that we announce.
async fn report(mut conflicts: mpsc::Receiver<daymark_speaker::Conflict>) {
    while let Some(conflict) = conflicts.recv().await {
        tracing::error!(?conflict, "a LoadBalancer address is used by another machine on the LAN");
    }
}

async fn sweep(events: mpsc::Sender<Event>) {
    let mut tick = tokio::time::interval(SWEEP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        if events.send(Event::Sweep).await.is_err() {
            return;
        }
    }
}
