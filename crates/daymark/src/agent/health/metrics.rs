//! Metrics: what the agent did, kept as it does it, and what the kernel counted, read when somebody asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use daymark_dataplane::inspect::Meters;
use daymark_dataplane::{ServiceStats, Stats};
use daymark_plan::tables::ServiceId;
use http::StatusCode;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};

use super::answer::{self, Answer};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What kube-proxy would say `nftables` or `iptables` for.
const PROXY_MODE: &str = "ebpf";

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;

/// What only the agent's loop can tell.
#[derive(Debug)]
pub struct Scrape {
    /// Those whose names are wanted.
    pub services: Vec<ServiceId>,
    pub answer: oneshot::Sender<Told>,
}

/// The loop's answer.
#[derive(Debug, Default)]
pub struct Told {
    /// Namespace, name and port of each.
    pub names: BTreeMap<ServiceId, (String, String, String)>,
    /// How many Service ports of each policy have endpoints, but none here.
    pub no_local_endpoints: BTreeMap<&'static str, i64>,
    pub issues: i64,
}

/// What the agent did. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Metrics {
    sync_duration: Histogram,
    /// Since what triggered a change of endpoints.
    network_programming: Histogram,
    last_sync: Gauge<f64, std::sync::atomic::AtomicU64>,
    last_queued: Gauge<f64, std::sync::atomic::AtomicU64>,
    endpoint_changes: Counter,
    service_changes: Counter,
    endpoint_changes_pending: Gauge,
    service_changes_pending: Gauge,
    failed: Counter,
    refused: Gauge,
    stuck_sockets: Counter,
    probes: [Counters; 2],
}

/// Those of kube-proxy, and finer ones below its first.
fn network_programming_buckets() -> impl Iterator<Item = f64> {
    let fine = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5].into_iter();
    let steps = |from: u32, to: u32, step: usize| (from..to).step_by(step).map(f64::from);
    fine.chain(steps(1, 60, 1)).chain(steps(60, 120, 5)).chain(steps(120, 301, 30))
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl Metrics {
    pub fn new() -> Self {
        Self {
            sync_duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 18)),
            network_programming: Histogram::new(network_programming_buckets()),
            last_sync: Gauge::default(),
            last_queued: Gauge::default(),
            endpoint_changes: Counter::default(),
            service_changes: Counter::default(),
            endpoint_changes_pending: Gauge::default(),
            service_changes_pending: Gauge::default(),
            failed: Counter::default(),
            refused: Gauge::default(),
            stuck_sockets: Counter::default(),
            probes: Default::default(),
        }
    }

    /// Changes were taken over; they are pending until [`Metrics::synced`].
    pub fn queued(&self, services: u64, slices: u64) {
        self.service_changes.inc_by(services);
        self.endpoint_changes.inc_by(slices);
        self.service_changes_pending.inc_by(services as i64);
        self.endpoint_changes_pending.inc_by(slices as i64);
        self.last_queued.set(seconds_since_1970());
    }

    /// Everything that was pending is in the kernel, after so long.
    pub fn synced(&self, took: Duration) {
        self.sync_duration.observe(took.as_secs_f64());
        self.at_rest();
    }

    /// A change of endpoints is in the kernel, so long after what triggered it.
    pub fn programmed(&self, took: Duration) {
        self.network_programming.observe(took.as_secs_f64());
    }

    /// Nothing is pending: what came asked for nothing of the kernel.
    pub fn at_rest(&self) {
        self.service_changes_pending.set(0);
        self.endpoint_changes_pending.set(0);
        self.last_sync.set(seconds_since_1970());
    }

    /// So many operations were refused in one attempt to catch up; 0: the kernel holds everything again.
    pub fn refused(&self, operations: usize) {
        self.failed.inc_by(operations as u64);
        self.refused.set(operations as i64);
    }

    pub fn ended_sockets(&self, ended: usize) {
        self.stuck_sockets.inc_by(ended as u64);
    }

    pub fn probed(&self, path: &str, code: u16) {
        let which = match path {
            "/healthz" => &self.probes[0],
            "/livez" => &self.probes[1],
            _ => return,
        };
        which.get_or_create(&vec![("code", code.to_string())]).inc();
    }

    fn register(&self, registry: &mut Registry) {
        let proxy = registry.sub_registry_with_prefix("kubeproxy");
        let sync = "sync_proxy_rules";
        let mut add = |name: &str, help: &str, metric: &Gauge<f64, std::sync::atomic::AtomicU64>| {
            proxy.register(format!("{sync}_{name}_timestamp_seconds"), help, metric.clone());
        };
        add("last", "When the kernel last held everything, in seconds since 1970", &self.last_sync);
        add("last_queued", "When a change last arrived, in seconds since 1970", &self.last_queued);
        let duration = "How long programming the kernel took";
        proxy.register(format!("{sync}_duration_seconds"), duration, self.sync_duration.clone());
        let programming = "From what triggered a change of endpoints until it is in the kernel";
        proxy.register("network_programming_duration_seconds", programming, self.network_programming.clone());
        let changes = "Changes of EndpointSlices that arrived";
        proxy.register(format!("{sync}_endpoint_changes"), changes, self.endpoint_changes.clone());
        let changes = "Changes of Services that arrived";
        proxy.register(format!("{sync}_service_changes"), changes, self.service_changes.clone());
        let pending = "Changes of EndpointSlices that are not programmed yet";
        proxy.register(
            format!("{sync}_endpoint_changes_pending"),
            pending,
            self.endpoint_changes_pending.clone(),
        );
        let pending = "Changes of Services that are not programmed yet";
        proxy.register(
            format!("{sync}_service_changes_pending"),
            pending,
            self.service_changes_pending.clone(),
        );
        proxy.register("proxy_healthz", "Answers to /healthz", self.probes[0].clone());
        proxy.register("proxy_livez", "Answers to /livez", self.probes[1].clone());
        let ours = registry.sub_registry_with_prefix("daymark");
        ours.register("operations_failed", "Times that the kernel refused operations", self.failed.clone());
        let refused = "Operations that the kernel refuses at present, e.g. because a map is full";
        ours.register("operations_refused", refused, self.refused.clone());
        let ended = "UDP sockets that were ended because their backend was gone";
        ours.register("stuck_sockets_ended", ended, self.stuck_sockets.clone());
    }
}

/// The answer to `/metrics`.
pub async fn answer(path: String, metrics: Metrics, bpf: PathBuf, scrapes: mpsc::Sender<Scrape>) -> Answer {
    let plain = "text/plain; charset=utf-8";
    match path.as_str() {
        "/metrics" => {}
        "/healthz" => return answer::response(StatusCode::OK, plain, "ok".into()),
        "/proxyMode" => return answer::response(StatusCode::OK, plain, PROXY_MODE.into()),
        _ => return answer::not_found(),
    }
    match text(&metrics, bpf, &scrapes).await {
        Ok(text) => answer::response(StatusCode::OK, CONTENT_TYPE, text),
        Err(why) => answer::response(StatusCode::INTERNAL_SERVER_ERROR, plain, why + "\n"),
    }
}

async fn text(metrics: &Metrics, bpf: PathBuf, scrapes: &mpsc::Sender<Scrape>) -> Result<String, String> {
    let read = tokio::task::spawn_blocking(move || read_kernel(&bpf)).await.map_err(|e| e.to_string())?;
    let kernel = read.map_err(|why| why.to_string())?;
    let (answer, told) = oneshot::channel();
    let services = kernel.services.keys().copied().collect();
    scrapes.send(Scrape { services, answer }).await.map_err(|_| "the agent is stopping".to_owned())?;
    let told = told.await.map_err(|_| "the agent is stopping".to_owned())?;
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    register_kernel(&mut registry, &kernel, &told);
    let mut text = String::new();
    encode_registry(&mut text, &registry).map_err(|e| e.to_string())?;
    encode_eof(&mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

/// What the kernel counted.
struct Kernel {
    stats: Stats,
    services: BTreeMap<ServiceId, ServiceStats>,
    fill: Vec<daymark_dataplane::inspect::Fill>,
}

fn read_kernel(bpf: &std::path::Path) -> Result<Kernel, daymark_dataplane::Error> {
    let meters = Meters::open(bpf)?;
    Ok(Kernel { stats: meters.stats()?, services: meters.service_stats()?, fill: meters.fill()? })
}

fn register_kernel(registry: &mut Registry, kernel: &Kernel, told: &Told) {
    let local = Gauges::default();
    for (policy, number) in &told.no_local_endpoints {
        local.get_or_create(&vec![("traffic_policy", (*policy).to_owned())]).set(*number);
    }
    registry.register(
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
        "Service ports under policy Local with endpoints, but none on this node",
        local,
    );
    let ours = registry.sub_registry_with_prefix("daymark");
    let issues = Gauge::<i64>::default();
    issues.set(told.issues);
    ours.register("issues", "Things that Services ask for and do not get", issues);
    register_events(ours, &kernel.stats);
    register_services(ours, &kernel.services, told);
    let (entries, capacity) = (Gauges::default(), Gauges::default());
    for fill in &kernel.fill {
        let labels = vec![("map", fill.map.to_owned())];
        entries.get_or_create(&labels).set(fill.entries as i64);
        capacity.get_or_create(&labels).set(i64::from(fill.capacity));
    }
    ours.register("map_entries", "Entries of the kernel's maps", entries);
    ours.register("map_capacity", "Most entries that the kernel's maps may have", capacity);
}

fn register_events(registry: &mut Registry, stats: &Stats) {
    let events = Counters::default();
    for (event, number) in stats.by_name() {
        events.get_or_create(&vec![("event", event.to_owned())]).inc_by(number);
    }
    registry.register("dataplane_events", "What the programs in the kernel did", events);
}

fn register_services(registry: &mut Registry, services: &BTreeMap<ServiceId, ServiceStats>, told: &Told) {
    let (connections, refusals, bytes) = (Counters::default(), Counters::default(), Counters::default());
    for (id, stats) in services {
        let Some((namespace, service, port)) = told.names.get(id) else { continue };
        let labels: Labels =
            vec![("namespace", namespace.clone()), ("service", service.clone()), ("port", port.clone())];
        connections.get_or_create(&labels).inc_by(stats.connections);
        refusals.get_or_create(&labels).inc_by(stats.refusals);
        for (direction, number) in [("in", stats.bytes_in), ("out", stats.bytes_out)] {
            let mut labels = labels.clone();
            labels.push(("direction", direction.to_owned()));
            bytes.get_or_create(&labels).inc_by(number);
        }
    }
    registry.register("service_connections", "Connections that got a backend", connections);
    registry.register("service_refusals", "Connections refused for want of a backend", refusals);
    registry.register(
        "service_bytes",
        "Bytes of IP packets that are translated, and of closed TCP connections that were at the socket",
        bytes,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kube_proxy_are_kept_and_services_named() {
        let metrics = Metrics::new();
        metrics.queued(2, 3);
        metrics.probed("/healthz", 200);
        metrics.programmed(Duration::from_millis(300));
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let stats = ServiceStats { connections: 7, ..ServiceStats::default() };
        let kernel = Kernel {
            stats: Stats { drop_policy: 4, ..Stats::default() },
            services: BTreeMap::from([(1, stats), (2, stats)]),
            fill: Vec::new(),
        };
        let told = Told {
            names: BTreeMap::from([(1, ("shop".into(), "web".into(), "80/TCP".into()))]),
            no_local_endpoints: BTreeMap::from([("internal", 1)]),
            issues: 0,
        };
        register_kernel(&mut registry, &kernel, &told);
        let mut text = String::new();
        encode_registry(&mut text, &registry).expect("encodes");
        for line in [
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 3",
            "kubeproxy_sync_proxy_rules_service_changes_pending 2",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"0.25\"} 0",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"0.5\"} 1",
            "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\"} 1",
            "daymark_dataplane_events_total{event=\"drop_policy\"} 4",
            "daymark_service_connections_total{namespace=\"shop\",service=\"web\",port=\"80/TCP\"} 7",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line} in\n{text}");
        }
    }
}
