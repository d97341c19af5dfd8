//! Requests passed on to a node's kubelet API: logs, exec, attach, port-forward, and `nodes/proxy`.

mod forward;
mod location;

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::error::ApiError;
use crate::http::listen::{KeyPair, ListenError};
use crate::http::request::{Query, Target, wrong_method};
use crate::http::respond::{self, Body};
use crate::http::route::App;
use crate::registry::object::text;
use crate::schema::schema;

/// How nodes are reached: with the client certificate that their kubelet APIs trust.
pub struct Nodes {
    tls: TlsConnector,
}

impl Nodes {
    pub fn new(roots: Arc<RootCertStore>, pair: KeyPair) -> Result<Self, ListenError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| ListenError::Tls(e.to_string()))?
            .with_root_certificates(roots)
            .with_client_auth_cert(pair.chain, pair.key)
            .map_err(|e| ListenError::Tls(e.to_string()))?;
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }
}

/// Where a node's kubelet API listens, and for whom it is asked.
struct Kubelet {
    node: String,
    address: SocketAddr,
    /// What the client wants there, for error messages, as in `pod default/web`.
    purpose: String,
}

pub fn is_proxied(target: &Target) -> bool {
    let sub = target.subresource.as_str();
    match target.resource.plural {
        "pods" => matches!(sub, "log" | "exec" | "attach" | "portforward" | "proxy"),
        "services" | "nodes" => sub == "proxy",
        _ => false,
    }
}

pub async fn handle(
    app: &App,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    if target.resource.plural == "nodes" {
        let kubelet = kubelet_of(app, &target.name, format!("node {}", target.name))?;
        let path = location::with_query(&format!("/{}", target.rest), request.uri().query());
        return forward::forward(&app.nodes, &kubelet, &path, request).await;
    }
    if target.subresource == "proxy" {
        return Err(ApiError::new(
            501,
            "NotImplemented",
            format!(
                "{}/proxy is not served by this cluster yet; use kubectl port-forward instead",
                target.resource.plural
            ),
        ));
    }
    let main = Target { subresource: String::new(), ..target.clone() };
    let pod = app.registry.get(&main)?;
    let node = text(&pod, "/spec/nodeName");
    let streams = target.subresource != "log";
    if !matches!(*request.method(), Method::GET | Method::POST)
        || (!streams && *request.method() != Method::GET)
    {
        return Err(wrong_method());
    }
    if node.is_empty() {
        if !streams {
            return Ok(respond::text(200, ""));
        }
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    let path = location::of_pod(target, &pod, query)?;
    if streams && !request.headers().contains_key(http::header::UPGRADE) {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let kubelet = kubelet_of(app, node, format!("pod {}/{}", target.namespace, target.name))?;
    forward::forward(&app.nodes, &kubelet, &path, request).await
}

fn kubelet_of(app: &App, node: &str, purpose: String) -> Result<Kubelet, ApiError> {
    let resource = schema().resource("", "v1", "nodes").ok_or_else(|| ApiError::internal("no nodes here"))?;
    let target = Target {
        resource: resource.clone(),
        namespace: String::new(),
        name: node.to_owned(),
        subresource: String::new(),
        rest: String::new(),
    };
    let found = app.registry.get(&target).map_err(|e| match e.code {
        404 => ApiError::internal(format!("{purpose} is on node \"{node}\", which does not exist any more")),
        _ => e,
    })?;
    let address = location::kubelet_address(&found).ok_or_else(|| {
        ApiError::internal(format!(
            "node \"{node}\" has no InternalIP in its status yet, so {purpose} is out of reach"
        ))
    })?;
    Ok(Kubelet { node: node.to_owned(), address, purpose })
}

/// The containers of a pod, init containers included.
fn containers(pod: &Value) -> impl Iterator<Item = &str> {
    let lists = ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"];
    let all = lists.into_iter().filter_map(|pointer| pod.pointer(pointer)?.as_array()).flatten();
    all.map(|container| text(container, "/name"))
}
