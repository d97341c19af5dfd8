//! `kill -9` of a process that writes: what it acknowledged is there, what it had only begun is there
//! wholly or not at all, and revisions go on. Every single write and sync: `src/store/disk_tests.rs`.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daymark_apiserver::store::{Expect, Options, Store, Template, Write};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::seed;

const CHILD: &str = "DAYMARK_TEST_STORE";
const WRITERS: u64 = 8;
const KEYS: u32 = 5;

fn write(key: &str, expect: Expect, text: &str, delete: bool) -> Write {
    let head = format!("{{\"text\":\"{text}\",\"padding\":\"{}\",\"resourceVersion\":\"", "x".repeat(700));
    let object = Template { at: head.len(), json: format!("{head}\"}}").into_bytes() };
    Write { key: key.to_owned(), expect, object, delete, expires: 0 }
}

/// In one piece, also when it is the last.
fn say(line: &str) {
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

/// Not a test by itself: the process that the tests kill. Says what it asks for and what was acknowledged.
#[tokio::test]
async fn child_writes_until_killed() {
    let Ok(given) = std::env::var(CHILD) else { return };
    let (seed, path) = given.split_once(' ').unwrap();
    let seed: u64 = seed.parse().unwrap();
    let store = Store::open(Options::new(path)).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        tasks.spawn(write_on(store.clone(), writer, StdRng::seed_from_u64(seed + writer)));
    }
    tasks.join_all().await;
}

async fn write_on(store: Store, writer: u64, mut rng: StdRng) {
    loop {
        let key = format!("core/pods/w{writer}/p{}", rng.random_range(0..KEYS));
        let present = store.get(&key);
        let delete = present.is_some() && rng.random_ratio(1, 4);
        let expect = present.map_or(Expect::Absent, |o| Expect::Revision(o.modified));
        let text = if delete { "-".to_owned() } else { rng.random::<u64>().to_string() };
        say(&format!("asked {key} {text}"));
        let object = store.write(write(&key, expect, &text, delete)).await.unwrap();
        say(&format!("acknowledged {key} {}", object.modified));
        if rng.random_ratio(1, 60) {
            store.compact(store.revision().saturating_sub(40)).await.unwrap();
        }
    }
}

/// What a key is known to be, and what it may have become.
#[derive(Default, Debug)]
struct Known {
    /// Text and revision; `-` of a deletion.
    acknowledged: Option<(String, u64)>,
    asked: Option<String>,
}

#[derive(Default)]
struct Model {
    keys: BTreeMap<String, Known>,
    newest: u64,
    lines: usize,
}

impl Model {
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let ["asked" | "acknowledged", key, value] = words[..] else { return };
        self.lines += 1;
        let known = self.keys.entry(key.to_owned()).or_default();
        if words[0] == "asked" {
            known.asked = Some(value.to_owned());
            return;
        }
        let revision = value.parse().unwrap();
        known.acknowledged = Some((known.asked.take().expect("asked before it was acknowledged"), revision));
        self.newest = self.newest.max(revision);
    }

    /// Compares with the store as it is after a kill, and takes its state for known.
    async fn check(&mut self, path: &Path) {
        let store = Store::open(Options::new(path)).unwrap();
        let revision = store.revision();
        assert!(revision >= self.newest, "revision {revision}, but {} was acknowledged", self.newest);
        for (key, known) in &mut self.keys {
            let found = store.get(key).map(|o| (text(&o.bytes), o.modified));
            let shown = found.clone().unwrap_or(("-".to_owned(), 0));
            let is_known = match &known.acknowledged {
                Some((text, at)) => shown.0 == *text && (text == "-" || shown.1 == *at),
                None => found.is_none(),
            };
            let least = known.acknowledged.as_ref().map_or(0, |(_, at)| *at);
            let is_asked = known.asked.as_ref().is_some_and(|text| shown.0 == *text)
                && (found.is_none() || shown.1 > least);
            assert!(is_known || is_asked, "{key} is {found:?}, but {known:?}");
            *known = Known { acknowledged: Some(shown), asked: None };
        }
        let objects = store.entries("core/pods/");
        let extra = objects.iter().find(|(key, _)| !self.keys.contains_key(&**key));
        assert!(extra.is_none(), "nobody asked for {extra:?}");
        // The events that lead here are all there: one for each revision, the last of a key its state.
        let mut watcher = store.watch("core/pods/", revision.saturating_sub(39).max(1)).unwrap();
        let mut next = watcher.cursor() + 1;
        while watcher.cursor() < revision {
            for event in watcher.ready().await.unwrap().events {
                assert_eq!(event.revision, next);
                next += 1;
                if let Some(object) = store.get(&event.key).filter(|o| o.modified <= event.revision) {
                    assert_eq!((object.modified, object.bytes), (event.revision, event.object.clone()));
                }
            }
        }
        assert_eq!(next, revision + 1);
        self.newest = revision;
    }
}

fn text(bytes: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["text"].as_str().unwrap().to_owned()
}

fn start(path: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writes_until_killed", "--nocapture"])
        .env(CHILD, format!("{seed} {}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the child after so many lines and then some time, and reads what it had still said.
fn kill_after(mut child: Child, model: &mut Model, lines: usize, more: Duration) {
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let until = model.lines + lines;
    while model.lines < until {
        model.read(&said.next().expect("the child ended by itself").unwrap());
    }
    let began = Instant::now();
    while began.elapsed() < more {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    said.map_while(Result::ok).for_each(|line| model.read(&line));
}

#[tokio::test]
async fn kill_9_loses_nothing_acknowledged() {
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut model = Model::default();
    for _ in 0..12 {
        let child = start(&path, rng.random_range(0..u64::MAX / 2));
        let (lines, more) = (rng.random_range(1..400), Duration::from_micros(rng.random_range(0..4_000)));
        kill_after(child, &mut model, lines, more);
        model.check(&path).await;
    }
}

#[tokio::test]
async fn kill_9_while_a_store_is_made_leaves_none_or_a_whole_one() {
    let mut rng = StdRng::seed_from_u64(seed());
    for _ in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        let mut model = Model::default();
        let more = Duration::from_micros(rng.random_range(0..30_000));
        kill_after(start(&path, rng.random_range(0..u64::MAX / 2)), &mut model, 0, more);
        model.check(&path).await;
    }
}
