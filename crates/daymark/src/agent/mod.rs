//! The agent of one node: changes come in, operations, zones and announcements go out. It knows the
//! cluster through the Kubernetes API alone.

pub mod links;
pub mod standalone;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daymark_control::ChangeEvent;
use daymark_dataplane::{DataPlane, Sizes};
use daymark_model::{Change, Touched};
use daymark_plan::{Announcer, NodeView, Planner, Zone, ZoneBuilder};
use futures::StreamExt;
use ipnet::IpNet;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::lan;
use links::LinkEvent;

/// How often expired flows are swept out.
const SWEEP: Duration = Duration::from_secs(5);
/// Seconds that answers of cluster names may be kept.
const DNS_TTL: u32 = 5;
/// How often the DNS server's EndpointSlice is made sure of, and how soon after a failure.
const DNS_PUBLISHED: Duration = Duration::from_secs(60);
const DNS_RETRY: Duration = Duration::from_millis(100);
/// How many changes are taken over before their operations are carried out together.
const BATCH: usize = 1024;

/// What an agent must know beyond what the API tells.
pub struct Config {
    pub node: String,
    /// This node's addresses, the primary first.
    pub addresses: Vec<IpAddr>,
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
}

/// Cluster DNS, as this node serves it.
pub struct Dns {
    pub domain: String,
    pub upstreams: Vec<SocketAddr>,
    /// Where upstreams are reached: the host's network namespace.
    pub outside: tokio::runtime::Handle,
}

/// Everything that can happen to an agent.
enum Event {
    Change(ChangeEvent),
    Link(LinkEvent),
    Sweep,
}

/// What the agent owns.
struct Agent {
    planner: Planner,
    data_plane: DataPlane,
    /// Whose processes' sockets go to Services.
    cgroup: PathBuf,
    zone: ZoneBuilder,
    zones: watch::Sender<Arc<Zone>>,
    speaker: daymark_speaker::Speaker,
    announcer: Announcer,
    touched: Touched,
    synced: bool,
}

/// Runs until told to stop. Programs and maps stay pinned and go on serving.
pub async fn run(config: Config, client: kube::Client, stop: CancellationToken) -> Result<()> {
    let (events_in, mut events) = mpsc::channel(BATCH);
    let mut agent = open(&config).await?;
    tokio::spawn(watch_links(config.pod_interface_prefixes.clone(), events_in.clone()));
    tokio::spawn(watch_changes(client.clone(), events_in.clone()));
    tokio::spawn(sweep(events_in));
    if let Some(dns) = config.dns {
        serve_dns(dns, &config.node, &config.addresses, agent.zones.subscribe(), client, stop.clone())
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
        agent.handle(batch.drain(..));
    }
}

async fn open(config: &Config) -> Result<Agent> {
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
    let (data_plane, found) =
        DataPlane::open(settings).into_diagnostic().wrap_err("cannot open the data plane")?;
    std::fs::create_dir_all(&config.cgroup).into_diagnostic().wrap_err("cannot make the node's cgroup")?;
    data_plane.attach_cgroup(&config.cgroup).into_diagnostic()?;
    data_plane.attach_uplink(uplink).into_diagnostic()?;
    let node: Arc<str> = config.node.as_str().into();
    let view = NodeView::new(node.clone(), config.addresses.clone());
    let domain = config.dns.as_ref().map_or("cluster.local", |d| d.domain.as_str());
    let zone = ZoneBuilder::new(domain);
    let zones = watch::Sender::new(zone.snapshot());
    let (speaker, conflicts) =
        daymark_speaker::Speaker::start(uplink, mac).into_diagnostic().wrap_err("cannot listen for ARP")?;
    tokio::spawn(report(conflicts));
    Ok(Agent {
        planner: Planner::new(view, found),
        data_plane,
        cgroup: config.cgroup.clone(),
        zone,
        zones,
        speaker,
        announcer: Announcer::new(node),
        touched: Touched::default(),
        synced: false,
    })
}

impl Agent {
    /// Takes over a batch of events and carries out what follows from all of them together.
    fn handle(&mut self, events: impl Iterator<Item = Event>) {
        let mut ops = Vec::new();
        for event in events {
            match event {
                Event::Change(ChangeEvent::Change(change)) => ops.extend(self.take_over(change)),
                Event::Change(ChangeEvent::Synced) => {
                    ops.extend(self.planner.synced());
                    // All names first: a zone that is complete denies what it does not hold.
                    self.zone.update(self.planner.world(), &self.touched);
                    self.zone.synced();
                    self.zones.send_replace(self.zone.snapshot());
                    self.synced = true;
                }
                Event::Link(link) => self.link(link),
                Event::Sweep => self.sweep(),
            }
        }
        if !ops.is_empty() {
            if let Err(why) = self.data_plane.apply(&ops) {
                tracing::error!(%why, "cannot program the data plane");
            }
            self.end_stuck_sockets();
        }
        if self.synced && !self.touched.is_empty() {
            self.publish();
        }
    }

    /// What nobody but us clears away: expired flows, statistics of what is gone, sockets that could not be
    /// ended at once.
    fn sweep(&mut self) {
        if let Err(why) = self.data_plane.gc(daymark_dataplane::monotonic_now()) {
            tracing::warn!(%why, "cannot sweep expired flows");
        }
        if !self.synced {
            return;
        }
        if let Err(why) = self.data_plane.retain_stats(self.planner.tables()) {
            tracing::warn!(%why, "cannot sweep statistics of what is gone");
        }
        self.end_stuck_sockets();
    }

    fn end_stuck_sockets(&self) {
        match self.data_plane.end_stuck_sockets(&self.cgroup, self.planner.tables()) {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "ended UDP sockets whose backend is gone"),
            Err(why) => tracing::warn!(%why),
        }
    }

    fn take_over(&mut self, change: Change) -> Vec<daymark_plan::tables::Op> {
        let (touched, ops) = self.planner.apply_touching(change);
        self.touched.merge(touched);
        ops
    }

    /// Lets the zone, the announcements and the set of cluster members follow what was touched.
    fn publish(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        let world = self.planner.world();
        if self.zone.update(world, &touched) {
            self.zones.send_replace(self.zone.snapshot());
        }
        if !touched.nodes.is_empty() {
            let members = world.nodes().flat_map(|n| {
                n.internal_ips.iter().map(|ip| IpNet::from(*ip)).chain(n.pod_cidrs.iter().copied())
            });
            if let Err(why) = self.data_plane.set_cluster_sources(members.collect()) {
                tracing::error!(%why, "cannot tell the data plane who belongs to the cluster");
            }
        }
        if self.announcer.update(world, &touched) {
            self.speaker.set_addresses(self.announcer.announced().clone());
        }
    }

    fn link(&mut self, event: LinkEvent) {
        let done = match &event {
            LinkEvent::Up { index, .. } => self.data_plane.attach_pod(*index),
            LinkEvent::Gone { index } => self.data_plane.detach_pod(*index),
        };
        if let Err(why) = done {
            tracing::warn!(%why, ?event, "cannot follow a pod's interface");
        }
    }
}

async fn watch_links(prefixes: Vec<String>, events: mpsc::Sender<Event>) {
    let (out, mut links) = mpsc::channel(BATCH);
    let forward = async {
        while let Some(link) = links.recv().await {
            if events.send(Event::Link(link)).await.is_err() {
                return;
            }
        }
    };
    let (watched, ()) = tokio::join!(links::watch(prefixes, out), forward);
    if let Err(why) = watched {
        tracing::error!(%why, "pods' interfaces are not watched any more");
    }
}

async fn watch_changes(client: kube::Client, events: mpsc::Sender<Event>) {
    let mut changes = std::pin::pin!(daymark_control::changes(client));
    while let Some(change) = changes.next().await {
        match change {
            Ok(change) => {
                if events.send(Event::Change(change)).await.is_err() {
                    return;
                }
            }
            Err(why) => tracing::warn!(%why, "watching the API server"),
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

/// Serves DNS on the node's addresses and tells the cluster that it does.
async fn serve_dns(
    dns: Dns,
    node: &str,
    addresses: &[IpAddr],
    zones: watch::Receiver<Arc<Zone>>,
    client: kube::Client,
    stop: CancellationToken,
) -> Result<()> {
    let listen = addresses.iter().map(|ip| SocketAddr::new(*ip, 53)).collect();
    let config = daymark_dns::Config {
        listen,
        ttl: DNS_TTL,
        upstreams: dns.upstreams,
        upstream_runtime: Some(dns.outside),
    };
    let server = daymark_dns::Server::bind(config).into_diagnostic().wrap_err("cannot serve DNS")?;
    tokio::spawn(server.run(zones.clone(), stop));
    if let Some(ip) = addresses.first().copied() {
        let node = node.to_owned();
        tokio::spawn(publish_dns(client, node, ip, zones));
    }
    Ok(())
}

/// Makes this node's DNS server an endpoint of the DNS Service once it can answer, and sees to it that it
/// stays one.
async fn publish_dns(client: kube::Client, node: String, ip: IpAddr, mut zones: watch::Receiver<Arc<Zone>>) {
    if zones.wait_for(|zone| zone.is_synced()).await.is_err() {
        return;
    }
    let mut retry = DNS_RETRY;
    loop {
        match daymark_control::publish_dns(&client, &node, ip, None).await {
            Ok(()) => {
                retry = DNS_RETRY;
                tokio::time::sleep(DNS_PUBLISHED).await;
            }
            Err(why) => {
                tracing::warn!("cannot publish this node's DNS server: {why}");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(DNS_PUBLISHED);
            }
        }
    }
}

/// The name servers that this host uses, as the system's resolver would read them.
pub fn upstreams() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    name_servers(&text).into_iter().map(|ip| SocketAddr::new(ip, 53)).collect()
}

fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    let words = resolv_conf.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(|w| w.first() == Some(&"nameserver")).filter_map(|w| w.get(1)?.parse().ok()).collect()
}
