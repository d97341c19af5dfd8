//! An API server that only tells: prepared objects to whoever watches, and changes when it is told to. It costs next
//! to nothing, so that what is measured is who listens.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use daymark_apiserver::protobuf;
use futures::stream::{self, Stream, StreamExt};
use tokio::runtime::Runtime;
use tokio::sync::broadcast;

use crate::lan::HOST_IP;
use crate::objects::Wanted;

/// Objects in one piece of an answer.
const AT_ONCE: usize = 64;
/// How far who listens may lag behind.
const BACKLOG: usize = 1 << 17;

/// An event of a watch in the encodings that kube-apiserver has: a line, and a frame of protobuf.
#[derive(Clone)]
pub struct Event {
    json: Bytes,
    protobuf: Bytes,
}

impl Event {
    fn new(what: &str, object: &str) -> Result<Self> {
        let json = Bytes::from(format!("{{\"type\":\"{what}\",\"object\":{object}}}\n"));
        let protobuf = protobuf::frame(what, &serde_json::from_str(object)?)?.into();
        Ok(Self { json, protobuf })
    }

    /// The mark of a list's end.
    fn end(kind: &str, version: &str) -> Result<Self> {
        Self::new(
            "BOOKMARK",
            &format!(
                r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{{"resourceVersion":"1","annotations":{{"k8s.io/initial-events-end":"true"}}}}}}"#
            ),
        )
    }
}

/// What is told of a kind, with the mark of its end.
type List = Vec<Event>;

struct Told {
    services: List,
    slices: List,
    nodes: List,
    node: String,
    changes: broadcast::Sender<Event>,
}

/// Serves on the LAN's host until dropped.
pub struct Feed {
    runtime: Runtime,
    told: Arc<Told>,
    pub address: SocketAddr,
}

impl Feed {
    /// With these objects, and a node of this name and address.
    pub fn start(objects: &[Wanted<'_>], node: &str, ip: IpAddr) -> Result<Self> {
        let list = |object: &dyn Fn(&Wanted<'_>) -> String, kind, version| -> Result<List> {
            let events = objects.iter().map(|wanted| Event::new("ADDED", &object(wanted)));
            events.chain([Event::end(kind, version)]).collect()
        };
        let services = list(&service, "Service", "v1")?;
        let of = |w: &Wanted<'_>| slice(w.name, &w.endpoints, w.target_port, 1);
        let slices = list(&of, "EndpointSlice", "discovery.k8s.io/v1")?;
        let node = format!(
            r#"{{"kind":"Node","apiVersion":"v1","metadata":{{"name":"{node}","uid":"{}","resourceVersion":"1","creationTimestamp":"2026-01-01T00:00:00Z"}},"spec":{{}},"status":{{"addresses":[{{"type":"InternalIP","address":"{ip}"}}]}}}}"#,
            uid(node)
        );
        let nodes = vec![Event::new("ADDED", &node)?, Event::end("Node", "v1")?];
        let told = Arc::new(Told { services, slices, nodes, node, changes: broadcast::channel(BACKLOG).0 });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = TcpListener::bind((HOST_IP, 0)).context("the feed's port")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let routes = Router::new()
            .route("/api/v1/services", get(services_of))
            .route("/apis/discovery.k8s.io/v1/endpointslices", get(slices_of))
            .route("/api/v1/nodes", get(nodes_of))
            .route("/api/v1/nodes/{name}", get(node_of))
            .fallback(otherwise)
            .with_state(told.clone());
        let serve = async move { axum::serve(tokio::net::TcpListener::from_std(listener)?, routes).await };
        runtime.spawn(serve);
        Ok(Self { runtime, told, address })
    }

    /// Tells of one changed slice now.
    pub fn change(&self, name: &str, endpoints: &[IpAddr], target_port: u16, version: usize) -> Result<()> {
        let change = Self::prepare(name, endpoints, target_port, version)?;
        // Nobody may be listening.
        let _ = self.told.changes.send(change);
        Ok(())
    }

    /// Tells of prepared changes at a rate, and returns how long it took.
    pub fn change_at_rate(&self, changes: Vec<Event>, per_second: u32) -> Duration {
        let sender = self.told.changes.clone();
        let began = std::time::Instant::now();
        self.runtime.block_on(async {
            let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
            for change in changes {
                tick.tick().await;
                let _ = sender.send(change);
            }
        });
        began.elapsed()
    }

    pub fn prepare(name: &str, endpoints: &[IpAddr], target_port: u16, version: usize) -> Result<Event> {
        Event::new("MODIFIED", &slice(name, endpoints, target_port, version))
    }
}

fn uid(name: &str) -> String {
    let sum = name.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    format!("8d1c2f1e-5b3a-4c1d-9e2f-{:012x}", sum & 0xffff_ffff_ffff)
}

/// As a real API server tells it, with everything that a controller leaves in the metadata.
fn slice(name: &str, endpoints: &[IpAddr], target_port: u16, version: usize) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .enumerate()
        .map(|(i, ip)| {
            format!(
                r#"{{"addresses":["{ip}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},"targetRef":{{"kind":"Pod","namespace":"default","name":"{name}-7997854574-{i:05}","uid":"{}"}},"nodeName":"far","zone":"zone-a"}}"#,
                uid(name)
            )
        })
        .collect();
    format!(
        r#"{{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{{"name":"{name}","generateName":"{name}-","namespace":"default","uid":"{uid}","resourceVersion":"{version}","generation":{version},"creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"{name}","endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"{name}"}},"annotations":{{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-01T00:00:00Z"}},"ownerReferences":[{{"apiVersion":"v1","kind":"Service","name":"{name}","uid":"{uid}","controller":true,"blockOwnerDeletion":true}}],"managedFields":[{{"manager":"kube-controller-manager","operation":"Update","apiVersion":"discovery.k8s.io/v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{{"f:addressType":{{}},"f:endpoints":{{}},"f:metadata":{{"f:annotations":{{".":{{}},"f:endpoints.kubernetes.io/last-change-trigger-time":{{}}}},"f:generateName":{{}},"f:labels":{{".":{{}},"f:app":{{}},"f:endpointslice.kubernetes.io/managed-by":{{}},"f:kubernetes.io/service-name":{{}}}},"f:ownerReferences":{{".":{{}},"k:{{\"uid\":\"{uid}\"}}":{{}}}}}},"f:ports":{{}}}}}}]}},"addressType":"IPv4","endpoints":[{endpoints}],"ports":[{{"name":"","protocol":"TCP","port":{target_port}}}]}}"#,
        uid = uid(name),
        endpoints = endpoints.join(","),
    )
}

fn service(wanted: &Wanted<'_>) -> String {
    let Wanted { name, ip, target_port, .. } = wanted;
    format!(
        r#"{{"kind":"Service","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"default","uid":"{uid}","resourceVersion":"1","creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"{name}"}},"managedFields":[{{"manager":"kubectl","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:labels":{{".":{{}},"f:app":{{}}}}}},"f:spec":{{"f:internalTrafficPolicy":{{}},"f:ports":{{".":{{}},"k:{{\"port\":80,\"protocol\":\"TCP\"}}":{{".":{{}},"f:port":{{}},"f:protocol":{{}},"f:targetPort":{{}}}}}},"f:selector":{{}},"f:sessionAffinity":{{}},"f:type":{{}}}}}}}}]}},"spec":{{"ports":[{{"protocol":"TCP","port":80,"targetPort":{target_port}}}],"selector":{{"app":"{name}"}},"clusterIP":"{ip}","clusterIPs":["{ip}"],"type":"ClusterIP","sessionAffinity":"None","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"}},"status":{{"loadBalancer":{{}}}}}}"#,
        uid = uid(name),
    )
}

/// What exists and then `changes` for ever, in protobuf for who accepts it first.
fn stream_of(
    told: Arc<Told>,
    headers: &HeaderMap,
    what: fn(&Told) -> &List,
    changes: Option<broadcast::Receiver<Event>>,
) -> Response {
    const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
    let protobuf =
        headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(PROTOBUF.as_bytes()));
    let encoded = move |event: &Event| if protobuf { event.protobuf.clone() } else { event.json.clone() };
    let count = what(&told).len().div_ceil(AT_ONCE);
    let pieces = stream::iter(0..count).map(move |piece| {
        let events = what(&told).iter().skip(piece * AT_ONCE).take(AT_ONCE);
        Bytes::from(events.flat_map(encoded).collect::<Vec<u8>>())
    });
    let all = pieces.chain(follow(changes).map(move |change| encoded(&change)));
    let mut response = Response::new(Body::from_stream(all.map(Ok::<_, std::convert::Infallible>)));
    let of = if protobuf { "application/vnd.kubernetes.protobuf;stream=watch" } else { "application/json" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(of));
    response
}

fn follow(changes: Option<broadcast::Receiver<Event>>) -> impl Stream<Item = Event> {
    stream::unfold(changes, |changes| async {
        match changes {
            Some(mut receiver) => receiver.recv().await.ok().map(|change| (change, Some(receiver))),
            None => std::future::pending().await,
        }
    })
}

async fn services_of(State(told): State<Arc<Told>>, headers: HeaderMap) -> Response {
    stream_of(told, &headers, |told| &told.services, None)
}

async fn slices_of(State(told): State<Arc<Told>>, headers: HeaderMap) -> Response {
    let changes = told.changes.subscribe();
    stream_of(told, &headers, |told| &told.slices, Some(changes))
}

async fn nodes_of(State(told): State<Arc<Told>>, headers: HeaderMap) -> Response {
    stream_of(told, &headers, |told| &told.nodes, None)
}

async fn node_of(State(told): State<Arc<Told>>, Path(_): Path<String>) -> Response {
    told.node.clone().into_response()
}

/// Events are taken and forgotten.
async fn otherwise(method: Method, uri: Uri, body: Bytes) -> Response {
    if method == Method::POST {
        return (StatusCode::CREATED, body).into_response();
    }
    (StatusCode::NOT_FOUND, format!("{{\"kind\":\"Status\",\"code\":404,\"message\":\"{uri}\"}}"))
        .into_response()
}

/// Where a kubeconfig of nobody in particular is written.
pub fn kubeconfig(feed: &Feed, dir: &std::path::Path) -> Result<std::path::PathBuf> {
    let path = dir.join("feed.kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: b, cluster: {{server: 'http://{}'}}}}]\nusers: [{{name: b, user: {{token: none}}}}]\ncontexts: [{{name: b, context: {{cluster: b, user: b}}}}]\ncurrent-context: b\n",
        feed.address
    );
    std::fs::write(&path, text)?;
    Ok(path)
}
