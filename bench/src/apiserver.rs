//! The embedded API server and the real one side by side: what a write costs, how fast it is told, what
//! 20,000 objects and idling cost, how long kubectl takes.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::api::Api;
use crate::fanout::Fanout;
use crate::lan::HOST_IP;
use crate::objects::filler;
use crate::report::{Product, Report, peers};
use crate::space::run as command;
use crate::stats::{interval, median, percentile};

/// Services, and as many EndpointSlices with 10 endpoints.
const OBJECTS: usize = 10_000;
const WATCHERS: usize = 1_000;
const CHANGES: usize = 40;
const IDLE: Duration = Duration::from_secs(60);
/// Slices of writes, and of how many writes each is.
const SLICES: usize = 12;
const WRITES: usize = 500;
const GETS: usize = 10;
/// What a server still does after its last answer is counted for so long.
const SETTLE: Duration = Duration::from_millis(300);

struct Arm {
    product: Product,
    api: Api,
    /// Of the last slice.
    last: usize,
    _dir: tempfile::TempDir,
}

impl Arm {
    /// Seconds of processor time of all its processes.
    fn cpu(&self) -> Result<f64> {
        Ok(self.api.cpu_seconds()?.iter().map(|(_, seconds)| seconds).sum())
    }
}

/// All of it: about eight minutes.
pub fn run() -> Result<()> {
    compare(figures)
}

/// Only how fast a write is told: under a minute.
pub fn run_fan_out() -> Result<()> {
    compare(|arms, report| fan_out(arms, report))
}

fn compare(figures: impl Fn(&mut [Arm], &mut Report) -> Result<()>) -> Result<()> {
    // Each watcher is a connection, at both ends.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    command(Command::new("ip").args(["addr", "add", &format!("{HOST_IP}/32"), "dev", "lo"]))?;
    let peers = peers();
    let mut arms = vec![arm(Product::Daymark, Api::alone)?];
    match &peers {
        Some(peers) => arms.push(arm(Product::Kubernetes, |dir| Api::kubernetes(peers, dir))?),
        None => eprintln!("no peers: run bench/peers to compare with kube-apiserver and etcd"),
    }
    let mut report = Report::new(&[Product::Daymark, Product::Kubernetes], peers.is_none());
    let done = figures(&mut arms, &mut report);
    println!("{}", report.table());
    done
}

fn arm(product: Product, start: impl FnOnce(&std::path::Path) -> Result<Api>) -> Result<Arm> {
    let dir = tempfile::Builder::new().prefix("daymark-bench-").tempdir()?;
    Ok(Arm { product, api: start(dir.path())?, last: 0, _dir: dir })
}

fn figures(arms: &mut [Arm], report: &mut Report) -> Result<()> {
    for arm in arms.iter() {
        arm.api.create((0..OBJECTS).map(filler))?;
    }
    memory_and_idling(arms, report)?;
    kubectl(arms, report)?;
    writes(arms, report)?;
    fan_out(arms, report)
}

fn memory_and_idling(arms: &[Arm], report: &mut Report) -> Result<()> {
    std::thread::sleep(Duration::from_secs(10));
    for arm in arms {
        let parts = arm.api.resident_mib()?;
        let sum: f64 = parts.iter().map(|(_, mib)| mib).sum();
        let figure = format!("resident memory, {OBJECTS} Services + {OBJECTS} EndpointSlices");
        report.put(&figure, "≤ 250 MiB", arm.product, format!("{sum:.0} MiB"));
    }
    let before: Vec<f64> = arms.iter().map(Arm::cpu).collect::<Result<_>>()?;
    let began = Instant::now();
    std::thread::sleep(IDLE);
    for (arm, before) in arms.iter().zip(before) {
        let share = 100.0 * (arm.cpu()? - before) / began.elapsed().as_secs_f64();
        report.put("idle with them, of one processor", "≤ 0.5 %", arm.product, format!("{share:.2} %"));
    }
    Ok(())
}

/// A ratio of ours to theirs, from pairs, with its interval.
fn ratio(report: &mut Report, figure: &str, reach: &'static str, ours: &[f64], theirs: &[f64]) {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
    if ratios.is_empty() {
        return;
    }
    let (low, high) = interval(&ratios, &mut rand::rng());
    let value = format!("{:.2} [{low:.2}, {high:.2}]", median(&ratios));
    report.put(&format!("{figure}, Daymark ÷ this"), reach, Product::Kubernetes, value);
}

/// Measures all arms in random order, so many times; one list of samples per arm.
fn interleaved(
    arms: usize,
    times: usize,
    mut measure: impl FnMut(usize) -> Result<f64>,
) -> Result<Vec<Vec<f64>>> {
    let mut samples = vec![Vec::new(); arms];
    for _ in 0..times {
        let mut order: Vec<usize> = (0..arms).collect();
        order.shuffle(&mut rand::rng());
        for arm in order {
            samples[arm].push(measure(arm)?);
        }
    }
    Ok(samples)
}

fn kubectl(arms: &[Arm], report: &mut Report) -> Result<()> {
    let beside = peers().map(|peers| peers.join("kubectl")).filter(|path| path.exists());
    let program = beside.unwrap_or_else(|| PathBuf::from("kubectl"));
    let get = |arm: &Arm| {
        let mut kubectl = Command::new(&program);
        kubectl.args(["get", "services", "-A", "--no-headers", "--kubeconfig"]).arg(&arm.api.kubeconfig);
        kubectl.arg("--cache-dir").arg(arm._dir.path().join("cache")).env("NO_PROXY", "*");
        kubectl
    };
    for arm in arms {
        let lines = command(&mut get(arm))?.lines().count();
        ensure!(lines > OBJECTS, "kubectl shows {lines} Services");
    }
    let samples = interleaved(arms.len(), GETS, |n| {
        let began = Instant::now();
        let status = get(&arms[n]).stdout(Stdio::null()).status().context("kubectl")?;
        ensure!(status.success(), "kubectl get services -A failed");
        Ok(began.elapsed().as_secs_f64())
    })?;
    let figure = format!("kubectl get services -A, {OBJECTS} Services");
    for (arm, samples) in arms.iter().zip(&samples) {
        report.put(&figure, "", arm.product, format!("{:.2} s", median(samples)));
    }
    if let [ours, theirs] = &samples[..] {
        ratio(report, &figure, "≤ 1", ours, theirs);
    }
    Ok(())
}

fn fan_out(arms: &[Arm], report: &mut Report) -> Result<()> {
    let mut fans: Vec<Fanout> =
        arms.iter().map(|arm| Fanout::start(&arm.api, WATCHERS)).collect::<Result<_>>()?;
    let mut all = vec![Vec::new(); arms.len()];
    let p99s = interleaved(arms.len(), CHANGES, |n| {
        let took = fans[n].change()?;
        std::thread::sleep(Duration::from_millis(50));
        let p99 = percentile(&took, 0.99);
        all[n].extend(took);
        Ok(p99)
    })?;
    let figure = format!("one write told to {WATCHERS} watchers, p50 / p99");
    for (arm, took) in arms.iter().zip(&all) {
        let value = format!("{:.1} / {:.1} ms", median(took), percentile(took, 0.99));
        report.put(&figure, "p99 ≤ 20 ms", arm.product, value);
    }
    if let [ours, theirs] = &p99s[..] {
        ratio(report, "a write's p99 among its watchers", "", ours, theirs);
    }
    Ok(())
}

/// Creates and then updates EndpointSlices, many requests at a time.
fn writes(arms: &mut [Arm], report: &mut Report) -> Result<()> {
    let mut updates = vec![Vec::new(); arms.len()];
    let mut seconds = vec![[0.0; 2]; arms.len()];
    let creates = interleaved(arms.len(), SLICES, |n| {
        let arm = &mut arms[n];
        arm.last += 1;
        let slices: Vec<(String, Value)> = (0..WRITES).map(|i| slice(arm.last * WRITES + i)).collect();
        let (made, create, wall) = measured(arm, "POST", slices)?;
        seconds[n][0] += wall;
        let changed = made.into_iter().map(|mut object| {
            let path = format!("{SLICES_PATH}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
            object["endpoints"][0]["conditions"]["ready"] = json!(false);
            (path, object)
        });
        let (_, update, wall) = measured(arm, "PUT", changed.collect())?;
        seconds[n][1] += wall;
        updates[n].push(update);
        Ok(create)
    })?;
    #[allow(clippy::cast_precision_loss, reason = "thousands")]
    let written = (SLICES * WRITES) as f64;
    for (at, (what, samples)) in [("creates", &creates), ("updates", &updates)].into_iter().enumerate() {
        let figure = format!("durable {what} per second of processor time");
        for ((arm, samples), seconds) in arms.iter().zip(samples).zip(&seconds) {
            report.put(&figure, "", arm.product, format!("{:.0}", median(samples)));
            let rate = format!("{:.0}", written / seconds[at]);
            report.put(&format!("durable {what} per second, 24 at a time"), "", arm.product, rate);
        }
        if let [ours, theirs] = &samples[..] {
            ratio(report, &figure, "≥ 3", ours, theirs);
        }
    }
    Ok(())
}

const SLICES_PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// An EndpointSlice that is not among the first.
fn slice(number: usize) -> (String, Value) {
    let (path, mut slice) = filler(OBJECTS + number).pop().unwrap_or_default();
    slice["metadata"]["name"] = json!(format!("written-{number}"));
    (path, slice)
}

/// Answers, writes per second of processor time, and seconds that they took.
fn measured(arm: &Arm, method: &str, requests: Vec<(String, Value)>) -> Result<(Vec<Value>, f64, f64)> {
    std::thread::sleep(SETTLE);
    let (before, began) = (arm.cpu()?, Instant::now());
    let answers = arm.api.send_all(method, requests)?;
    let wall = began.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    #[allow(clippy::cast_precision_loss, reason = "thousands")]
    let per_second = answers.len() as f64 / (arm.cpu()? - before);
    Ok((answers, per_second, wall))
}
