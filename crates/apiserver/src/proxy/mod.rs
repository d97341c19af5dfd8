//! Requests passed on to nodes and pods: logs, exec, attach, port-forward, and the `proxy` subresources.

mod destination;
mod forward;
mod location;
mod reverse;
mod rewrite;
mod tunnel;

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use rand::seq::SliceRandom;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use self::destination::{Asked, Destination};
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
    /// For HTTPS towards pods.
    pods_tls: TlsConnector,
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
        let pods_tls = tunnel::unverified().map_err(|e| ListenError::Tls(e.to_string()))?;
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), pods_tls })
    }
}

/// Where a node's kubelet API listens, and for whom it is asked.
struct Kubelet {
    node: String,
    address: SocketAddr,
    /// What the client wants there, for error messages, as in `pod default/web`.
    purpose: String,
}

impl Kubelet {
    fn unreachable(&self, cause: &dyn std::fmt::Display) -> ApiError {
        let Kubelet { node, address, purpose } = self;
        ApiError::internal(format!(
            "error dialing backend: node \"{node}\" ({address}) does not answer for {purpose}: {cause}; is the \
             node's process running?"
        ))
    }
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
    if target.subresource == "proxy" {
        return reach(app, target, request).await;
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
    let path = location::of_pod(target, &pod, query)?;
    if node.is_empty() {
        if !streams {
            // Nothing to show before it is scheduled, whether or not the client follows.
            return Ok(respond::nothing());
        }
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    if streams && !request.headers().contains_key(http::header::UPGRADE) {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let kubelet = kubelet_of(app, node, format!("pod {}/{}", target.namespace, target.name))?;
    forward::forward(&app.nodes, &kubelet, &path, request).await
}

/// The `proxy` subresources of nodes, pods and Services.
async fn reach(app: &App, target: &Target, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
    if let Some(answer) = reverse::redirect(target, &request) {
        return Ok(answer);
    }
    let (sender, address) = if target.resource.plural == "nodes" {
        let asked = Asked::parse(&target.name, "node")?;
        let kubelet = kubelet_of(app, asked.name, format!("node {}", asked.name))?;
        match asked.port.parse::<u16>() {
            Ok(port) if port != kubelet.address.port() => {
                let address = SocketAddr::new(kubelet.address.ip(), port);
                (tunnel::direct(&app.nodes, address, asked.https).await?, address)
            }
            _ => (tunnel::kubelet(&app.nodes, &kubelet).await?, kubelet.address),
        }
    } else {
        let to = destination(app, target)?;
        let kubelet = kubelet_of(app, &to.node, format!("{} {}", target.resource.plural, target.name))?;
        (tunnel::pod(&app.nodes, &kubelet, to.address, to.https).await?, to.address)
    };
    let links = reverse::links(target, &request, address);
    reverse::send(sender, target, links, request).await
}

fn destination(app: &App, target: &Target) -> Result<Destination, ApiError> {
    let get = |plural: &str, name: &str| get(app, plural, &target.namespace, name);
    if target.resource.plural == "pods" {
        let asked = Asked::parse(&target.name, "pod")?;
        return destination::of_pod(&asked, &get("pods", asked.name)?);
    }
    let asked = Asked::parse(&target.name, "service")?;
    let port = destination::port_name(&asked, || get("services", asked.name))?;
    let endpoints = get("endpoints", asked.name)?;
    let mut candidates = destination::candidates(&asked, &target.name, &port, &endpoints)?;
    candidates.shuffle(&mut rand::rng());
    let mut confirmed =
        candidates.iter().filter_map(|c| destination::confirm(&asked, c, &get("pods", &c.pod).ok()?));
    confirmed.next().ok_or_else(|| destination::none(&target.name))
}

/// An object of the core group.
fn get(app: &App, plural: &str, namespace: &str, name: &str) -> Result<Value, ApiError> {
    let resource = schema().resource("", "v1", plural);
    let resource = resource.ok_or_else(|| ApiError::internal(format!("no {plural} here")))?;
    app.registry.get(&Target {
        resource: resource.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
        rest: String::new(),
    })
}

fn kubelet_of(app: &App, node: &str, purpose: String) -> Result<Kubelet, ApiError> {
    let found = get(app, "nodes", "", node).map_err(|e| match e.code {
        404 if !purpose.starts_with("node ") => {
            ApiError::internal(format!("{purpose} is on node \"{node}\", which does not exist any more"))
        }
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
