//! The kubelet API of the node: logs, exec, attach and the way to pods for the API server, over TLS with client
//! certificates.

mod client;
mod connect;
pub mod logs;
mod logs_api;
mod query;
mod spdy;
mod streams;
mod tls;

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use streams::exec;
use streams::port_forward::port_forward;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::NodeConfig;
use crate::pod::{Directory, Snapshot, spec};
use crate::runtime::{ContainerId, Runtime};

/// A bound kubelet API that does not answer yet.
pub struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener {
    /// The address that was bound.
    ///
    /// # Errors
    /// When the socket cannot tell.
    pub fn address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Binds the node's address; clients must present a certificate of the configured authority.
///
/// # Errors
/// When the address is taken or a certificate is unusable.
pub async fn listen(cfg: &NodeConfig) -> anyhow::Result<Listener> {
    let tls = tls::acceptor(&cfg.kubelet_cert_pem, &cfg.kubelet_key_pem, &cfg.client_ca_pem)?;
    let address = std::net::SocketAddr::new(cfg.runtime.node_ips.primary(), cfg.kubelet_port);
    let tcp = TcpListener::bind(address).await;
    let tcp = tcp.with_context(|| {
        format!("the kubelet API of {} cannot listen on {address}", cfg.runtime.node_name)
    })?;
    Ok(Listener { tcp, tls })
}

/// What handlers need.
#[derive(Clone)]
pub(crate) struct Api {
    directory: Directory,
    runtime: Runtime,
    /// A place for each exec and attach.
    sessions: Arc<Semaphore>,
}

/// An answer that is not what was asked for: status and text, as kubelet gives them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub StatusCode, pub String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// Serves until told to stop.
pub async fn serve(listener: Listener, directory: Directory, runtime: Runtime, stop: CancellationToken) {
    let sessions = Arc::new(Semaphore::new(exec::MOST_SESSIONS));
    let api = Api { directory, runtime, sessions };
    let router = router(api.clone());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.tcp.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::debug!("accepting kubelet API connections: {e}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (tls, router, api) = (listener.tls.clone(), router.clone(), api.clone());
        tokio::spawn(async move {
            let stream = match tls.accept(stream).await {
                Ok(stream) => stream,
                Err(e) => return tracing::debug!(%peer, "kubelet API: {e}"),
            };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let admitted = client::admit(certificate.map(|der| der.as_ref()));
            let builder = auto::Builder::new(TokioExecutor::new());
            let routes = TowerToHyperService::new(router);
            let service = service_fn(move |request: Request<Incoming>| {
                let (api, routes, admitted) = (api.clone(), routes.clone(), admitted.clone());
                async move {
                    if let Err(user) = admitted {
                        let text = format!("Forbidden (user={user}, resource=nodes, subresource=proxy)");
                        return Ok(Refusal(StatusCode::FORBIDDEN, text).into_response());
                    }
                    match *request.method() {
                        Method::CONNECT => Ok(connect::connect(&api, request).await),
                        _ => routes.call(request).await,
                    }
                }
            });
            if let Err(e) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
                tracing::debug!(%peer, "kubelet API: {e}");
            }
        });
    }
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/pods", get(pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs_api::container_logs))
        .route("/exec/{namespace}/{pod}/{container}", get(exec::exec).post(exec::exec))
        .route("/attach/{namespace}/{pod}/{container}", get(exec::attach).post(exec::attach))
        .route("/portForward/{namespace}/{pod}", get(port_forward).post(port_forward))
        .with_state(Arc::new(api))
}

async fn pods(State(api): State<Arc<Api>>) -> Response {
    let items: Vec<_> = api
        .directory
        .all()
        .iter()
        .map(|s| {
            let mut pod = k8s_openapi::api::core::v1::Pod::clone(&s.pod);
            pod.status = Some(s.status.clone());
            pod
        })
        .collect();
    axum::Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})).into_response()
}

impl Api {
    fn find(&self, namespace: &str, pod: &str) -> Result<Arc<Snapshot>, Refusal> {
        let missing = || {
            Refusal(StatusCode::NOT_FOUND, format!("pod \"{pod}_{namespace}\" does not exist on this node"))
        };
        self.directory.named(namespace, pod).ok_or_else(missing)
    }

    /// Id of the container if it runs.
    fn running(&self, snapshot: &Snapshot, container: &str) -> Result<ContainerId, Refusal> {
        check_name(snapshot, container)?;
        let record = snapshot.state.record(container).filter(|r| r.running());
        let id = record.and_then(|r| r.container_id()).map(|id| ContainerId(id.to_owned()));
        id.ok_or_else(|| {
            let pod = spec::name(&snapshot.pod);
            Refusal(
                StatusCode::BAD_REQUEST,
                format!("container \"{container}\" in pod \"{pod}\" is not running"),
            )
        })
    }
}

fn check_name(snapshot: &Snapshot, container: &str) -> Result<(), Refusal> {
    if spec::find_container(&snapshot.pod, container).is_some() {
        return Ok(());
    }
    let pod = spec::name(&snapshot.pod);
    Err(Refusal(StatusCode::BAD_REQUEST, format!("container {container} is not valid for pod {pod}")))
}
