//! What clients should not send: each gets a clear `Status`, and the server lives on, no larger than before.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed test")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use support::{Answer, Client, Cluster, connections};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn post(client: &Client, media_type: &str, body: impl Into<Bytes>) -> Answer {
    client.call(Method::POST, MAPS, &[("content-type", media_type)], body.into()).await
}

/// One field of a protobuf message.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = payload.len();
    while length > 0x7f {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(payload);
    bytes
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &meta), field(2, raw)].concat()
}

/// A CustomResourceDefinition whose schema holds schemas, `levels` of them.
fn deep_definition(levels: usize) -> Vec<u8> {
    let mut schema = Vec::new();
    for _ in 0..levels {
        // `not` of JSONSchemaProps, with a field number of two bytes.
        let mut outer = field(0, &schema);
        outer.splice(0..1, [0xe2, 0x01]);
        schema = outer;
    }
    let version = field(4, &field(1, &schema));
    envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &field(2, &field(7, &version)))
}

#[tokio::test]
async fn malformed_bodies_are_refused() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let laughs = {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let last = level - 1;
            text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{last}"); 9].join(", "));
        }
        text
    };
    let wide = format!("a: &a [{}]\nb: [{}]\n", vec!["x"; 200_000].join(","), vec!["*a"; 200_000].join(","));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 200_000].join(","));
    let cases: Vec<(&str, &str, Bytes, u16)> = vec![
        ("no JSON", JSON, "{\"metadata\":".into(), 400),
        ("two documents", JSON, "{} {}".into(), 400),
        ("a number", JSON, "7".into(), 400),
        ("a list of a kind", JSON, "[]".into(), 400),
        ("invalid UTF-8", JSON, Bytes::from_static(b"{\"metadata\":{\"name\":\"a\xff\"}}"), 400),
        ("half a surrogate", JSON, r#"{"metadata":{"name":"\ud800"}}"#.into(), 400),
        ("deep lists", JSON, deep("[", "]").into(), 400),
        ("deep objects", JSON, format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)).into(), 400),
        ("a deep field", JSON, format!("{{\"data\":{}{}}}", "[".repeat(200), "]".repeat(200)).into(), 400),
        ("another kind", JSON, r#"{"kind":"Secret","apiVersion":"v1"}"#.into(), 400),
        ("an unknown kind", JSON, r#"{"kind":"Nothing","apiVersion":"none.example/v1"}"#.into(), 400),
        ("no YAML", YAML, "a: [b".into(), 400),
        ("several YAML documents", YAML, "a: 1\n---\na: 2\n".into(), 400),
        ("deep YAML", YAML, deep("[", "]").into(), 400),
        ("a tag", YAML, "metadata: !thing {}\n".into(), 400),
        ("a billion laughs", YAML, laughs.into(), 400),
        ("wide aliases", YAML, wide.into(), 400),
        ("long aliases", YAML, long.into(), 400),
        ("YAML that is not UTF-8", YAML, Bytes::from_static(b"metadata: {name: \"\xff\"}"), 400),
        ("no protobuf", PROTOBUF, "{}".into(), 400),
        ("a bare prefix", PROTOBUF, Bytes::from_static(b"k8s\0"), 400),
        ("a cut message", PROTOBUF, envelope("v1", "ConfigMap", &[])[..12].to_vec().into(), 400),
        (
            "a length without end",
            PROTOBUF,
            Bytes::from_static(b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            400,
        ),
        (
            "an overlong number",
            PROTOBUF,
            Bytes::from_static(b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            400,
        ),
        ("a kind that is none", PROTOBUF, envelope("v9", "Nothing", &[]).into(), 400),
        ("a deep message", PROTOBUF, deep_definition(20_000).into(), 400),
        (
            "a text that is not UTF-8",
            PROTOBUF,
            envelope("v1", "ConfigMap", &field(1, &field(1, b"\xff"))).into(),
            400,
        ),
        ("another type", "application/xml", "<a/>".into(), 415),
        ("a form", "multipart/form-data; boundary=x", "--x".into(), 415),
        ("too much", JSON, vec![b' '; 10 << 20].into(), 413),
        ("too much YAML", YAML, vec![b'#'; 10 << 20].into(), 413),
    ];
    for (what, media_type, body, code) in cases {
        let answer = post(api, media_type, body).await;
        assert_eq!((answer.code, &answer.body["kind"]), (code, &json!("Status")), "{what}: {}", answer.body);
        assert!(
            !answer.message().is_empty() && answer.message().len() < 8_192,
            "{what}: {}",
            answer.message()
        );
    }
    let kept = api.get(MAPS).await.ok();
    assert_eq!(kept["items"], json!([]), "nothing of it was stored");
    assert_eq!(
        post(api, PROTOBUF, envelope("v1", "ConfigMap", &field(1, &field(1, b"fine")))).await.code,
        201
    );
    let aliased = "metadata: {name: aliased}\ndata: {a: &a same, b: *a}\n";
    assert_eq!(post(api, YAML, aliased).await.ok()["data"], json!({"a": "same", "b": "same"}));
}

#[tokio::test]
async fn patches_do_not_blow_objects_up() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    api.post(MAPS, &json!({"metadata": {"name": "m"}, "data": {"a": "x".repeat(1000)}})).await.ok();
    let path = format!("{MAPS}/m");
    let copies = |from: &str, to: &str, times: usize| {
        let step = |at: usize| json!({"op": "copy", "from": from, "path": format!("{to}{at}")});
        Value::from((0..times).map(step).collect::<Vec<Value>>())
    };
    // Refused before it is applied, not for what came of it.
    let refused = async |patch: Value| {
        let answer = api.patch(&path, "json", &patch).await;
        assert_eq!(answer.failure(), (422, "Invalid"), "{}", answer.body);
        assert_eq!(answer.message(), "the server rejected our request due to an error in our request");
    };
    // Each doubles what is there.
    refused(copies("", "/data/", 40)).await;
    let inward = vec![json!({"op": "copy", "from": "/data", "path": "/data/a"}); 60];
    assert_eq!(api.patch(&path, "json", &inward.into()).await.failure(), (422, "Invalid"));
    let mut deep = Vec::new();
    let mut at = "/data".to_owned();
    for _ in 0..300 {
        at += "/a";
        deep.push(json!({"op": "add", "path": at, "value": {}}));
    }
    refused(deep.into()).await;
    let many: Vec<Value> =
        (0..10_001).map(|_| json!({"op": "test", "path": "/kind", "value": "ConfigMap"})).collect();
    assert_eq!(api.patch(&path, "json", &many.into()).await.failure(), (413, "RequestEntityTooLarge"));
    for (kind, body) in
        [("merge", json!([1])), ("json", json!({"op": "add"})), ("strategic-merge", json!("x"))]
    {
        assert_eq!(api.patch(&path, kind, &body).await.code, 400, "{kind}");
    }
    assert_eq!(api.get(&path).await.ok()["data"]["a"], "x".repeat(1000));
}

/// Objects without a schema may nest as deep as they like, up to what can be read again.
#[tokio::test]
async fn what_is_stored_can_be_read_again() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "trees.example.org"}, "spec": {"group": "example.org", "scope": "Namespaced",
            "names": {"plural": "trees", "kind": "Tree"}, "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.ok();
    let trees = "/apis/example.org/v1/namespaces/default/trees";
    for _ in 0..100 {
        if api.get(trees).await.code == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut refused = 0;
    for levels in (90..130).step_by(1) {
        let mut deep = json!(1);
        for _ in 0..levels {
            deep = json!({"a": deep});
        }
        let tree = json!({"apiVersion": "example.org/v1", "kind": "Tree", "metadata": {"name": format!("t{levels}")},
            "spec": deep});
        let answer = api.post(trees, &tree).await;
        refused += usize::from(answer.code == 400);
        assert!(matches!(answer.code, 201 | 400), "{levels}: {}", answer.message());
        assert_eq!(api.get(trees).await.code, 200, "after {levels} levels: all can be listed");
    }
    assert!(refused > 0, "some were too deep");
}

#[tokio::test]
async fn names_in_paths_stay_in_their_place() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    api.post("/api/v1/namespaces/kube-system/secrets", &json!({"metadata": {"name": "s"}})).await.ok();
    let nothing = "the server could not find the requested resource";
    for path in [
        "/api/v1/namespaces/default/secrets/..%2Fkube-system%2Fs",
        "/api/v1/namespaces/default%2F..%2Fkube-system/secrets/s",
        "/api/v1/namespaces/kube-system%2Fsecrets/s",
        "/api/v1/namespaces//secrets/kube-system%2Fs",
        "/api/v1/secrets/kube-system%2Fs",
        "/api/v1/namespaces/default/../kube-system/secrets/s",
        "/api/v1/namespaces/default/secrets/%00",
        "/api/v1/namespaces/default/secrets/%ff%fe",
    ] {
        let answer = api.get(path).await;
        assert_eq!((answer.code, &answer.body["kind"]), (404, &json!("Status")), "{path}: {}", answer.body);
        // Not even an object of that name is looked for.
        assert!(!path.contains("%2F") || answer.message() == nothing, "{path}: {}", answer.message());
    }
    for name in ["../x", "a/b", "..", ".", "%2e%2e", "a\u{0}", "A", "é"] {
        let answer = api.post(MAPS, &json!({"metadata": {"name": name}})).await;
        assert_eq!(answer.failure(), (422, "Invalid"), "{name:?}");
    }
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("after 10 s: {what}");
}

async fn open_watch(client: &Client) -> support::Raw {
    let mut stream = client.raw().await;
    let request = format!("GET {MAPS}?watch=1 HTTP/1.1\r\nhost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_end_with_their_clients() {
    let cluster = Cluster::start().await;
    let port = cluster.address.port();
    let mut half = Vec::new();
    for _ in 0..50 {
        let mut stream = open_watch(&cluster.admin).await;
        stream.shutdown().await.unwrap();
        half.push(stream);
    }
    for mut stream in half {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        ended.expect("a watch whose client has said its last ends").ok();
    }
    let mut gone = Vec::new();
    for _ in 0..50 {
        gone.push(open_watch(&cluster.admin).await);
    }
    drop(gone);
    until("connections are left", || connections(port) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_cost_no_memory() {
    let cluster = Cluster::start().await;
    let api = &cluster.admin;
    let text = "x".repeat(300 << 10);
    let map = |n: usize| json!({"metadata": {"name": "big"}, "data": {"n": n.to_string(), "text": text}});
    api.post(MAPS, &map(0)).await.ok();
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(open_watch(api).await);
    }
    for n in 1..30 {
        api.put(&format!("{MAPS}/big"), &map(n)).await.ok();
    }
    let before = resident_kib();
    for n in 30..110 {
        api.put(&format!("{MAPS}/big"), &map(n)).await.ok();
    }
    // 24 MiB of changes for each of 20 watches: 480 MiB if they were kept for them.
    let more = resident_kib().saturating_sub(before);
    assert!(more < 64 << 10, "{more} KiB more");
    let mut last = slow.pop().unwrap();
    drop(slow);
    // And they have missed nothing.
    let (mut seen, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    let newest = "\"n\":\"109\"".as_bytes();
    while !seen.windows(newest.len()).any(|part| part == newest) {
        let read = tokio::time::timeout(Duration::from_secs(20), last.read(&mut buffer)).await;
        let read = read.expect("the watch goes on").unwrap();
        assert!(read > 0, "the watch ended early");
        let keep = seen.len().saturating_sub(newest.len());
        seen.drain(..keep);
        seen.extend_from_slice(&buffer[..read]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_requests_hold_up_nobody() {
    let cluster = Cluster::start().await;
    let port = cluster.address.port();
    let others = half_sent_requests(&cluster, port);
    tokio::time::timeout(Duration::from_secs(20), others).await.expect("others wait for them");
    cluster.server.shutdown().await;
}

async fn half_sent_requests(cluster: &Cluster, port: u16) {
    let mut idle = Vec::new();
    for n in 0..200 {
        let mut stream = cluster.admin.raw().await;
        let part = [
            "",
            "GET /api/v1",
            "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\n{",
        ];
        stream.write_all(part[n % part.len()].as_bytes()).await.unwrap();
        idle.push(stream);
    }
    let mut nonsense = tokio::net::TcpStream::connect(cluster.address).await.unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(cluster.admin.get("/livez").await.body, "ok");
    drop((idle, nonsense));
    until("connections are left", || connections(port) == 0).await;
}
