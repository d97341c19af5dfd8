//! Figures of a cluster on this machine, each with what it is measured against.
//!
//! `daymark-bench [up|pods|change|connect]...`; without a word, all of them. Needs root, `daymark` beside this
//! program, and `kubectl`. Everything runs in a network namespace of its own.

mod arms;
mod cluster;
mod connect;
mod stats;
mod timing;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let all = ["up", "pods", "change", "connect"];
    if let Some(unknown) = asked.iter().find(|a| !all.contains(&a.as_str())) {
        bail!("there is no benchmark {unknown:?}; there are {all:?}");
    }
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|a| a == name);
    cluster::own_network()?;
    println!("{:<58} {:>12}  note", "figure", "value");
    if wanted("up") {
        timing::up()?;
    }
    if wanted("pods") {
        timing::pods()?;
    }
    if wanted("change") {
        timing::change()?;
    }
    if wanted("connect") {
        connect::run()?;
    }
    Ok(())
}

/// One line of the report.
pub fn row(figure: &str, value: &str, note: &str) {
    println!("{figure:<58} {value:>12}  {note}");
}
