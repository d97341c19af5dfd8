//! Watches of the store, beginning anywhere, while it is written and compacted and after it was opened
//! again: none misses, repeats or reorders.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daymark_apiserver::store::{
    Event, EventKind, Expect, Options, Range, Store, StoreError, Template, Write,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::events::{Change, Log, Seen};
use support::seed;

const PREFIXES: [&str; 3] = ["core/pods/", "core/pods/a/", "core/pods/b/"];
const WRITERS: u32 = 6;
const WATCHERS: usize = 12;
const WRITES: u32 = 150;
/// Few, so that watchers read from the disk when they are a little behind.
const RING: usize = 8;

type Written = Arc<Mutex<Log>>;

fn write(key: &str, expect: Expect, text: &str, delete: bool) -> Write {
    let head = format!("{{\"text\":\"{text}\",\"resourceVersion\":\"");
    let object = Template { at: head.len(), json: format!("{head}\"}}").into_bytes() };
    Write { key: key.to_owned(), expect, object, delete, expires: 0 }
}

fn text(bytes: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["text"].as_str().unwrap().to_owned()
}

/// Creates, updates and deletes keys that only this writer writes.
async fn write_many(store: Store, writer: u32, mut rng: StdRng, log: Written) {
    for n in 0..WRITES {
        let namespace = ["a", "b"][rng.random_range(0..2)];
        let key = format!("core/pods/{namespace}/w{writer}p{}", rng.random_range(0..4));
        put(&store, &key, &format!("{n}"), rng.random_ratio(1, 4), &log).await;
        if rng.random_ratio(1, 4) {
            put(&store, &format!("core/nodes/n{writer}"), &format!("{n}"), false, &log).await;
        }
    }
}

/// Writes a key and keeps the books.
async fn put(store: &Store, key: &str, text: &str, may_delete: bool, log: &Written) -> u64 {
    let present = store.get(key);
    let delete = present.is_some() && may_delete;
    let (expect, kind) = match present {
        None => (Expect::Absent, "Added"),
        Some(o) => (Expect::Revision(o.modified), if delete { "Deleted" } else { "Modified" }),
    };
    let written = store.write(write(key, expect, text, delete)).await.unwrap();
    let text = (!delete).then(|| text.to_owned());
    let change = Change { kind: kind.to_owned(), key: key.to_owned(), text };
    let before = log.lock().unwrap().0.insert(written.modified, change);
    assert!(before.is_none(), "revision {} twice", written.modified);
    written.modified
}

/// Somebody who watches a prefix, across openings of the store.
struct Watching {
    prefix: &'static str,
    cursor: u64,
    seen: Vec<Seen>,
    rng: StdRng,
}

impl Watching {
    /// Watches until it has seen the key `end`, lists when what it needs is forgotten.
    async fn run(mut self, store: Store, end: String) -> Self {
        loop {
            self.seen.push(Seen::From(self.cursor));
            let gone = match store.watch(self.prefix, self.cursor) {
                Ok(mut watcher) => loop {
                    match watcher.next().await {
                        Ok(batch) if self.take(&batch.events, &end) => return self,
                        Ok(_) => {}
                        Err(e) => break e,
                    }
                    // Falls behind, sometimes.
                    if self.rng.random_ratio(1, 8) {
                        tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..20))).await;
                    }
                },
                Err(e) => e,
            };
            let StoreError::Compacted { asked, oldest } = gone else { panic!("{gone}") };
            assert!(asked < oldest, "{asked} is not older than {oldest}");
            self.seen.push(Seen::Gone(self.cursor));
            if self.list(&store, &end).await {
                return self;
            }
        }
    }

    fn take(&mut self, events: &[Arc<Event>], end: &str) -> bool {
        for event in events {
            let text = (event.kind != EventKind::Deleted).then(|| text(&event.object));
            let change = Change { kind: format!("{:?}", event.kind), key: event.key.to_string(), text };
            self.cursor = event.revision;
            self.seen.push(Seen::Event(event.revision, change));
        }
        events.iter().any(|e| e.key.ends_with(end))
    }

    async fn list(&mut self, store: &Store, end: &str) -> bool {
        let page = store.range(Range { prefix: self.prefix.into(), ..Range::default() }).await.unwrap();
        let items: BTreeMap<String, String> =
            page.items.iter().map(|(key, object)| (key.to_string(), text(&object.bytes))).collect();
        self.cursor = page.revision;
        let ended = items.keys().any(|key| key.ends_with(end));
        self.seen.push(Seen::Listed(page.revision, items));
        ended
    }
}

/// Forgets again and again, up to anywhere.
async fn compact(store: Store, mut rng: StdRng) {
    loop {
        let revision = store.revision();
        let to = revision - rng.random_range(0..60).min(revision - 1);
        let oldest = store.compact(to).await.unwrap();
        assert!(oldest >= to);
        // So that it is not all that the store does.
        let until = revision + rng.random_range(20..120);
        while store.revision() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// One opening of the store.
async fn phase(
    path: &Path,
    n: u32,
    watching: Vec<Watching>,
    rng: &mut StdRng,
    log: &Written,
) -> Vec<Watching> {
    let store = Store::open(Options { ring: RING, ..Options::new(path) }).unwrap();
    let ends = [format!("a/end{n}"), format!("b/end{n}")];
    let mut tasks = tokio::task::JoinSet::new();
    for watch in watching {
        let end = if watch.prefix.ends_with("a/") { &ends[0] } else { &ends[1] };
        tasks.spawn(watch.run(store.clone(), end.clone()));
    }
    let compactor = tokio::spawn(compact(store.clone(), StdRng::seed_from_u64(rng.random())));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_many(store.clone(), writer, StdRng::seed_from_u64(rng.random()), log.clone()));
    }
    writers.join_all().await;
    compactor.abort();
    for end in &ends {
        put(&store, &format!("core/pods/{end}"), "end", false, log).await;
    }
    let done = tasks.join_all().await;
    let gone = done.iter().flat_map(|w| &w.seen).filter(|s| matches!(s, Seen::Gone(_))).count();
    eprintln!("phase {n}: revision {}, {gone} relists so far", store.revision());
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_watch_misses_repeats_or_reorders() {
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let log = Written::default();
    let (mut old, mut all) = (Vec::new(), Vec::new());
    for n in 0..4 {
        let newest = log.lock().unwrap().0.keys().last().copied().unwrap_or(1);
        let mut watching: Vec<Watching> = std::mem::take(&mut old);
        // Half go on where they were, half begin at a revision of any time.
        all.extend(watching.drain(watching.len() / 2..));
        while watching.len() < WATCHERS {
            let prefix = PREFIXES[rng.random_range(0..PREFIXES.len())];
            let cursor = rng.random_range(1..=newest);
            let rng = StdRng::seed_from_u64(rng.random());
            watching.push(Watching { prefix, cursor, seen: Vec::new(), rng });
        }
        old = phase(&path, n, watching, &mut rng, &log).await;
    }
    all.extend(old);
    let log = log.lock().unwrap();
    for watch in &all {
        log.check(watch.prefix, &watch.seen, watch.cursor)
            .unwrap_or_else(|e| panic!("{}: {e}", watch.prefix));
    }
    let gone = all.iter().flat_map(|w| &w.seen).filter(|s| matches!(s, Seen::Gone(_))).count();
    assert!(gone > 0, "nobody was told that something is gone");
}
