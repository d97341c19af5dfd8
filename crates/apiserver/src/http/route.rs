//! The first decision about a request: who sent it, and is it for a resource or something else.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::request::{Query, not_served, target_among};
use super::respond::{self, Body};
use super::{meta_routes, resource_routes};
use crate::access::{Attributes, Identity, bearer, impersonate};
use crate::error::ApiError;
use crate::proxy::Nodes;
use crate::registry::Registry;

/// Health is no secret, whatever the roles say.
const ALWAYS_ALLOWED: [&str; 3] = ["/healthz", "/readyz", "/livez"];

/// What every request can use.
pub struct App {
    pub registry: Registry,
    pub nodes: Nodes,
    /// What clients dial, as in `192.0.2.1:6443`.
    pub address: String,
    /// Cancelled when the server stops; long responses end then.
    pub shutdown: CancellationToken,
}

/// Answers one request; every failure becomes a `Status`.
pub async fn respond(app: &App, identity: &Arc<Identity>, request: Request<Incoming>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match answer(app, identity, request).await {
        Ok(response) => response,
        Err(e) => {
            if e.code >= 500 {
                tracing::warn!(%method, path, code = e.code, "{}", e.message);
            }
            respond::error(&e)
        }
    };
    tracing::debug!(%method, path, user = identity.user, code = response.status().as_u16(), "answered");
    if method == Method::HEAD { respond::head(response) } else { response }
}

async fn answer(
    app: &App,
    identity: &Arc<Identity>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let identity = authenticate(app, identity, request.headers()).await?;
    let path = percent_encoding::percent_decode_str(request.uri().path()).decode_utf8_lossy();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let asked = Attributes::of(request.method(), &path, &query);
    let identity = impersonate(app, identity, &asked, request.headers())?;
    if !ALWAYS_ALLOWED.contains(&&*path) {
        app.registry.authorize(&identity, &asked)?;
    }
    let path = request.uri().path();
    if let Some(target) = target_among(&app.registry.catalog.now(), path) {
        return resource_routes::handle(app, &identity, target, request).await;
    }
    if is_resource_path(path) {
        return Err(not_served());
    }
    meta_routes::handle(app, &request)
}

/// Who sends the request: the holder of the connection's certificate, else of the token.
async fn authenticate(
    app: &App,
    connection: &Arc<Identity>,
    headers: &HeaderMap,
) -> Result<Arc<Identity>, ApiError> {
    let Some(token) = bearer::token(headers).filter(|_| connection.is_anonymous()) else {
        return Ok(connection.clone());
    };
    let now = jiff::Timestamp::now();
    let (identity, unmarked) = app.registry.authenticate(&token, now)?;
    if let Some((namespace, name)) = unmarked
        && let Err(e) = app.registry.mark_used(&namespace, &name, now).await
    {
        tracing::warn!(namespace, name, why = e.message, "the use of a Secret's token could not be marked");
    }
    Ok(identity)
}

/// Whom the request is made as.
fn impersonate(
    app: &App,
    requestor: Arc<Identity>,
    asked: &Attributes<'_>,
    headers: &HeaderMap,
) -> Result<Arc<Identity>, ApiError> {
    let Some(wanted) = impersonate::wanted(headers)? else { return Ok(requestor) };
    let decide = |asked: &Attributes<'_>| app.registry.decide(&requestor, asked);
    impersonate::assume(&requestor, &wanted, asked, decide).map(Arc::new)
}

fn is_resource_path(path: &str) -> bool {
    let parts = path.trim_matches('/').split('/').count();
    (path.starts_with("/api/") && parts > 2) || (path.starts_with("/apis/") && parts > 3)
}
