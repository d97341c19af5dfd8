//! Lists in pages and watches, as informers use them.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use daymark_apiserver::Server;
use daymark_apiserver::store::{Expect, Options, Store, Template, Write};
use serde_json::{Value, json};
use support::pki::Pki;
use support::{Client, Cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn put(api: &Client, name: &str, label: &str) -> String {
    let object = json!({"metadata": {"name": name, "labels": {"x": label}}});
    let answer = match api.post(MAPS, &object).await {
        created if created.code == 201 => created,
        _ => api.put(&format!("{MAPS}/{name}"), &object).await,
    };
    answer.ok()["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.into(), b.into())
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_come_in_consistent_pages() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    for n in 0..7 {
        put(api, &format!("m{n}"), if n % 2 == 0 { "even" } else { "odd" }).await;
    }
    let first = api.get(&format!("{MAPS}?limit=3")).await.ok();
    assert_eq!(names(&first), ["m0", "m1", "m2"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    api.delete(&format!("{MAPS}/m4"), &Value::Null).await.ok();
    put(api, "m33", "new").await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = api.get(&format!("{MAPS}?limit=3&continue={token}")).await.ok();
    assert_eq!(names(&second), ["m3", "m4", "m5"], "as of the first page");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = api.get(&format!("{MAPS}?limit=3&continue={token}")).await.ok();
    assert_eq!((names(&third), third["metadata"].get("continue")), (vec!["m6"], None));
    let odd = api.get(&format!("{MAPS}?labelSelector=x%3Dodd&limit=2")).await.ok();
    assert_eq!(names(&odd), ["m1", "m3"]);
    let token = odd["metadata"]["continue"].as_str().unwrap();
    let rest = api.get(&format!("{MAPS}?labelSelector=x%3Dodd&limit=2&continue={token}")).await.ok();
    assert_eq!((names(&rest), rest["metadata"].get("continue")), (vec!["m5"], None));
    let exact = first["metadata"]["resourceVersion"].as_str().unwrap();
    let then =
        format!("{MAPS}?resourceVersion={exact}&resourceVersionMatch=Exact&fieldSelector=metadata.name%3Dm4");
    assert_eq!(names(&api.get(&then).await.ok()), ["m4"], "deleted since");
    assert_eq!(api.get(&format!("{MAPS}?continue=nonsense")).await.code, 400);
    let future = api.get(&format!("{MAPS}?resourceVersion=999999")).await;
    assert_eq!(future.failure(), (504, "Timeout"));
    assert_eq!(future.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn a_watch_tells_everything_once_from_any_revision() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let first = put(api, "a", "1").await;
    put(api, "a", "2").await;
    api.delete(&format!("{MAPS}/a"), &Value::Null).await.ok();
    let mut watch = api.watch(&format!("{MAPS}?watch=true&resourceVersion={first}")).await;
    assert_eq!(watch.next_name().await, pair("MODIFIED", "a"));
    let deleted = watch.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    assert_eq!(deleted["object"]["metadata"]["labels"]["x"], "2");
    put(api, "b", "1").await;
    assert_eq!(watch.next_name().await, pair("ADDED", "b"));
    let mut all = api.watch("/api/v1/configmaps?watch=true&labelSelector=x").await;
    assert_eq!(all.next_name().await, pair("ADDED", "b"));
    let mut one = api.watch(&format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Dc")).await;
    put(api, "d", "1").await;
    put(api, "c", "1").await;
    assert_eq!(one.next_name().await, pair("ADDED", "c"));
    assert_eq!((all.next_name().await.1, all.next_name().await.1), pair("d", "c"));
    let future = api.get(&format!("{MAPS}?watch=1&resourceVersion=99999")).await;
    assert_eq!(future.failure(), (504, "Timeout"));
    let mut short = api.watch(&format!("{MAPS}?watch=1&resourceVersion={first}&timeoutSeconds=1")).await;
    while short.next().await.is_some() {}
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let mut watch = api.watch(&format!("{MAPS}?watch=1&labelSelector=x%3Din")).await;
    put(api, "a", "out").await;
    put(api, "a", "in").await;
    assert_eq!(watch.next_name().await, pair("ADDED", "a"));
    let left = put(api, "a", "out").await;
    let event = watch.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["labels"]["x"]),
        (&json!("DELETED"), &json!("in"))
    );
    assert_eq!(event["object"]["metadata"]["resourceVersion"], left.as_str(), "the revision moves on");
    put(api, "b", "in").await;
    assert_eq!(watch.next_name().await, pair("ADDED", "b"));
    api.delete(&format!("{MAPS}/a"), &Value::Null).await.ok();
    api.delete(&format!("{MAPS}/b"), &Value::Null).await.ok();
    assert_eq!(watch.next_name().await, pair("DELETED", "b"));
}

#[tokio::test]
async fn informers_get_their_initial_events_and_the_end_of_them() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    put(api, "a", "1").await;
    let last = put(api, "b", "1").await;
    let streaming =
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = api.watch(&format!("{MAPS}?{streaming}")).await;
    assert_eq!(watch.next_name().await, pair("ADDED", "a"));
    assert_eq!(watch.next_name().await, pair("ADDED", "b"));
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], last.as_str());
    put(api, "c", "1").await;
    assert_eq!(watch.next_name().await, pair("ADDED", "c"));
    let wrong = api.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await;
    assert_eq!(wrong.failure(), (422, "Invalid"));
    assert_eq!(api.get(&format!("{MAPS}?watch=1&resourceVersionMatch=NotOlderThan")).await.code, 422);
}

#[tokio::test]
async fn watches_come_as_tables_and_metadata() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    put(api, "a", "1").await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut watch = api.watch_as(&format!("{MAPS}?watch=1"), table).await;
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(event["object"]["rows"][0]["cells"][0], "a");
    assert!(!event["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    put(api, "b", "1").await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["object"]["columnDefinitions"], json!([]), "columns are sent once");
    let partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let mut watch = api.watch_as(&format!("{MAPS}?watch=1"), partial).await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(event["object"]["metadata"]["labels"]["x"], "1");
}

#[tokio::test]
async fn both_kinds_of_event_are_one() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let event = json!({"metadata": {"name": "e", "namespace": "default"}, "reason": "Started", "action": "Start",
        "note": "Started container", "type": "Normal", "reportingController": "kubelet",
        "reportingInstance": "n1", "eventTime": "2026-01-01T00:00:00.000000Z",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}});
    api.post("/apis/events.k8s.io/v1/namespaces/default/events", &event).await.ok();
    let core = api.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp").await.ok();
    assert_eq!(core["items"][0]["message"], "Started container");
    let new = api.get("/apis/events.k8s.io/v1/namespaces/default/events").await.ok();
    assert_eq!(new["items"][0]["note"], "Started container");
    let mut watch = api.watch("/apis/events.k8s.io/v1/events?watch=1").await;
    assert_eq!(watch.next().await.unwrap()["object"]["regarding"]["name"], "p");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_old_revisions_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Options::new(dir.path().join("store.redb"))).unwrap();
    let object = |n: u64| Template { json: format!("{{\"n\":{n},\"v\":\"\"}}").into_bytes(), at: 12 };
    let write = |n| Write {
        key: format!("core/secrets/x/{n}"),
        expect: Expect::Absent,
        object: object(n),
        delete: false,
        expires: 0,
    };
    for n in 1..9 {
        store.write(write(n)).await.unwrap();
    }
    assert_eq!(store.compact(5).await.unwrap(), 5);
    drop(store);
    let pki = Pki::new();
    let server = Server::start(pki.config(dir.path(), "127.0.0.1:0".parse().unwrap())).await.unwrap();
    let api = Client::new(&pki, server.addresses()[0], Some(("admin", "system:masters")));
    let mut watch = api.watch("/api/v1/secrets?watch=1&resourceVersion=4").await;
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    assert!(watch.next().await.is_none(), "the watch ends");
    let list = api.get("/api/v1/secrets?resourceVersion=4&resourceVersionMatch=Exact").await;
    assert_eq!(list.failure(), (410, "Expired"));
    let mut watch = api.watch("/api/v1/secrets?watch=1&resourceVersion=5").await;
    assert_eq!(watch.next().await.unwrap()["object"]["n"], 5);
}
