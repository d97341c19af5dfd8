//! The first decision about a request: who sent it, and is it for a resource or something else.

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::access::Identity;
use super::request::{not_served, target_among};
use super::respond::{self, Body};
use super::{meta_routes, resource_routes};
use crate::error::ApiError;
use crate::proxy::Nodes;
use crate::registry::Registry;

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
pub async fn respond(app: &App, identity: &Identity, request: Request<Incoming>) -> Response<Body> {
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
    response
}

async fn answer(
    app: &App,
    identity: &Identity,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    if identity.is_anonymous() && has_credentials(request.headers()) {
        return Err(ApiError::new(401, "Unauthorized", "Unauthorized"));
    }
    let path = request.uri().path();
    if let Some(target) = target_among(&app.registry.catalog.now(), path) {
        return resource_routes::handle(app, identity, target, request).await;
    }
    if is_resource_path(path) {
        // Whoever may not look learns nothing about what is served.
        if !identity.is_trusted() {
            return Err(identity.refuse_path(&request.method().as_str().to_lowercase(), path));
        }
        return Err(not_served());
    }
    meta_routes::handle(app, identity, &request)
}

/// Tokens are not issued, so none is right.
fn has_credentials(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::AUTHORIZATION)
}

fn is_resource_path(path: &str) -> bool {
    let parts = path.trim_matches('/').split('/').count();
    (path.starts_with("/api/") && parts > 2) || (path.starts_with("/apis/") && parts > 3)
}
