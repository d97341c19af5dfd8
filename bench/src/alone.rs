//! The agent alone: what it costs to start among many Services and to follow many changes, fed by a prepared stream
//! instead of an API server, whose own work would hide it on few processors.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::dialer::now;
use crate::feed::{self, Feed};
use crate::figures::{p50_p99, special_ip};
use crate::lan::Lan;
use crate::objects::{Wanted, filler_wanted, side_endpoints, side_prefix};
use crate::products::{self, Pins};
use crate::report::{Product, Report};
use crate::servers;
use crate::suite::{CHURNED, programmed, special};

const RATE: u32 = 1000;

/// One row of figures for each number of Services.
pub fn run(sizes: &[usize], churn: Duration) -> Result<()> {
    let mut lan = Lan::new(&["daymark"])?;
    let dir = tempfile::Builder::new().prefix("daymark-bench-").tempdir()?;
    let pins = Pins::new(dir.path());
    let mut report = Report::new(&[Product::Daymark], false);
    for size in sizes {
        one(&mut lan, dir.path(), &pins, &mut report, *size, churn)?;
        pins.clear();
    }
    println!("{}", report.table());
    Ok(())
}

fn one(
    lan: &mut Lan,
    dir: &std::path::Path,
    pins: &Pins,
    report: &mut Report,
    size: usize,
    churn: Duration,
) -> Result<()> {
    let node = lan.node("daymark").context("our node")?;
    let churned: Vec<String> = (0..CHURNED).map(|i| format!("churned-{i}")).collect();
    let fillers: Vec<String> = (0..size).map(|i| format!("filler-{i:05}")).collect();
    let mut wanted: Vec<Wanted<'_>> = vec![special("probe", 1, servers::ANSWER, side_endpoints(0))];
    for (i, name) in churned.iter().enumerate() {
        wanted.push(special(name, 100 + i, servers::ANSWER, side_endpoints(0)));
    }
    wanted.extend(fillers.iter().enumerate().map(|(i, name)| filler_wanted(i, name)));
    let feed = Feed::start(&wanted, node.name, node.ip())?;
    let kubeconfig = feed::kubeconfig(&feed, dir)?;
    drop(wanted);

    let began = Instant::now();
    let agent = products::agent(node, &kubeconfig, pins, dir)?;
    programmed(&mut node.client, size)
        .with_context(|| std::fs::read_to_string(dir.join("agent.log")).unwrap_or_default())?;
    let took = began.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(1));
    let figure = |what: &str| format!("agent alone, {size} Services: {what}");
    let started = format!("{:.2} s CPU, {took:.2} s in all", agent.cpu_seconds()?);
    report.put(
        &figure("start"),
        if size == 50_000 { "≤ 1.5 s of CPU" } else { "" },
        Product::Daymark,
        started,
    );
    let memory = format!("{:.0} + maps {:.0} MiB", agent.resident_mib()?, agent.maps_mib()?);
    let reach = match size {
        50_000 => "≤ 200 MiB together",
        10_000 => "≤ 64 MiB together",
        _ => "",
    };
    report.put(&figure("resident memory"), reach, Product::Daymark, memory);

    let total = usize::try_from(churn.as_secs() * u64::from(RATE))?;
    let changes = (0..total).map(|i| {
        let side = side_endpoints(i / CHURNED + 1);
        Feed::prepare(&churned[i % CHURNED], &side, servers::ANSWER, i + 2)
    });
    let changes = changes.collect::<Result<_>>()?;
    let before = agent.cpu_seconds()?;
    let (mut obeyed, mut side) = (Vec::new(), 0);
    let took = std::thread::scope(|scope| {
        let churning = scope.spawn(|| feed.change_at_rate(changes, RATE));
        while !churning.is_finished() {
            side += 1;
            node.client.watch(probe(), &side_prefix(side), Duration::from_secs(60))?;
            let sent = now();
            feed.change("probe", &side_endpoints(side), servers::ANSWER, side + 1)?;
            obeyed.push((node.client.obeyed()? - sent) * 1e3);
            std::thread::sleep(Duration::from_millis(20));
        }
        churning.join().map_err(|_| anyhow::anyhow!("the churn panicked"))
    })?;
    let cpu = agent.cpu_seconds()? - before;
    std::thread::sleep(Duration::from_millis(200));
    let mut lost = 0;
    for i in 0..CHURNED {
        let last = (total - CHURNED + i) / CHURNED + 1;
        let answer = node.client.asks(SocketAddr::new(IpAddr::V4(special_ip(100 + i)), 80))?;
        lost += usize::from(!answer.starts_with(&side_prefix(last)));
    }
    ensure!(total > 0, "no changes");
    #[allow(clippy::cast_precision_loss, reason = "counts")]
    let (rate, each) = (total as f64 / took.as_secs_f64(), cpu * 1e6 / (total + obeyed.len()) as f64);
    report.put(&figure("changes a second; lost"), "1,000; 0", Product::Daymark, format!("{rate:.0}; {lost}"));
    report.put(
        &figure("a change meanwhile obeyed, p50 / p99"),
        "p99 ≤ 20 ms",
        Product::Daymark,
        p50_p99(&obeyed),
    );
    report.put(&figure("CPU of a change"), "≤ 300 µs", Product::Daymark, format!("{each:.0} µs"));
    Ok(())
}

fn probe() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(special_ip(1)), 80)
}
