//! Watches over HTTP that begin anywhere and go on over restarts of the server and over compaction:
//! what they are told is the store's own log, or a 410 and then a list.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use daymark_apiserver::Server;
use daymark_apiserver::store::{EventKind, Options, Store};
use http::Method;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use support::events::{Change, Log, Seen};
use support::pki::Pki;
use support::{Client, revision_of, seed};

const JSON: &str = "application/json";
const STORED: &str = "core/configmaps/";
const NAMESPACES: [&str; 2] = ["default", "kube-public"];
const WRITERS: u32 = 6;
const WATCHERS: usize = 10;
const WRITES: u32 = 25;

/// Creates, updates and deletes ConfigMaps that only this writer writes; returns what was acknowledged.
/// Ends early when the server does.
async fn write_many(api: Client, phase: u32, writer: u32, mut rng: StdRng) -> Vec<(u64, String)> {
    let mut acknowledged = Vec::new();
    for n in 0..WRITES {
        let maps = format!("/api/v1/namespaces/{}/configmaps", NAMESPACES[rng.random_range(0..2)]);
        let name = format!("w{writer}p{}", rng.random_range(0..4));
        let body = json!({"metadata": {"name": name}, "data": {"text": format!("{phase} {writer} {n}")}});
        let one = format!("{maps}/{name}");
        let answer = match rng.random_range(0..4) {
            0 => api.try_call(Method::DELETE, &one, &Value::Null).await,
            _ => match api.try_call(Method::POST, &maps, &body).await {
                Ok(answer) if answer.code == 409 => api.try_call(Method::PUT, &one, &body).await,
                other => other,
            },
        };
        let Ok(answer) = answer else { break };
        if answer.code < 300 && answer.body["kind"] == "ConfigMap" {
            acknowledged.push((revision_of(&answer.body), text(&answer.body)));
        }
    }
    acknowledged
}

/// Of a ConfigMap; empty of the server's own.
fn text(object: &Value) -> String {
    object["data"]["text"].as_str().unwrap_or_default().to_owned()
}

fn key(object: &Value) -> String {
    let word = |field: &str| object["metadata"][field].as_str().unwrap();
    format!("{STORED}{}/{}", word("namespace"), word("name"))
}

/// Somebody who watches one namespace or all, over restarts.
struct Watching {
    namespace: Option<&'static str>,
    cursor: u64,
    seen: Vec<Seen>,
}

impl Watching {
    fn path(&self) -> String {
        match self.namespace {
            Some(namespace) => format!("/api/v1/namespaces/{namespace}/configmaps"),
            None => "/api/v1/configmaps".to_owned(),
        }
    }

    fn prefix(&self) -> String {
        format!("{STORED}{}", self.namespace.map(|n| format!("{n}/")).unwrap_or_default())
    }

    /// Watches until the server ends or the ConfigMap `end` is there; watches may begin at `compacted` or later.
    async fn run(mut self, api: Client, compacted: u64, end: String) -> Self {
        loop {
            self.seen.push(Seen::From(self.cursor));
            let began = self.cursor;
            let path = format!("{}?watch=1&resourceVersion={began}", self.path());
            let Ok(mut watch) = api.try_watch(&path, JSON).await else { return self };
            let mut gone = false;
            while let Some(event) = watch.next().await {
                let object = &event["object"];
                if event["type"] == "ERROR" {
                    assert_eq!((&object["code"], &object["reason"]), (&json!(410), &json!("Expired")));
                    gone = true;
                    continue;
                }
                assert!(!gone, "an event after the 410");
                self.cursor = revision_of(object);
                let kind = event["type"].as_str().unwrap().to_owned();
                let text = (kind != "DELETED").then(|| text(object));
                let key = key(object);
                let ended = key.ends_with(&end);
                self.seen.push(Seen::Event(self.cursor, Change { kind, key, text }));
                if ended {
                    return self;
                }
            }
            assert_eq!(gone, began < compacted, "from {began}, and {compacted} is the oldest");
            if !gone {
                return self;
            }
            self.seen.push(Seen::Gone(self.cursor));
            let Ok(list) = api.try_call(Method::GET, &self.path(), &Value::Null).await else { return self };
            let items = list.body["items"].as_array().unwrap();
            let items: BTreeMap<String, String> = items.iter().map(|o| (key(o), text(o))).collect();
            let ended = items.keys().any(|key| key.ends_with(&end));
            self.cursor = revision_of(&list.body);
            self.seen.push(Seen::Listed(self.cursor, items));
            if ended {
                return self;
            }
        }
    }
}

/// What the store itself remembers after a revision, read while no server has it; then forgets some of it.
/// Returns the oldest revision left.
async fn read_and_compact(dir: &Path, from: u64, log: &mut Log, rng: &mut StdRng) -> u64 {
    let store = Store::open(Options::new(dir.join("store.redb"))).unwrap();
    let mut watcher = store.watch(STORED, from).unwrap();
    while watcher.cursor() < store.revision() {
        for event in watcher.ready().await.unwrap().events {
            let object: Value = serde_json::from_slice(&event.object).unwrap();
            let (kind, text) = match event.kind {
                EventKind::Added => ("ADDED", Some(text(&object))),
                EventKind::Modified => ("MODIFIED", Some(text(&object))),
                EventKind::Deleted => ("DELETED", None),
            };
            let change = Change { kind: kind.to_owned(), key: event.key.to_string(), text };
            assert!(log.0.insert(event.revision, change).is_none(), "revision {} twice", event.revision);
        }
    }
    store.compact(rng.random_range(from..=store.revision())).await.unwrap()
}

/// One life of the server. Every other one ends before its writers and watchers do.
async fn phase(
    dir: &Path,
    pki: &Pki,
    n: u32,
    watching: Vec<Watching>,
    compacted: u64,
    rng: &mut StdRng,
) -> (Vec<Watching>, Vec<(u64, String)>) {
    let server = Server::start(pki.config(dir, "127.0.0.1:0".parse().unwrap())).await.unwrap();
    let api = Client::new(pki, server.addresses()[0], Some(("admin", "system:masters")));
    let mut watchers = tokio::task::JoinSet::new();
    for watch in watching {
        watchers.spawn(watch.run(api.clone(), compacted, format!("/end{n}")));
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_many(api.clone(), n, writer, StdRng::seed_from_u64(rng.random())));
    }
    let mut acknowledged = Vec::new();
    let abruptly = n % 2 == 1;
    while let Some(done) = writers.join_next().await {
        acknowledged.extend(done.unwrap());
        if abruptly {
            break;
        }
    }
    if abruptly {
        server.shutdown().await;
        acknowledged.extend(writers.join_all().await.into_iter().flatten());
        return (watchers.join_all().await, acknowledged);
    }
    for namespace in NAMESPACES {
        let end = json!({"metadata": {"name": format!("end{n}")}, "data": {"text": "end"}});
        api.post(&format!("/api/v1/namespaces/{namespace}/configmaps"), &end).await.ok();
    }
    let watching = watchers.join_all().await;
    server.shutdown().await;
    (watching, acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watches_tell_the_stores_own_log_over_restarts_and_compaction() {
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let mut log = Log::default();
    let (mut old, mut all) = (Vec::new(), Vec::new());
    let (mut compacted, mut read) = (1, 1);
    for n in 0..5 {
        let mut watching: Vec<Watching> = std::mem::take(&mut old);
        // Two thirds go on where they were, the others begin at a revision of any time.
        let going_on = watching.len() * 2 / 3;
        all.extend(watching.drain(going_on..));
        while watching.len() < WATCHERS {
            let namespace = [None, Some(NAMESPACES[0]), Some(NAMESPACES[1])][rng.random_range(0..3)];
            watching.push(Watching { namespace, cursor: rng.random_range(1..=read), seen: Vec::new() });
        }
        let acknowledged;
        (old, acknowledged) = phase(dir.path(), &pki, n, watching, compacted, &mut rng).await;
        compacted = read_and_compact(dir.path(), read, &mut log, &mut rng).await;
        read = log.0.keys().last().copied().unwrap_or(read);
        for (revision, text) in acknowledged {
            let stored = log.0.get(&revision).and_then(|c| c.text.clone());
            assert_eq!(stored, Some(text), "revision {revision} was acknowledged");
        }
    }
    all.extend(old);
    for watch in &all {
        let prefix = watch.prefix();
        log.check(&prefix, &watch.seen, watch.cursor).unwrap_or_else(|e| panic!("{prefix}: {e}"));
    }
    let gone = all.iter().flat_map(|w| &w.seen).filter(|s| matches!(s, Seen::Gone(_))).count();
    eprintln!(
        "{} writes, {} watchers, {gone} of them told that what they need is gone",
        log.0.len(),
        all.len()
    );
    assert!(gone > 0);
}
