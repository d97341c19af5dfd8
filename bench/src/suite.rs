//! One run: the LAN, the API server, what is compared, and growing numbers of Services.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng;

use crate::api::Api;
use crate::arms::{Effort, Ratio};
use crate::dialer::Dialer;
use crate::lan::{FAR_NAME, Lan, Node, backend_ip, far_ip};
use crate::objects::{ENDPOINTS, Wanted, filler, filler_address, side_endpoints};
use crate::products::{self, Pins};
use crate::report::{Product, Report, peers};
use crate::space::Running;
use crate::{figures, servers};

/// How many Services the churn goes round.
pub const CHURNED: usize = 100;
/// How long anything may take to be programmed.
const PATIENCE: Duration = Duration::from_secs(400);

/// What a run covers.
pub struct Plan {
    /// Numbers of Services, growing.
    pub sizes: Vec<usize>,
    /// kube-proxy's modes and up to how many Services each is measured.
    pub rivals: Vec<(Product, usize)>,
    pub connects: Effort,
    pub requests: Effort,
    pub transfers: usize,
    pub changes: usize,
    pub rival_changes: usize,
    pub churn: Duration,
    /// Feed from the embedded API server even if there is a real one.
    pub embedded: bool,
}

pub struct Suite {
    // In this order: programs are detached and processes ended before their namespaces go.
    pub agent: Option<Running>,
    pins: Pins,
    pub lan: Lan,
    pub api: Api,
    pub report: Report,
    pub plan: Plan,
    peers: Option<PathBuf>,
    dir: tempfile::TempDir,
    loaded: usize,
    /// kube-proxies whose rules are in place.
    pub ruled: Vec<Product>,
    /// Of the probe's endpoints; see [`crate::objects::side_endpoints`].
    pub side: usize,
    /// The ratio of connects at the first size.
    pub first: Option<Ratio>,
}

impl Suite {
    pub fn start(mut plan: Plan) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("daymark-bench-").tempdir()?;
        let peers = peers();
        if peers.is_none() {
            eprintln!("no peers: run bench/peers to compare with kube-proxy; the embedded API server feeds");
            plan.rivals.clear();
        }
        let mut names = vec!["bare", "again", "daymark"];
        names.extend(plan.rivals.iter().map(|(product, _)| product.node()));
        let lan = Lan::new(&names)?;
        let api = match &peers {
            Some(peers) if !plan.embedded => Api::kubernetes(peers, dir.path())?,
            _ => Api::alone(dir.path())?,
        };
        let pins = Pins::new(dir.path());
        let report = Report::new(&[Product::Daymark, Product::Nftables, Product::Iptables], peers.is_none());
        let mut suite = Self {
            agent: None,
            pins,
            lan,
            api,
            report,
            plan,
            peers,
            dir,
            loaded: 0,
            ruled: Vec::new(),
            side: 0,
            first: None,
        };
        suite.prepare()?;
        Ok(suite)
    }

    /// Nodes, and the Services with a purpose.
    fn prepare(&mut self) -> Result<()> {
        for node in &self.lan.nodes {
            self.api.register(node.name, &node.ip().to_string())?;
        }
        self.api.register(FAR_NAME, &far_ip().to_string())?;
        let backends: Vec<_> = (0..ENDPOINTS).map(backend_ip).collect();
        let mut wanted = vec![
            special("probe", 1, servers::ANSWER, side_endpoints(0)),
            special("bulk", 2, servers::SEND, backends),
        ];
        let churned: Vec<String> = (0..CHURNED).map(|i| format!("churned-{i}")).collect();
        for (i, name) in churned.iter().enumerate() {
            wanted.push(special(name, 100 + i, servers::ANSWER, side_endpoints(0)));
        }
        let ported: Vec<(String, &str, u16, IpAddr)> =
            self.lan.nodes.iter().flat_map(node_ports_of).collect();
        for (name, node, port, backend) in &ported {
            let service = special(name, usize::from(port - 30_000), servers::ANSWER, vec![*backend]);
            wanted.push(Wanted { node_port: Some(*port), node, ..service });
        }
        self.api.create(wanted.iter().map(Wanted::requests))
    }

    /// Everything at every size.
    pub fn run(&mut self) -> Result<()> {
        for size in self.plan.sizes.clone() {
            eprintln!("{size} Services × {ENDPOINTS} endpoints, {}", self.api.name);
            self.api.create((self.loaded..size).map(filler))?;
            self.loaded = size;
            self.start_agent(size)?;
            for (product, most) in self.plan.rivals.clone() {
                self.ruled.retain(|ruled| *ruled != product);
                if size <= most
                    && let Err(why) = self.rival(product, size)
                {
                    self.report.put(
                        &format!("kube-proxy at {size} Services"),
                        "",
                        product,
                        format!("{why:#}"),
                    );
                }
            }
            figures::connects(self, size)?;
            if size >= 1000 {
                figures::changes(self, size)?;
            }
            if size == self.plan.sizes[0] {
                figures::node_ports(self, "the same node", 0)?;
                figures::node_ports(self, "another node", figures::FAR_PORTS)?;
                figures::throughput(self)?;
            }
            if size == 1000 {
                figures::churn(self)?;
            }
        }
        Ok(())
    }

    /// A new agent over nothing, with everything in the API already.
    fn start_agent(&mut self, size: usize) -> Result<()> {
        self.agent = None;
        self.pins.clear();
        let node = self.lan.node("daymark").context("our node")?;
        // The kernel detaches programs a little after their pins are gone.
        let deadline = Instant::now() + Duration::from_secs(10);
        while node.client.connects(filler_address(0))? {
            ensure!(Instant::now() < deadline, "the programs of the agent before stay attached");
            std::thread::sleep(Duration::from_millis(10));
        }
        let began = Instant::now();
        self.agent = Some(products::agent(node, &self.api.kubeconfig, &self.pins, self.dir.path())?);
        if let Err(why) = programmed(&mut node.client, size) {
            let log = std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(8).collect();
            return Err(why.context(last.join("\n")));
        }
        let took = began.elapsed().as_secs_f64();
        if size >= 1000 {
            std::thread::sleep(Duration::from_secs(1));
            let agent = self.agent.as_ref().context("the agent")?;
            let values = (agent.cpu_seconds()?, agent.resident_mib()?, Some(agent.maps_mib()?));
            self.start_rows(Product::Daymark, size, took, values);
        }
        Ok(())
    }

    fn start_rows(&mut self, product: Product, size: usize, took: f64, values: (f64, f64, Option<f64>)) {
        let (cpu, resident, maps) = values;
        let (reach_cpu, reach_memory) = match size {
            50_000 => ("≤ 1.5 s of CPU", "≤ 200 MiB together"),
            10_000 => ("", "≤ 64 MiB together"),
            _ => ("", ""),
        };
        let memory = match maps {
            Some(maps) => format!("{resident:.0} + maps {maps:.0} MiB"),
            None => format!("{resident:.0} MiB"),
        };
        let started = format!("{cpu:.2} s CPU, {took:.2} s in all");
        self.report.put(&format!("start to all programmed, {size} Services"), reach_cpu, product, started);
        self.report.put(&format!("resident memory, {size} Services"), reach_memory, product, memory);
    }

    /// kube-proxy's start and changes; then it ends, and its rules stay for the connects.
    fn rival(&mut self, product: Product, size: usize) -> Result<()> {
        let peers = self.peers.clone().context("no peers")?;
        let node = self.lan.node(product.node()).context("its node")?;
        if product == Product::Nftables {
            let _ = node.space.command("nft delete table ip kube-proxy");
        }
        let began = Instant::now();
        let proxy = products::kube_proxy(node, &self.api.kubeconfig, &peers, self.dir.path())?;
        programmed(&mut node.client, size)?;
        let took = began.elapsed().as_secs_f64();
        if size >= 1000 {
            let values = (proxy.cpu_seconds()?, proxy.resident_mib()?, None);
            self.start_rows(product, size, took, values);
            figures::rival_changes(self, product, size)?;
        }
        self.ruled.push(product);
        Ok(())
    }
}

/// A node's Services with node ports: by name, where the backend is, the port, the backend.
fn node_ports_of(node: &Node) -> Vec<(String, &'static str, u16, IpAddr)> {
    let Some(port) = figures::node_port(node.name) else { return Vec::new() };
    vec![
        (format!("{}-here", node.name), node.name, port, node.server_ip()),
        (format!("{}-far", node.name), FAR_NAME, port + figures::FAR_PORTS, backend_ip(50)),
    ]
}

pub fn special(name: &str, number: usize, target_port: u16, endpoints: Vec<IpAddr>) -> Wanted<'_> {
    let ip = figures::special_ip(number);
    Wanted { name, ip, node_port: None, target_port, endpoints, node: FAR_NAME }
}

/// Waits until the last Service answers, and a sample of the others.
pub fn programmed(client: &mut Dialer, size: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut rng = rand::rng();
    let sample = (0..100.min(size)).map(|_| rng.random_range(0..size)).chain([size - 1]);
    for number in sample.collect::<Vec<_>>().into_iter().rev() {
        let address = filler_address(number);
        while !client.connects(address)? {
            ensure!(Instant::now() < deadline, "Service {number} of {size} at {address} does not answer");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}
