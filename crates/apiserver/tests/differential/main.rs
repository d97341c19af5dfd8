//! The same requests go to this API server and to the real kube-apiserver; answers agree but for a listed set.
//!
//! `data/operations.yml` × `data/minimal.yml` and `data/requests/*.yml` are requests, `data/kubectl/*.sh` command lines,
//! `data/accepted.yml` the differences that are meant, each with its reason. Needs `KUBEBUILDER_ASSETS`, a folder with
//! `etcd` and `kube-apiserver`; skips without, and says so. `DAYMARK_DIFFERENCES=N` shows up to N differences (40),
//! `DAYMARK_GROUPS=A,B` asks these groups of requests alone.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod accepted;
mod case;
mod compare;
mod generate;
mod kubectl;
mod normalise;
mod peer;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use accepted::Accepted;
use case::Case;
use compare::{Difference, compare};
use futures::StreamExt;
use peer::{Peer, Session};
use support::Cluster;

/// Groups of requests that run beside each other.
const SIDE_BY_SIDE: usize = 4;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/data").join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_agree_with_kubernetes() {
    let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
        eprintln!("\n!!! SKIPPED: KUBEBUILDER_ASSETS does not name a folder with etcd and kube-apiserver\n");
        return;
    };
    let cluster = Cluster::start().await;
    let ours = Peer::ours(&cluster);
    let theirs = Peer::theirs(&cluster, &assets).await;
    let mut groups = generate::groups();
    groups.extend(case::files(&data("requests")));
    let only = std::env::var("DAYMARK_GROUPS").ok();
    groups.retain(|(name, _)| only.as_ref().is_none_or(|only| only.split(',').any(|one| one == name)));
    let count: usize = groups.iter().map(|(_, cases)| cases.len()).sum();
    let run = |(name, cases): (String, Vec<Case>)| group(&ours, &theirs, name, cases);
    let found: Vec<Vec<Difference>> =
        futures::stream::iter(groups.into_iter().map(run)).buffer_unordered(SIDE_BY_SIDE).collect().await;
    let mut found: Vec<Difference> = found.into_iter().flatten().collect();
    let (lines, more) = match only {
        Some(_) => (0, Vec::new()),
        None => kubectl::run_all(&data("kubectl"), &ours, &theirs).await,
    };
    found.extend(more);
    eprintln!("{count} requests and {lines} command lines, {} differences", found.len());
    let mut accepted = Accepted::read(&data("accepted.yml"));
    let left: Vec<Difference> = found.into_iter().filter(|difference| !accepted.takes(difference)).collect();
    for unused in accepted.unused().filter(|_| lines > 0) {
        eprintln!("accepted, but does not occur: {unused}");
    }
    assert!(left.is_empty(), "{}", compare::report(&left));
}

/// Runs the cases of a group one after the other on both sides.
async fn group(ours: &Peer, theirs: &Peer, name: String, cases: Vec<Case>) -> Vec<Difference> {
    let (mut mine, mut real) = (Session::new(ours), Session::new(theirs));
    let mut found = Vec::new();
    for case in &cases {
        let (a, b) = tokio::join!(mine.ask(case), real.ask(case));
        found.extend(compare(&name, case, &a, &b));
    }
    found
}
