//! The figures of issue and README, each from one interleaved run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use serde_json::Value;

use crate::api::Api;
use crate::arms::{Arm, Effort, Ratio, measure};
use crate::dialer::{Dialer, Exchange, now};
use crate::lan::{backend, through};
use crate::objects::{change, filler_address, side_prefix};
use crate::report::{Product, Report};
use crate::servers;
use crate::space;
use crate::stats::{median, percentile};
use crate::suite::{CHURNED, Suite};

/// The node port of a node whose backend is on it; that with a backend on another is this much further.
pub fn node_port(node: &str) -> Option<u16> {
    let products = [Product::Daymark, Product::Nftables, Product::Iptables];
    products.into_iter().zip(30_081..).find(|(product, _)| product.node() == node).map(|(_, port)| port)
}
pub const FAR_PORTS: u16 = 10;
/// Bytes of one transfer.
const TRANSFER: u64 = 64 << 20;
/// Changes a second of the churn.
const RATE: u32 = 1000;

/// Cluster IPs of Services with a purpose.
pub fn special_ip(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 1, 0)) + u32::try_from(number).unwrap_or(0))
}

fn special(number: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(special_ip(number)), 80)
}

/// The nodes' number among the dialers.
const BARE: usize = 0;
const AGAIN: usize = 1;

fn products(suite: &Suite) -> Vec<(Product, usize)> {
    let mut all = vec![Product::Daymark];
    all.extend(&suite.ruled);
    let number = |product: Product| suite.lan.nodes.iter().position(|n| n.name == product.node());
    all.into_iter().filter_map(|product| Some((product, number(product)?))).collect()
}

fn dialers(suite: &mut Suite) -> Vec<&mut Dialer> {
    let nodes = suite.lan.nodes.iter_mut().map(|n| &mut n.client);
    nodes.chain([&mut suite.lan.laptop]).collect()
}

/// A second bare node against the first: both do the same, so a ratio beside 1 is the machine's fault.
fn a_a(report: &mut Report, of: &str, ratio: Ratio) {
    let verdict = if (0.98..=1.02).contains(&ratio.value) { "" } else { " VOID" };
    report.put(&format!("A/A: {of}"), "0.98 to 1.02", Product::Daymark, format!("{ratio}{verdict}"));
}

pub fn connects(suite: &mut Suite, size: usize) -> Result<()> {
    let products = products(suite);
    let mut rng = rand::rng();
    let effort = suite.plan.connects;
    let drawn: Vec<usize> = (0..effort.slices).map(|_| rng.random_range(0..size)).collect();
    let mut arms = vec![Arm::new(BARE, backend), Arm::new(AGAIN, backend)];
    for (_, node) in &products {
        let drawn = drawn.clone();
        arms.push(Arm::new(*node, backend));
        arms.push(Arm::new(*node, move |slice| filler_address(drawn[slice])));
    }
    let times = measure(&mut dialers(suite), &arms, Exchange::Connect, effort)?;
    let ours = &times[3];
    let report = &mut suite.report;
    for (i, (product, _)) in products.iter().enumerate() {
        let (direct, service) = (&times[2 + 2 * i], &times[3 + 2 * i]);
        let p50 = service.p50(direct);
        report.put(
            &format!("connect p50 ÷ direct, {size} Services"),
            "≤ 1.03, interval ≤ 1.04",
            *product,
            p50,
        );
        report.put(
            &format!("connect p99 ÷ direct, {size} Services"),
            "≤ 1.10",
            *product,
            service.p99(direct),
        );
        let untouched = direct.p50(&times[BARE]);
        report.put(
            &format!("connect to no Service ÷ not installed, {size} Services"),
            "≤ 1.015",
            *product,
            untouched,
        );
        if *product == Product::Daymark {
            if let Some(first) = suite.first {
                let growth = Ratio {
                    value: p50.value / first.value,
                    low: p50.low / first.high,
                    high: p50.high / first.low,
                };
                report.put(
                    &format!("connect, {size} Services ÷ {}", suite.plan.sizes[0]),
                    "≤ 1.005",
                    *product,
                    growth,
                );
            }
            suite.first = suite.first.or(Some(p50));
        } else {
            report.put(&format!("connect, Daymark ÷ this, {size} Services"), "", *product, ours.p50(service));
        }
    }
    let micros = format!("{:.1} µs direct on a bare node", times[BARE].median_us());
    a_a(report, &format!("connect, {size} Services ({micros})"), times[AGAIN].p50(&times[BARE]));
    Ok(())
}

/// From the LAN's host; the base is a pod at the same place, dialled through a bare node.
pub fn node_ports(suite: &mut Suite, place: &str, further: u16) -> Result<()> {
    let products = products(suite);
    let laptop = suite.lan.nodes.len();
    let direct = |suite: &Suite, node: usize| match further {
        0 => SocketAddr::new(suite.lan.nodes[node].server_ip(), servers::ANSWER),
        _ => SocketAddr::new(through(node), servers::ANSWER),
    };
    let (bare, again) = (direct(suite, BARE), direct(suite, AGAIN));
    let mut arms = vec![Arm::new(laptop, move |_| bare), Arm::new(laptop, move |_| again)];
    for (product, node) in &products {
        let port = node_port(product.node()).context("a node port")? + further;
        let target = SocketAddr::new(suite.lan.nodes[*node].ip(), port);
        suite.lan.laptop.reach(target).with_context(|| format!("node port of {}", product.node()))?;
        arms.push(Arm::new(laptop, move |_| target));
    }
    let effort = suite.plan.requests;
    let times = measure(&mut dialers(suite), &arms, Exchange::Request, effort)?;
    let report = &mut suite.report;
    for (i, (product, _)) in products.iter().enumerate() {
        let port = &times[2 + i];
        let row = |what: &str| format!("node port request {what}, pod on {place}");
        report.put(&row("p50 ÷ routed"), "≤ 1.10", *product, port.p50(&times[BARE]));
        report.put(&row("p99 ÷ routed"), "≤ 1.3", *product, port.p99(&times[BARE]));
        let all = effort.slices * effort.per_slice;
        report.put(&row(&format!("lost a packet, of {all}")), "0", *product, port.stalls());
        if i > 0 {
            report.put(&row("p50, Daymark ÷ this"), "≤ 0.9", *product, times[2].p50(port));
        }
    }
    a_a(report, &format!("node port, pod on {place}"), times[AGAIN].p50(&times[BARE]));
    Ok(())
}

pub fn throughput(suite: &mut Suite) -> Result<()> {
    let products = products(suite);
    let direct = |_| SocketAddr::new(backend(0).ip(), servers::SEND);
    let mut arms = vec![Arm::new(BARE, direct), Arm::new(AGAIN, direct)];
    for (_, node) in &products {
        arms.push(Arm::new(*node, direct));
        arms.push(Arm::new(*node, |_| special(2)));
    }
    let effort = Effort { slices: suite.plan.transfers, per_slice: 1, warm_up: 0 };
    let times = measure(&mut dialers(suite), &arms, Exchange::Bulk(TRANSFER), effort)?;
    for (i, (product, _)) in products.iter().enumerate() {
        // More time is less throughput.
        let ratio = times[2 + 2 * i].p50(&times[3 + 2 * i]);
        suite.report.put("throughput through a Service ÷ direct", "≥ 0.99", *product, ratio);
    }
    a_a(&mut suite.report, "throughput", times[AGAIN].p50(&times[BARE]));
    Ok(())
}

/// How long changes of all endpoints of the probe take to be obeyed, and to be answered, in milliseconds.
fn change_times(
    api: &Api,
    client: &mut Dialer,
    changes: usize,
    side: &mut usize,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut obeyed, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..changes {
        *side += 1;
        client.watch(special(1), &side_prefix(*side), Duration::from_secs(120))?;
        let (path, patch) = change("probe", *side);
        let sent = now();
        api.send("PATCH", &path, Some(&patch))?;
        answered.push((now() - sent) * 1e3);
        obeyed.push((client.obeyed()? - sent) * 1e3);
    }
    Ok((obeyed, answered))
}

pub fn p50_p99(ms: &[f64]) -> String {
    format!("{:.1} / {:.1} ms", median(ms), percentile(ms, 0.99))
}

fn differences(later: &[f64], earlier: &[f64]) -> Vec<f64> {
    later.iter().zip(earlier).map(|(later, earlier)| later - earlier).collect()
}

pub fn changes(suite: &mut Suite, size: usize) -> Result<()> {
    let node = suite.lan.node("daymark").context("our node")?;
    let (obeyed, answered) = change_times(&suite.api, &mut node.client, suite.plan.changes, &mut suite.side)?;
    let report = &mut suite.report;
    let row = format!("endpoint change obeyed, {size} Services, p50 / p99");
    report.put(&row, "p99 ≤ 5 ms + fsync", Product::Daymark, p50_p99(&obeyed));
    let row = format!("the same change answered by {}, {size} Services", suite.api.name);
    report.put(&row, "", Product::Daymark, p50_p99(&answered));
    let row = format!("from that answer to obeyed, {size} Services");
    report.put(&row, "p99 ≤ 5 ms", Product::Daymark, p50_p99(&differences(&obeyed, &answered)));
    Ok(())
}

pub fn rival_changes(suite: &mut Suite, product: Product, size: usize) -> Result<()> {
    let node = suite.lan.node(product.node()).context("its node")?;
    let (obeyed, _) = change_times(&suite.api, &mut node.client, suite.plan.rival_changes, &mut suite.side)?;
    let row = format!("endpoint change obeyed, {size} Services, p50 / p99");
    suite.report.put(&row, "p99 ≤ 5 ms + fsync", product, p50_p99(&obeyed));
    Ok(())
}

/// Many changes a second; afterwards every Service must do what the API says.
pub fn churn(suite: &mut Suite) -> Result<()> {
    let total = suite.plan.churn.as_secs() * u64::from(RATE);
    let patches =
        (0..usize::try_from(total)?).map(|i| change(&format!("churned-{}", i % CHURNED), i / CHURNED + 1));
    let agent = suite.agent.as_ref().context("the agent")?;
    let node = suite.lan.node("daymark").context("our node")?;
    let (api, side) = (&suite.api, &mut suite.side);
    let used = || {
        let mut all = vec![("agent", agent.cpu_seconds()?), ("bench", space::own_cpu_seconds()?)];
        all.extend(api.cpu_seconds()?);
        Ok::<_, anyhow::Error>(all)
    };
    let before = used()?;
    let ((obeyed, answered), (failed, took)) = std::thread::scope(|scope| {
        let churn = scope.spawn(|| api.patch_at_rate(patches.collect(), RATE));
        let mut meanwhile = (Vec::new(), Vec::new());
        while !churn.is_finished() {
            let (obeyed, answered) = change_times(api, &mut node.client, 1, side)?;
            meanwhile.0.extend(obeyed);
            meanwhile.1.extend(answered);
            std::thread::sleep(Duration::from_millis(20));
        }
        let done = churn.join().map_err(|_| anyhow::anyhow!("the churn panicked"))?;
        Ok::<_, anyhow::Error>((meanwhile, done))
    })?;
    let after = used()?;
    std::thread::sleep(Duration::from_millis(200));
    let lost = lost(api, &mut node.client)?;
    #[allow(clippy::cast_precision_loss, reason = "counts")]
    let rate = total as f64 / took.as_secs_f64();
    let report = &mut suite.report;
    let row = format!("{total} endpoint changes: per second, refused by the API");
    report.put(&row, "1,000", Product::Daymark, format!("{rate:.0}, {failed}"));
    report.put("Services that do not obey afterwards", "0", Product::Daymark, lost);
    report.put("a change meanwhile obeyed, p50 / p99", "", Product::Daymark, p50_p99(&obeyed));
    let beyond = p50_p99(&differences(&obeyed, &answered));
    report.put("from the API's answer to obeyed, meanwhile", "p99 ≤ 20 ms", Product::Daymark, beyond);
    let shares = before.iter().zip(&after).map(|((who, before), (_, after))| {
        format!("{who} {:.0} %", (after - before) / took.as_secs_f64() * 100.0)
    });
    let shares = shares.collect::<Vec<_>>().join(", ");
    report.put("processors used meanwhile, 100 % each", "", Product::Daymark, shares);
    Ok(())
}

fn lost(api: &Api, client: &mut Dialer) -> Result<usize> {
    let mut lost = 0;
    for i in 0..CHURNED {
        let (path, _) = change(&format!("churned-{i}"), 0);
        let slice = api.send("GET", &path, None)?;
        let first = slice["endpoints"][0]["addresses"][0].as_str().map(str::to_owned);
        let wanted = first.with_context(|| format!("{path}: {}", Value::to_string(&slice)))?;
        let answer = client.asks(special(100 + i))?;
        // The sides differ in the tenth address.
        lost += usize::from(answer[..answer.len() - 1] != wanted[..wanted.len() - 1]);
    }
    Ok(lost)
}
