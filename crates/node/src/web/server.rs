//! The HTTP server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::client::{self, TIER_HEADER};
use super::identity::Identity;
use super::listen;
use super::page::{self, Visit};

/// More tiers than this are taken for a loop.
const MAX_TIERS: u32 = 8;
/// How long open requests may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);
/// How long the next tier may take.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(5);

struct Site {
    identity: Identity,
    backend: Option<String>,
    ready: AtomicBool,
    requests: AtomicU64,
}

type Shared = State<Arc<Site>>;
type Client = ConnectInfo<SocketAddr>;

/// Serves until SIGTERM or SIGINT, then finishes open requests.
pub async fn run(port: u16, identity: Identity) -> Result<(), String> {
    let listener =
        listen::tcp(port).await.map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    let mut term = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    println!("{} ({}) listens on port {port}", identity.pod, identity.version);
    let site = Arc::new(Site {
        identity,
        backend: std::env::var("BACKEND_URL").ok().filter(|url| !url.is_empty()),
        ready: AtomicBool::new(true),
        requests: AtomicU64::new(0),
    });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut told = stopped.clone();
    let graceful = async move {
        let _ = told.wait_for(|stop| *stop).await;
    };
    let service = router(site).into_make_service_with_connect_info::<SocketAddr>();
    let server =
        tokio::spawn(async move { axum::serve(listener, service).with_graceful_shutdown(graceful).await });
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    println!("told to stop: finishing open requests");
    let _ = stop.send(true);
    match tokio::time::timeout(DRAIN, server).await {
        Ok(Ok(result)) => result.map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("requests were still open after {} s", DRAIN.as_secs())),
    }
}

fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/hostname", get(|State(site): Shared| async move { format!("{}\n", site.identity.pod) }))
        .route(
            "/clientip",
            get(|ConnectInfo(client): Client| async move { format!("{}\n", listen::client(client).ip()) }),
        )
        .route("/json", get(facts))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/ready", post(ready))
        .route("/fetch", get(fetch))
        .fallback(home)
        .with_state(site)
}

async fn home(State(site): Shared, ConnectInfo(client): Client, headers: HeaderMap) -> Response {
    let number = site.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let tier =
        headers.get(TIER_HEADER).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(0);
    let backend = match &site.backend {
        None => None,
        Some(url) if tier >= MAX_TIERS => {
            Some((url.clone(), Err("the tiers call each other in a loop".to_owned())))
        }
        Some(url) => {
            Some((url.clone(), client::get(url, BACKEND_TIMEOUT, tier + 1).await.map(|answer| answer.body)))
        }
    };
    let failed = backend.as_ref().is_some_and(|(_, answer)| answer.is_err());
    let status = if failed { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    let client = listen::client(client);
    let visit = Visit { identity: &site.identity, client, number, headers: &headers, backend: &backend };
    if wants_html(&headers) {
        (status, [(header::CACHE_CONTROL, "no-store")], Html(page::html(&visit))).into_response()
    } else {
        (status, [(header::CACHE_CONTROL, "no-store")], page::text(&visit)).into_response()
    }
}

/// Browsers ask for HTML by name; curl, wget and our own client don't.
fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

async fn facts(State(site): Shared, ConnectInfo(client): Client) -> Response {
    let (requests, client) = (site.requests.load(Ordering::Relaxed), listen::client(client));
    Json(json!({
        "pod": site.identity.pod, "namespace": site.identity.namespace, "node": site.identity.node,
        "ip": site.identity.ip, "version": site.identity.version,
        "client": client.ip().to_string(), "clientPort": client.port(), "requests": requests,
    }))
    .into_response()
}

async fn readyz(State(site): Shared) -> Response {
    if site.ready.load(Ordering::SeqCst) {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
}

#[derive(Deserialize)]
struct Ready {
    on: bool,
}

async fn ready(State(site): Shared, Query(wanted): Query<Ready>) -> &'static str {
    site.ready.store(wanted.on, Ordering::SeqCst);
    if wanted.on { "ready\n" } else { "not ready\n" }
}

#[derive(Deserialize)]
struct Fetch {
    url: String,
}

async fn fetch(Query(wanted): Query<Fetch>) -> Response {
    match client::get(&wanted.url, BACKEND_TIMEOUT, 1).await {
        Ok(answer) => {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
            (status, answer.body).into_response()
        }
        Err(problem) => (StatusCode::BAD_GATEWAY, format!("{problem}\n")).into_response(),
    }
}
