//! Many clients at once: one order of all requests explains every answer, and nothing that had ended
//! comes after what began later.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use support::history::{Asked, Change, Entry, Items, Told, Truth};
use support::{Client, Cluster, revision_of, seed};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const CLIENTS: u64 = 12;
const REQUESTS: usize = 120;
/// Few, so that clients meet.
const KEYS: u32 = 4;

/// One client with a connection of its own, and what it knows.
struct Worker {
    name: String,
    connection: SendRequest<Full<Bytes>>,
    clock: Arc<AtomicU64>,
    rng: StdRng,
    /// The newest revision that it saw of each key, and of anything.
    known: BTreeMap<String, u64>,
    newest: u64,
    history: Vec<Entry>,
}

impl Worker {
    async fn run(mut self) -> Vec<Entry> {
        for n in 0..REQUESTS {
            let key = format!("m{}", self.rng.random_range(0..KEYS));
            let asked = self.choose(&key, n);
            let began = self.clock.fetch_add(1, Ordering::SeqCst);
            let (code, body) = self.send(&key, &asked).await;
            let ended = self.clock.fetch_add(1, Ordering::SeqCst);
            let told = told(code, &body, &asked);
            match &told {
                Told::Written { revision, .. } | Told::Found { revision, .. } => {
                    self.known.insert(key.clone(), *revision);
                    self.newest = self.newest.max(*revision);
                }
                Told::Listed { revision, .. } => self.newest = self.newest.max(*revision),
                _ => {}
            }
            self.history.push(Entry { key, began, ended, asked, told });
        }
        self.history
    }

    fn choose(&mut self, key: &str, n: usize) -> Asked {
        let text = json!({"text": format!("{} {n}", self.name)});
        let known = self.known.get(key).copied();
        match self.rng.random_range(0..20) {
            0..3 => Asked::Create(text),
            3..7 => Asked::Update(known, text),
            7 => Asked::Update(None, text),
            8..10 => Asked::Merge(json!({ self.name.clone(): n.to_string() })),
            10 => Asked::Delete(known),
            11 => Asked::Delete(None),
            12..17 => Asked::Get,
            17..19 => Asked::List,
            _ => Asked::ListAt(self.rng.random_range(self.newest.saturating_sub(30).max(1)..=self.newest)),
        }
    }

    async fn send(&mut self, key: &str, asked: &Asked) -> (u16, Value) {
        let one = format!("{MAPS}/{key}");
        let map = |data: &Value, revision: Option<u64>| json!({"metadata": {"name": key, "resourceVersion": revision.map(|r| r.to_string())}, "data": data});
        let (method, path, body) = match asked {
            Asked::Create(data) => ("POST", MAPS.to_owned(), map(data, None)),
            Asked::Update(revision, data) => ("PUT", one, map(data, *revision)),
            Asked::Merge(data) => ("PATCH", one, json!({ "data": data })),
            Asked::Delete(Some(revision)) => {
                ("DELETE", one, json!({"preconditions": {"resourceVersion": revision.to_string()}}))
            }
            Asked::Delete(None) => ("DELETE", one, json!({})),
            Asked::Get => ("GET", one, Value::Null),
            Asked::List => ("GET", MAPS.to_owned(), Value::Null),
            Asked::ListAt(at) => {
                ("GET", format!("{MAPS}?resourceVersion={at}&resourceVersionMatch=Exact"), Value::Null)
            }
        };
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request =
            Request::builder().method(method).uri(path).header("host", "t").header("content-type", kind);
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let response = self.connection.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap())
    }
}

fn told(code: u16, body: &Value, asked: &Asked) -> Told {
    let (revision, data) = (revision_of(body), body["data"].clone());
    match (code, asked) {
        (200, Asked::List | Asked::ListAt(_)) => Told::Listed { revision, items: items(body) },
        (200, Asked::Get) => Told::Found { revision, data },
        (200, Asked::Delete(_)) => Told::Deleted(body["details"]["uid"].as_str().unwrap().to_owned()),
        (200 | 201, _) => Told::Written { revision, data },
        (404, _) => Told::NotFound,
        (409, Asked::Create(_)) => Told::Exists,
        (409, _) => Told::Conflict,
        _ => panic!("{asked:?} was answered by {code} {body}"),
    }
}

fn items(list: &Value) -> Items {
    let item = |o: &Value| {
        let name = o["metadata"]["name"].as_str().unwrap().to_owned();
        (name, (revision_of(o), o["data"].clone()))
    };
    list["items"].as_array().unwrap().iter().map(item).collect()
}

/// Everything that happened after a revision, until the ConfigMap `end` was made.
async fn log(api: &Client, from: u64) -> BTreeMap<u64, Change> {
    let end = revision_of(&api.post(MAPS, &json!({"metadata": {"name": "end"}})).await.ok());
    let mut watch = api.watch(&format!("{MAPS}?watch=1&resourceVersion={from}")).await;
    let mut log = BTreeMap::new();
    loop {
        let event = watch.next().await.unwrap();
        let (object, revision) = (&event["object"], revision_of(&event["object"]));
        if revision == end {
            return log;
        }
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let data = (event["type"] != "DELETED").then(|| object["data"].clone());
        let metadata = &object["metadata"];
        let change = Change { key: text(&metadata["name"]), uid: text(&metadata["uid"]), data };
        assert!(log.insert(revision, change).is_none(), "revision {revision} twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_order_explains_every_answer() {
    let mut rng = StdRng::seed_from_u64(seed());
    let cluster = Cluster::start().await;
    let start = revision_of(&cluster.admin.get(MAPS).await.ok());
    let clock = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..CLIENTS {
        let worker = Worker {
            name: format!("w{n}"),
            connection: cluster.admin.connect().await.unwrap(),
            clock: clock.clone(),
            rng: StdRng::seed_from_u64(rng.random()),
            known: BTreeMap::new(),
            newest: start,
            history: Vec::new(),
        };
        tasks.spawn(worker.run());
    }
    let history: Vec<Entry> = tasks.join_all().await.into_iter().flatten().collect();
    let truth = Truth::new(log(&cluster.admin, start).await);
    for told in [Told::NotFound, Told::Exists, Told::Conflict] {
        assert!(history.iter().any(|e| e.told == told), "no request came to {told:?}");
    }
    truth.check(&history).unwrap();
}

/// The checker itself: what no order explains.
#[test]
fn histories_without_an_order_are_refused() {
    let data = |n: u32| json!({ "text": n.to_string() });
    let change = |n| Change { key: "a".into(), uid: "u".into(), data: Some(data(n)) };
    let gone = Change { data: None, ..change(0) };
    let truth = Truth::new(BTreeMap::from([(5, change(1)), (7, change(2)), (9, gone)]));
    let entry = |began, ended, asked, told| Entry { key: "a".into(), began, ended, asked, told };
    let written = |revision, n| Told::Written { revision, data: data(n) };
    let found = |revision, n| Told::Found { revision, data: data(n) };
    let good = vec![
        entry(0, 1, Asked::Create(data(1)), written(5, 1)),
        entry(2, 5, Asked::Update(Some(5), data(2)), written(7, 2)),
        entry(3, 4, Asked::Get, found(5, 1)),
        entry(6, 9, Asked::Delete(Some(7)), Told::Deleted("u".into())),
        entry(7, 8, Asked::Get, Told::NotFound),
        entry(10, 11, Asked::Update(Some(5), data(3)), Told::NotFound),
    ];
    assert_eq!(truth.check(&good), Ok(()));
    let listed = Told::Listed { revision: 9, items: Items::from([("a".into(), (7, data(2)))]) };
    let bad = [
        ("a stale read", 5, entry(10, 11, Asked::Get, found(7, 2))),
        ("a read of the future", 2, entry(0, 1, Asked::Get, Told::NotFound)),
        ("a read that goes back", 2, entry(6, 8, Asked::Get, found(5, 1))),
        ("data of another time", 2, entry(3, 4, Asked::Get, found(5, 2))),
        ("a lost update", 1, entry(2, 5, Asked::Update(Some(4), data(2)), written(7, 2))),
        ("a conflict without reason", 5, entry(1, 1, Asked::Update(Some(5), data(3)), Told::Conflict)),
        ("a refusal after the deletion", 5, entry(10, 11, Asked::Create(data(3)), Told::Exists)),
        ("an unknown write", 1, entry(2, 5, Asked::Update(Some(5), data(3)), written(8, 3))),
        ("a list with what was gone", 5, entry(10, 11, Asked::List, listed)),
        ("a write that nobody was told of", 0, entry(0, 1, Asked::Get, Told::NotFound)),
    ];
    for (what, place, entry) in bad {
        let mut history = good.clone();
        history[place] = entry;
        if what == "a read of the future" {
            // It saw the deletion before the update began.
            history.push(Entry { key: "a".into(), began: 1, ended: 1, asked: Asked::Get, told: found(7, 2) });
        }
        assert!(truth.check(&history).is_err(), "{what}");
    }
}
