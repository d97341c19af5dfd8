//! `daymark top services`: who is asked how often, as the kernel counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use daymark_dataplane::ServiceStats;
use daymark_plan::tables::ServiceId;
use miette::{IntoDiagnostic, Result};
use serde::Serialize;

use super::observe::{self, Place};
use super::table;
use crate::cli::{Sort, TopServices};
use crate::say::say;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
    connections: u64,
    connections_per_second: f64,
    refusals: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// Counts by Service port and, if asked for, by backend.
type Counted = BTreeMap<(String, Option<String>), ServiceStats>;

pub async fn run(args: &TopServices) -> Result<()> {
    let (mut before, mut at) = (count(args).await?, Instant::now());
    loop {
        tokio::time::sleep(Duration::from_secs_f64(args.interval)).await;
        let after = count(args).await?;
        // Asking for names takes its time, too.
        show(args, &before, &after, at.elapsed().as_secs_f64())?;
        (before, at) = (after, Instant::now());
        if !args.watch {
            return Ok(());
        }
    }
}

fn show(args: &TopServices, before: &Counted, after: &Counted, seconds: f64) -> Result<()> {
    let mut rows = rows(before, after, seconds);
    if let Some(namespace) = &args.namespace {
        rows.retain(|row| row.service.split('/').next() == Some(namespace));
    }
    sort(&mut rows, args.sort);
    if args.observed.output == "json" {
        say!("{}", serde_json::to_string_pretty(&rows).into_diagnostic()?);
    } else {
        print(&rows, args.backends);
    }
    Ok(())
}

async fn count(args: &TopServices) -> Result<Counted> {
    let mut counted = Counted::new();
    for place in observe::places(&args.observed)? {
        for (key, stats) in count_place(args, &place).await? {
            let sum = counted.entry(key).or_default();
            *sum = sum.plus(stats);
        }
    }
    Ok(counted)
}

async fn count_place(args: &TopServices, place: &Place) -> Result<Counted> {
    let inspection = place.inspect()?;
    let names = observe::names_if_known(&args.observed, place, inspection.tables()).await;
    if args.backends {
        let stats = inspection.meters.backend_stats().into_diagnostic()?;
        let named = |((id, backend), stats): ((u32, std::net::SocketAddr), _)| {
            ((label(&place.node, &names, id), Some(backend.to_string())), stats)
        };
        return Ok(stats.into_iter().map(named).collect());
    }
    let stats = inspection.meters.service_stats().into_diagnostic()?;
    let mut counted: Counted =
        stats.into_iter().map(|(id, stats)| ((label(&place.node, &names, id), None), stats)).collect();
    // Those that nobody has asked yet.
    for id in inspection.tables().services.keys() {
        counted.entry((label(&place.node, &names, *id), None)).or_default();
    }
    Ok(counted)
}

/// Nodes number Services for themselves: without a name, the same number of two nodes is not one Service.
fn label(node: &str, names: &BTreeMap<ServiceId, String>, id: ServiceId) -> String {
    names.get(&id).cloned().unwrap_or_else(|| format!("{node}#{id}"))
}

fn rows(before: &Counted, after: &Counted, seconds: f64) -> Vec<Row> {
    let row = |((service, backend), stats): (&(String, Option<String>), &ServiceStats)| {
        let earlier = before.get(&(service.clone(), backend.clone())).copied().unwrap_or_default();
        let new = stats.connections.saturating_sub(earlier.connections);
        Row {
            service: service.clone(),
            backend: backend.clone(),
            connections: stats.connections,
            connections_per_second: new as f64 / seconds,
            refusals: stats.refusals,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
        }
    };
    after.iter().map(row).collect()
}

/// The most first; equals by name.
fn sort(rows: &mut [Row], by: Sort) {
    rows.sort_by_key(|row| {
        let most = match by {
            Sort::Connections => row.connections,
            Sort::Rate => (row.connections_per_second * 1000.0) as u64,
            Sort::Bytes => row.bytes_in + row.bytes_out,
            Sort::Refusals => row.refusals,
        };
        (std::cmp::Reverse(most), row.service.clone(), row.backend.clone())
    });
}

/// In the largest unit that leaves a whole number before the point.
fn bytes(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", units[unit]) }
}

fn print(rows: &[Row], backends: bool) {
    let columns = ["SERVICE", "BACKEND", "CONNECTIONS", "PER SECOND", "REFUSED", "BYTES IN", "BYTES OUT"];
    let mut table = table(columns);
    if !backends && let Some(column) = table.column_mut(1) {
        column.set_constraint(comfy_table::ColumnConstraint::Hidden);
    }
    for row in rows {
        table.add_row([
            row.service.clone(),
            row.backend.clone().unwrap_or_default(),
            row.connections.to_string(),
            format!("{:.1}", row.connections_per_second),
            row.refusals.to_string(),
            bytes(row.bytes_in),
            bytes(row.bytes_out),
        ]);
    }
    say!("{}", table.trim_fmt());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_came_in_the_interval() {
        let key = ("default/web:80/TCP".to_owned(), None);
        let at = |connections| {
            Counted::from([(key.clone(), ServiceStats { connections, ..ServiceStats::default() })])
        };
        let rows = rows(&at(10), &at(30), 2.0);
        assert_eq!((rows[0].connections, rows[0].connections_per_second), (30, 10.0));
    }

    #[test]
    fn the_most_comes_first() {
        let row = |name: &str, refusals, bytes_in| Row {
            service: name.into(),
            refusals,
            bytes_in,
            ..Row::default()
        };
        let mut all = [row("a", 1, 5), row("b", 3, 1), row("c", 1, 9)];
        sort(&mut all, Sort::Refusals);
        assert_eq!(all.each_ref().map(|r| r.service.as_str()), ["b", "a", "c"]);
        sort(&mut all, Sort::Bytes);
        assert_eq!(all.each_ref().map(|r| r.service.as_str()), ["c", "a", "b"]);
    }

    #[test]
    fn bytes_are_told_in_units() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }
}
