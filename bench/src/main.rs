//! Ratios of Daymark and kube-proxy to what traffic costs without them, on this machine.
//!
//! `daymark-bench [quick|large|full|embedded|api|fanout|agent|packets|up|pods]...`; without a word, quick. Needs root and `daymark` beside this
//! program. Everything runs in network namespaces of its own. How it is measured: bench/README.md.

mod alone;
mod api;
mod apiserver;
mod arms;
mod cluster;
mod dialer;
mod embedded;
mod fanout;
mod feed;
mod figures;
mod lan;
mod objects;
mod packets;
mod products;
mod report;
mod room;
mod servers;
mod space;
mod stats;
mod suite;
mod timing;

use std::time::Duration;

use anyhow::{Result, bail};

use arms::Effort;
use report::Product;
use suite::{Plan, Suite};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["dialer", cgroup] = words[..] {
        return dialer::main(cgroup);
    }
    if let ["api-server", dir] = words[..] {
        return embedded::main(std::path::Path::new(dir));
    }
    if !room::is_inside() {
        std::process::exit(room::run_inside()?.code().unwrap_or(130));
    }
    room::settle()?;
    cluster::own_network()?;
    run(&words)
}

fn run(words: &[&str]) -> Result<()> {
    for word in if words.is_empty() { &["quick"][..] } else { words } {
        match *word {
            "quick" => suite(quick())?,
            "large" => suite(large())?,
            "full" => suite(full())?,
            "embedded" => suite(Plan { embedded: true, rivals: Vec::new(), ..full() })?,
            "api" => apiserver::run()?,
            "fanout" => apiserver::run_fan_out()?,
            "agent" => alone::run(&[1000, 10_000, 50_000], Duration::from_secs(20))?,
            "packets" => packets::run()?,
            "up" => timing::up()?,
            "pods" => timing::pods()?,
            unknown => {
                bail!(
                    "there is no benchmark {unknown:?}; there are quick, large, full, embedded, api, fanout, agent, packets, up and pods"
                )
            }
        }
    }
    Ok(())
}

fn suite(plan: Plan) -> Result<()> {
    let mut suite = Suite::start(plan)?;
    let done = suite.run();
    println!("{}", suite.report.table());
    done
}

/// Under five minutes.
fn quick() -> Plan {
    Plan {
        sizes: vec![1, 1000],
        rivals: vec![(Product::Nftables, 1000)],
        connects: Effort { slices: 300, per_slice: 50, warm_up: 5 },
        requests: Effort { slices: 100, per_slice: 50, warm_up: 5 },
        transfers: 60,
        changes: 60,
        rival_changes: 5,
        churn: Duration::from_secs(10),
        embedded: false,
    }
}

/// About five minutes.
fn large() -> Plan {
    Plan { sizes: vec![1, 10_000], rivals: vec![(Product::Nftables, 10_000)], ..quick() }
}

/// About half an hour.
fn full() -> Plan {
    Plan {
        sizes: vec![1, 1000, 10_000, 50_000],
        rivals: vec![(Product::Nftables, 10_000), (Product::Iptables, 10_000)],
        requests: Effort { slices: 300, per_slice: 50, warm_up: 5 },
        changes: 200,
        rival_changes: 10,
        churn: Duration::from_secs(60),
        ..quick()
    }
}

/// One line of what is not a ratio.
pub fn row(figure: &str, value: &str, note: &str) {
    println!("{figure:<58} {value:>12}  {note}");
}
