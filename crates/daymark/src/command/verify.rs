//! `daymark verify`: whether the kernel holds what the API says it should.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use daymark_dataplane::{Inspection, LinkView, needed_programs};
use daymark_plan::tables::{Op, ServiceEntry, ServiceId, Tables};
use miette::{IntoDiagnostic, Result};
use serde::Serialize;

use super::observe::{self, Place, name_of};
use super::table;
use crate::cli::Observed;
use crate::say::say;

/// Changes on their way get so many looks, so far apart.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    node: String,
    object: String,
    field: &'static str,
    have: String,
    want: String,
}

/// 0: equal; 1: different; 2: cannot tell.
pub async fn run(args: &Observed) -> Result<ExitCode> {
    match differences(args).await {
        Ok((checked, found)) => {
            print(args, checked, &found)?;
            Ok(ExitCode::from(u8::from(!found.is_empty())))
        }
        Err(why) => {
            eprintln!("{}", crate::told(&why));
            Ok(ExitCode::from(2))
        }
    }
}

/// How many frontends were checked, and what is wrong on any node.
async fn differences(args: &Observed) -> Result<(usize, Vec<Difference>)> {
    let mut all = Vec::new();
    let mut checked = 0;
    for place in observe::places(args)? {
        let mut found = Vec::new();
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
            let inspection = place.inspect()?;
            found = compare(args, &place, &inspection).await?;
            if found.is_empty() || look == LOOKS - 1 {
                checked += inspection.tables().frontends.len();
                break;
            }
        }
        all.extend(found);
    }
    Ok((checked, all))
}

async fn compare(args: &Observed, place: &Place, inspection: &Inspection) -> Result<Vec<Difference>> {
    let have = inspection.tables();
    let (planner, ops) = observe::plan(args, &place.node, have).await?;
    let names = observe::names(&planner);
    let mut found: Vec<Difference> = ops.iter().map(|op| difference(&place.node, have, &names, op)).collect();
    for id in inspection.wrong_maglev_tables().into_diagnostic()? {
        found.push(Difference {
            node: place.node.clone(),
            object: name_of(&names, id),
            field: "Maglev table",
            have: "another one".into(),
            want: "the one that its backends lead to".into(),
        });
    }
    let config = observe::config(args, place, &planner)?;
    for misknown in inspection.misknown(&config).into_diagnostic()? {
        found.push(Difference {
            node: place.node.clone(),
            object: misknown.what,
            field: "network or setting",
            have: misknown.have,
            want: misknown.want,
        });
    }
    let links = inspection.links().into_diagnostic()?;
    found.extend(link_differences(&place.node, &links));
    Ok(found)
}

fn link_differences(node: &str, links: &[LinkView]) -> Vec<Difference> {
    let wrong = |object: String, have: &str| Difference {
        node: node.to_owned(),
        object,
        field: "program",
        have: have.to_owned(),
        want: "attached".into(),
    };
    let dead = links.iter().filter(|link| !link.alive);
    let dead = dead.map(|link| wrong(format!("{} on {}", link.program, link.target), "its target is gone"));
    let missing = needed_programs().filter(|name| !links.iter().any(|link| link.program == *name));
    dead.chain(missing.map(|name| wrong(name.to_owned(), "nowhere"))).collect()
}

/// An operation that would have to be carried out says what is different.
fn difference(node: &str, have: &Tables, names: &BTreeMap<ServiceId, String>, op: &Op) -> Difference {
    let none = || "nothing".to_owned();
    let describe = |object: String, field, have: String, want: String| Difference {
        node: node.to_owned(),
        object,
        field,
        have,
        want,
    };
    let backends = |id| have.services.get(id).map_or_else(none, entry_in_words);
    let ranges = |id| have.source_ranges.get(id).map_or_else(none, |ranges| format!("{ranges:?}"));
    let led = |key| {
        let frontend = have.frontends.get(key);
        frontend.map_or_else(none, |f| frontend_in_words(names, f))
    };
    match op {
        Op::PutService { id, entry } => {
            describe(name_of(names, *id), "backends", backends(id), entry_in_words(entry))
        }
        Op::DeleteService { id } => describe(name_of(names, *id), "backends", backends(id), none()),
        Op::PutFrontend { key, frontend } => {
            let address = SocketAddr::new(key.ip, key.port);
            let want = frontend_in_words(names, frontend);
            describe(format!("{address}/{}", key.protocol), "frontend", led(key), want)
        }
        Op::DeleteFrontend { key } => {
            let address = SocketAddr::new(key.ip, key.port);
            describe(format!("{address}/{}", key.protocol), "frontend", led(key), none())
        }
        Op::PutClusterIp { ip } => describe(ip.to_string(), "cluster IP", none(), "known".into()),
        Op::DeleteClusterIp { ip } => describe(ip.to_string(), "cluster IP", "known".into(), none()),
        Op::PutSourceRanges { id, ranges: want } => {
            describe(name_of(names, *id), "source ranges", ranges(id), format!("{want:?}"))
        }
        Op::DeleteSourceRanges { id } => describe(name_of(names, *id), "source ranges", ranges(id), none()),
    }
}

fn frontend_in_words(
    names: &BTreeMap<ServiceId, String>,
    frontend: &daymark_plan::tables::Frontend,
) -> String {
    let policy = if frontend.local_only { ", policy Local" } else { "" };
    let checked = if frontend.source_checked { ", source checked" } else { "" };
    format!("{:?} of {}{policy}{checked}", frontend.kind, name_of(names, frontend.service))
}

fn entry_in_words(entry: &ServiceEntry) -> String {
    let slots: Vec<String> =
        entry.slots.iter().map(|slot| SocketAddr::new(slot.ip, slot.port).to_string()).collect();
    let mut text = if slots.is_empty() { "no backend".to_owned() } else { slots.join(" ") };
    text += &format!(" ({} for policy Local, from {} for Cluster)", entry.n_local, entry.cluster_from);
    if entry.affinity_seconds > 0 {
        text += &format!(", affinity {} s", entry.affinity_seconds);
    }
    if !entry.draining.is_empty() {
        text += &format!(", {} draining", entry.draining.len());
    }
    if entry.maglev { text + ", Maglev" } else { text }
}

fn print(args: &Observed, checked: usize, found: &[Difference]) -> Result<()> {
    if args.output == "json" {
        say!("{}", serde_json::to_string_pretty(found).into_diagnostic()?);
        return Ok(());
    }
    if found.is_empty() {
        say!("The kernel holds what the API says: {checked} frontends checked.");
        return Ok(());
    }
    let mut table = table(["NODE", "OBJECT", "FIELD", "HAVE", "WANT"]);
    for Difference { node, object, field, have, want } in found {
        table.add_row([node.as_str(), object, field, have, want]);
    }
    say!("{}", table.trim_fmt());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(program: &'static str, alive: bool) -> LinkView {
        LinkView { program, target: "interface 7".into(), alive }
    }

    #[test]
    fn a_program_that_is_nowhere_or_on_nothing_is_a_difference() {
        let mut links: Vec<LinkView> = needed_programs().map(|program| link(program, true)).collect();
        assert_eq!(link_differences("n1", &links), []);
        let found = link_differences("n1", &links[1..]);
        assert_eq!((found.len(), found[0].object.as_str()), (1, "connect4"));
        links[9].alive = false;
        let found = link_differences("n1", &links);
        assert_eq!((found.len(), found[0].object.as_str()), (1, "uplink on interface 7"));
    }

    #[test]
    fn an_entry_of_other_backends_is_told_with_both() {
        let slot = |last| daymark_plan::tables::Slot { ip: [10, 0, 0, last].into(), port: 80, local: false };
        let entry = |last| ServiceEntry { slots: vec![slot(last)], ..ServiceEntry::default() };
        let have = Tables { services: BTreeMap::from([(1, entry(1))]), ..Tables::default() };
        let names = BTreeMap::from([(1, "default/web:80/TCP".to_owned())]);
        let told = difference("n1", &have, &names, &Op::PutService { id: 1, entry: entry(2) });
        assert_eq!(told.object, "default/web:80/TCP");
        assert!(told.have.starts_with("10.0.0.1:80") && told.want.starts_with("10.0.0.2:80"), "{told:?}");
    }
}
