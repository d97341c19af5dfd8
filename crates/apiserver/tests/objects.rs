//! The life of objects: create, update, the patches, deletion, subresources.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use support::{Client, Cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn map(name: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"a": "1"}})
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {
        "terminationGracePeriodSeconds": 5, "containers": [{"name": "c", "image": "web:1"}]}})
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn updates_are_optimistic() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let created = api.post(MAPS, &map("m")).await.ok();
    assert_eq!(created["metadata"]["namespace"], "default");
    assert!(created["metadata"]["uid"].as_str().unwrap().len() == 36);
    assert_eq!(api.post(MAPS, &map("m")).await.message(), "configmaps \"m\" already exists");
    let path = format!("{MAPS}/m");
    let mut next = created.clone();
    next["data"]["a"] = "2".into();
    let updated = api.put(&path, &next).await.ok();
    assert!(version(&updated) > version(&created));
    let stale = api.put(&path, &next).await;
    assert_eq!(stale.failure(), (409, "Conflict"));
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on configmaps \"m\": the object has been modified; please apply your \
         changes to the latest version and try again"
    );
    assert_eq!(api.put(&path, &updated).await.ok(), updated, "an update without a change is none");
    let mut blind = map("m");
    blind["data"]["a"] = "3".into();
    assert_eq!(api.put(&path, &blind).await.ok()["metadata"]["uid"], created["metadata"]["uid"]);
    let mut foreign = map("m");
    foreign["metadata"]["uid"] = "another".into();
    assert_eq!(api.put(&path, &foreign).await.failure(), (409, "Conflict"));
    assert_eq!(api.put(&format!("{MAPS}/none"), &map("none")).await.code, 404);
    assert_eq!(api.put(&format!("{MAPS}/other"), &map("m")).await.code, 400);
}

#[tokio::test]
async fn names_are_generated_and_dry_runs_store_nothing() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let generated = json!({"metadata": {"generateName": "m-"}});
    let one = api.post(MAPS, &generated).await.ok();
    let two = api.post(MAPS, &generated).await.ok();
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
    assert!(one["metadata"]["name"].as_str().unwrap().starts_with("m-"));
    let dry = api.post(&format!("{MAPS}?dryRun=All"), &map("dry")).await.ok();
    assert!(dry["metadata"]["uid"].is_string());
    assert_eq!(api.get(&format!("{MAPS}/dry")).await.code, 404);
    assert_eq!(api.post(&format!("{MAPS}?dryRun=Some"), &map("dry")).await.code, 422);
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort",
        "ports": [{"port": 80, "nodePort": 30100}]}});
    api.post(&format!("{SERVICES}?dryRun=All"), &service).await.ok();
    api.post(SERVICES, &service).await.ok();
    let versioned = json!({"metadata": {"name": "v", "resourceVersion": "7"}});
    assert_eq!(
        api.post(MAPS, &versioned).await.message(),
        "resourceVersion should not be set on objects to be created"
    );
}

#[tokio::test]
async fn every_patch_kind_changes_what_it_says() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let labels = json!({"app": "web"});
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [
            {"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}}}});
    let created = api.post(DEPLOYMENTS, &deployment).await.ok();
    let path = format!("{DEPLOYMENTS}/web");
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}}});
    let patched = api.patch(&path, "strategic-merge", &strategic).await.ok();
    let containers = &patched["spec"]["template"]["spec"]["containers"];
    assert_eq!((&containers[0]["image"], &containers[1]["image"]), (&json!("a:1"), &json!("b:2")));
    assert_eq!(patched["metadata"]["generation"], 2);
    let merge = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"replicas": 3}});
    assert_eq!(api.patch(&path, "merge", &merge).await.ok()["spec"]["replicas"], 3);
    let ops = json!([{"op": "test", "path": "/spec/replicas", "value": 3},
        {"op": "remove", "path": "/metadata/labels/x"}]);
    assert_eq!(api.patch(&path, "json", &ops).await.ok()["metadata"].get("labels"), None);
    assert_eq!(api.patch(&path, "json", &json!([{"op": "remove", "path": "/none"}])).await.code, 422);
    let old = json!({"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "spec": {"replicas": 9}});
    assert_eq!(api.patch(&path, "merge", &old).await.failure(), (409, "Conflict"));
    let status = json!({"spec": {"replicas": 8}, "status": {"replicas": 5}});
    let patched = api.patch(&format!("{path}/status"), "merge", &status).await.ok();
    assert_eq!((&patched["spec"]["replicas"], &patched["status"]["replicas"]), (&json!(3), &json!(5)));
    let unknown =
        api.patch(&format!("{path}?fieldValidation=Strict"), "merge", &json!({"spec": {"zzz": 1}})).await;
    assert!(unknown.message().contains("unknown field \"spec.zzz\""), "{}", unknown.message());
    let warned = api.patch(&path, "merge", &json!({"spec": {"zzz": 1}})).await;
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"spec.zzz\\\"\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_different_fields_all_arrive() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    api.post(MAPS, &map("m")).await.ok();
    let patches = (0..8).map(|n| {
        let api = api.clone();
        tokio::spawn(async move {
            let patch = json!({"data": {format!("k{n}"): "v"}});
            api.patch(&format!("{MAPS}/m"), "merge", &patch).await.ok()
        })
    });
    for patch in patches.collect::<Vec<_>>() {
        patch.await.unwrap();
    }
    assert_eq!(api.get(&format!("{MAPS}/m")).await.ok()["data"].as_object().unwrap().len(), 9);
}

#[tokio::test]
async fn apply_creates_merges_and_conflicts() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let path = format!("{MAPS}/m");
    let by = |manager: &str| format!("{path}?fieldManager={manager}");
    assert_eq!(api.patch(&by("one"), "apply", &map("m")).await.code, 201);
    assert_eq!(api.patch(&by("one"), "apply", &map("m")).await.code, 200);
    let mut other = map("m");
    other["data"] = json!({"a": "other", "b": "2"});
    let conflict = api.patch(&by("two"), "apply", &other).await;
    assert_eq!(conflict.failure(), (409, "Conflict"));
    assert_eq!(conflict.body["details"]["causes"][0]["field"], ".data.a");
    let forced = api.patch(&format!("{}&force=true", by("two")), "apply", &other).await.ok();
    assert_eq!(forced["data"], json!({"a": "other", "b": "2"}));
    let nameless = api.patch(&path, "apply", &map("m")).await;
    assert!(nameless.message().contains("fieldManager: Required value"), "{}", nameless.message());
}

#[tokio::test]
async fn a_running_pod_is_ended_by_its_node() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    api.post(PODS, &pod("p")).await.ok();
    let path = format!("{PODS}/p");
    let binding = json!({"kind": "Binding", "apiVersion": "v1", "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n1"}});
    api.post(&format!("{path}/binding"), &binding).await.ok();
    let again = api.post(&format!("{path}/binding"), &binding).await;
    assert_eq!(again.failure(), (409, "Conflict"));
    let marked = api.delete(&path, &Value::Null).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(api.delete(&path, &Value::Null).await.ok()["metadata"], marked["metadata"], "asked twice");
    let status = json!({"status": {"phase": "Running"}});
    api.patch(&format!("{path}/status"), "merge", &status).await.ok();
    assert_eq!(api.get(&path).await.code, 200, "it is there until its node is done");
    let wrong = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "another"}});
    assert_eq!(api.delete(&path, &wrong).await.failure(), (409, "Conflict"));
    let done = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": marked["metadata"]["uid"]}});
    assert_eq!(api.delete(&path, &done).await.ok()["kind"], "Pod");
    assert_eq!(api.get(&path).await.code, 404);
    api.post(PODS, &pod("r")).await.ok();
    let old_way = json!({"metadata": {"name": "r"}, "target": {"name": "n2"}});
    api.post("/api/v1/namespaces/default/bindings", &old_way).await.ok();
    assert_eq!(api.get(&format!("{PODS}/r")).await.ok()["spec"]["nodeName"], "n2");
    api.post(PODS, &pod("q")).await.ok();
    api.delete(&format!("{PODS}/q"), &Value::Null).await.ok();
    assert_eq!(api.get(&format!("{PODS}/q")).await.code, 404, "a pod without node goes at once");
}

#[tokio::test]
async fn finalizers_hold_until_the_last_is_gone() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let mut held = map("m");
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    api.post(MAPS, &held).await.ok();
    let path = format!("{MAPS}/m");
    let marked = api.delete(&path, &Value::Null).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let more = json!({"metadata": {"finalizers": ["example.com/a", "example.com/b"]}});
    let refused = api.patch(&path, "merge", &more).await;
    assert!(refused.message().contains("no new finalizers can be added"), "{}", refused.message());
    let none = json!({"metadata": {"finalizers": null}});
    api.patch(&path, "merge", &none).await.ok();
    assert_eq!(api.get(&path).await.code, 404);
    api.post(MAPS, &map("o")).await.ok();
    let orphan = json!({"propagationPolicy": "Orphan"});
    let marked = api.delete(&format!("{MAPS}/o"), &orphan).await.ok();
    assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]));
}

#[tokio::test]
async fn a_namespace_closes_and_goes_when_it_is_finalized() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "a"}})).await.ok();
    api.post("/api/v1/namespaces/a/configmaps", &map("m")).await.ok();
    let terminating = api.delete("/api/v1/namespaces/a", &Value::Null).await.ok();
    assert_eq!(terminating["status"]["phase"], "Terminating");
    let refused = api.post("/api/v1/namespaces/a/configmaps", &map("n")).await;
    assert_eq!(refused.failure(), (403, "Forbidden"));
    assert_eq!(refused.body["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let patch = json!({"data": {"still": "possible"}});
    api.patch("/api/v1/namespaces/a/configmaps/m", "merge", &patch).await.ok();
    let collection = api.delete("/api/v1/namespaces/a/configmaps", &Value::Null).await.ok();
    assert_eq!(collection["items"].as_array().unwrap().len(), 1);
    let mut emptied = terminating;
    emptied["spec"]["finalizers"] = json!([]);
    api.put("/api/v1/namespaces/a/finalize", &emptied).await.ok();
    assert_eq!(api.get("/api/v1/namespaces/a").await.code, 404);
    let missing = api.post("/api/v1/namespaces/a/configmaps", &map("n")).await;
    assert_eq!(missing.message(), "namespaces \"a\" not found");
}

async fn node_port(api: &Client, name: &str, port: u16) -> support::Answer {
    let service = json!({"metadata": {"name": name}, "spec": {"type": "NodePort",
        "ports": [{"port": 80, "nodePort": port}]}});
    api.post(SERVICES, &service).await
}

#[tokio::test]
async fn addresses_and_ports_are_given_back() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let first = node_port(api, "one", 30008).await.ok();
    assert_eq!(node_port(api, "two", 30008).await.failure(), (422, "Invalid"));
    assert_eq!(node_port(api, "one", 30009).await.failure(), (409, "AlreadyExists"));
    node_port(api, "two", 30009).await.ok();
    api.delete(&format!("{SERVICES}/one"), &Value::Null).await.ok();
    node_port(api, "three", 30008).await.ok();
    let same = json!({"metadata": {"name": "four"}, "spec": {"clusterIP": first["spec"]["clusterIP"],
        "ports": [{"port": 80}]}});
    api.post(SERVICES, &same).await.ok();
    let patch = json!({"spec": {"type": "ClusterIP"}});
    let changed = api.patch(&format!("{SERVICES}/three"), "merge", &patch).await.ok();
    assert_eq!(changed["spec"]["ports"][0].get("nodePort"), None);
    node_port(api, "five", 30008).await.ok();
}

#[tokio::test]
async fn scale_and_eviction() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let labels = json!({"app": "web"});
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}}}});
    api.post(DEPLOYMENTS, &deployment).await.ok();
    let path = format!("{DEPLOYMENTS}/web/scale");
    let mut scale = api.get(&path).await.ok();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    scale["spec"]["replicas"] = 4.into();
    assert_eq!(api.put(&path, &scale).await.ok()["spec"]["replicas"], 4);
    assert_eq!(api.put(&path, &scale).await.code, 409);
    assert_eq!(
        api.patch(&path, "merge", &json!({"spec": {"replicas": 2}})).await.ok()["spec"]["replicas"],
        2
    );
    assert_eq!(api.patch(&path, "merge", &json!({"spec": {"replicas": -1}})).await.code, 422);
    assert_eq!(api.get(&format!("{DEPLOYMENTS}/web")).await.ok()["metadata"]["generation"], 3);
    api.post(PODS, &pod("p")).await.ok();
    let eviction = json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "p"}});
    api.post(&format!("{PODS}/p/eviction"), &eviction).await.ok();
    assert_eq!(api.get(&format!("{PODS}/p")).await.code, 404);
    let gone = api.patch(&format!("{PODS}/p/ephemeralcontainers"), "merge", &json!({})).await;
    assert_eq!(gone.code, 404);
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let cluster = Cluster::start().await;
    let io = TokioIo::new(cluster.admin.raw().await);
    let (mut over_2, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    for path in ["/version", "/openapi/v3", "/api/v1/namespaces/default", "/api/v1/namespaces/none"] {
        let full = cluster.admin.get(path).await;
        let request =
            http::Request::head(format!("https://test{path}")).body(Full::<Bytes>::default()).unwrap();
        let answer = over_2.send_request(request).await.unwrap();
        assert_eq!(answer.status(), full.code, "{path}");
        assert_eq!(answer.headers()["content-length"], full.headers["content-length"], "{path}");
        let body = answer.into_body().collect().await.expect(path).to_bytes();
        assert!(body.is_empty(), "{path}");
        let over_1 = cluster.admin.call(http::Method::HEAD, path, &[], Bytes::new()).await;
        assert_eq!(over_1.headers["content-length"], full.headers["content-length"], "{path}");
    }
}
