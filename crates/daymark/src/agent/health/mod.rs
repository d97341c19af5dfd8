//! What the agent tells load balancers, probes and Prometheus: health check node ports, `/healthz`, `/livez`
//! and `/metrics`, under the paths and names of kube-proxy.

mod answer;
mod http;
pub mod metrics;
mod ports;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use daymark_model::{Touched, World};
use daymark_plan::health::HealthChecks;
use daymark_plan::{HealthCheck, NodeView};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use metrics::{Metrics, Scrape};

/// A data plane that owes an operation for longer does not count as healthy.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// Where to answer.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// `/healthz` and `/livez`.
    pub healthz: SocketAddr,
    /// `/metrics`.
    pub metrics: SocketAddr,
}

impl Default for Addresses {
    /// Those of kube-proxy. What is bound to `::` answers IPv4 as well.
    fn default() -> Self {
        let any = IpAddr::from([0u16; 8]);
        Self { healthz: SocketAddr::new(any, 10256), metrics: SocketAddr::from(([127, 0, 0, 1], 10249)) }
    }
}

/// What the agent knows of its own health.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// By health check node port.
    pub checks: Arc<std::collections::BTreeMap<u16, HealthCheck>>,
    /// Whether load balancers may send to this node: it is not about to go (KEP-3836).
    pub eligible: bool,
    /// Whether the whole cluster was known once, and programmed.
    pub synced: bool,
    /// Since when operations are owed to the kernel.
    pub owed_since: Option<Instant>,
    /// When the kernel last held everything.
    pub updated: Option<SystemTime>,
}

impl Vitals {
    /// Whether the data plane keeps up.
    pub fn is_healthy(&self, now: Instant) -> bool {
        self.synced && self.owed_since.is_none_or(|since| now.duration_since(since) < STALE_AFTER)
    }
}

/// The agent's end.
pub struct Health {
    checks: HealthChecks,
    node: Arc<str>,
    vitals: watch::Sender<Vitals>,
    pub metrics: Metrics,
}

impl Health {
    /// Starts the servers. An address that somebody else has is told to `trouble`, and tried again: Services are
    /// served without an answer to probes.
    pub fn start(
        view: &NodeView,
        addresses: &Addresses,
        bpf: PathBuf,
        scrapes: mpsc::Sender<Scrape>,
        trouble: impl Fn(String) + Clone + Send + 'static,
        stop: &CancellationToken,
    ) -> Self {
        let vitals = watch::Sender::new(Vitals {
            checks: Arc::default(),
            eligible: true,
            synced: false,
            owed_since: None,
            updated: None,
        });
        let metrics = Metrics::new();
        let told = vitals.subscribe();
        let counted = metrics.clone();
        let taken = |what: &'static str, address: SocketAddr| {
            let trouble = trouble.clone();
            move |why: std::io::Error| trouble(format!("cannot answer {what} on {address} yet: {why}"))
        };
        tokio::spawn(http::serve_when_free(
            addresses.healthz,
            ports::RETRY,
            stop.clone(),
            taken("/healthz", addresses.healthz),
            move |path| {
                let answer = answer::probe(&path, &told.borrow(), Instant::now(), SystemTime::now());
                counted.probed(&path, answer.status().as_u16());
                std::future::ready(answer)
            },
        ));
        let scraped = metrics.clone();
        tokio::spawn(http::serve_when_free(
            addresses.metrics,
            ports::RETRY,
            stop.clone(),
            taken("/metrics", addresses.metrics),
            move |path| metrics::answer(path, scraped.clone(), bpf.clone(), scrapes.clone()),
        ));
        // Where node ports are served. Load balancers do not come by way of loopback.
        let checked = view.nodeport_ips().into_iter().filter(|ip| !ip.is_loopback()).collect();
        tokio::spawn(ports::follow(checked, vitals.subscribe(), ports::RETRY, stop.clone()));
        Self { checks: HealthChecks::new(view), node: view.name.clone(), vitals, metrics }
    }

    /// Follows what was touched.
    pub fn update(&mut self, world: &World, touched: &Touched) {
        let changed = self.checks.update(world, touched);
        let eligible = world.node(&self.node).is_none_or(|node| !node.leaving);
        self.vitals.send_if_modified(|vitals| {
            let differs = changed || vitals.eligible != eligible;
            if changed {
                vitals.checks = Arc::new(self.checks.checks().clone());
            }
            vitals.eligible = eligible;
            differs
        });
    }

    /// Whether the kernel holds everything that it should, after operations or another look.
    pub fn settled(&mut self, settled: bool) {
        self.vitals.send_modify(|vitals| {
            if settled {
                vitals.synced = true;
                vitals.owed_since = None;
                vitals.updated = Some(SystemTime::now());
            } else {
                vitals.owed_since.get_or_insert_with(Instant::now);
            }
        });
    }
}
