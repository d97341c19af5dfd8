//! Leaving HTTP: to WebSocket or to SPDY/3.1, with a protocol of the streams on top.

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hyper_util::rt::TokioIo;

use super::super::Refusal;
use crate::server::spdy::Connection;

const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What a client wants to speak.
pub enum Upgrade {
    WebSocket(WebSocketUpgrade),
    Spdy(Spdy),
}

/// An upgrade to SPDY that is not yet granted.
pub struct Spdy {
    /// The protocol that both sides know.
    pub protocol: &'static str,
    client: hyper::upgrade::OnUpgrade,
}

/// Which upgrade a request asks for; `known` are the protocols over SPDY, best first.
///
/// # Errors
/// 400 if it asks for none, 403 if no protocol is common to both sides.
pub async fn of(request: Request, known: &[&'static str]) -> Result<Upgrade, Refusal> {
    let (mut parts, body) = request.into_parts();
    let wanted = parts.headers.get(UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if wanted.eq_ignore_ascii_case("websocket") {
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
        return upgrade.map(Upgrade::WebSocket).map_err(|e| Refusal(e.status(), e.body_text()));
    }
    if !wanted.to_ascii_lowercase().starts_with("spdy/3.1") {
        let text = format!("unable to upgrade: missing upgrade headers in request: {wanted:?}");
        return Err(Refusal(StatusCode::BAD_REQUEST, text));
    }
    let protocol = negotiate(&parts.headers, known)?;
    let mut request = Request::from_parts(parts, body);
    Ok(Upgrade::Spdy(Spdy { protocol, client: hyper::upgrade::on(&mut request) }))
}

fn negotiate(headers: &HeaderMap, known: &[&'static str]) -> Result<&'static str, Refusal> {
    let offered: Vec<&str> = headers
        .get_all(PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|v| !v.is_empty())
        .collect();
    if offered.is_empty() {
        // Clients from before protocols had names speak the oldest.
        return Ok(known.last().copied().unwrap_or_default());
    }
    known.iter().find(|k| offered.contains(*k)).copied().ok_or_else(|| {
        let text = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {known:?}"
        );
        Refusal(StatusCode::FORBIDDEN, text)
    })
}

impl Spdy {
    /// Grants the upgrade and hands the connection to `serve`.
    pub fn grant<F>(self, serve: impl FnOnce(Connection) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let client = self.client;
        tokio::spawn(async move {
            match client.await {
                Ok(upgraded) => serve(Connection::serve(TokioIo::new(upgraded))).await,
                Err(e) => tracing::debug!("a client did not upgrade to SPDY: {e}"),
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        headers.insert(PROTOCOL, HeaderValue::from_static(self.protocol));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_common_protocol_is_taken() {
        let known = ["v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io"];
        let of = |offered: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for protocol in offered {
                headers.append(PROTOCOL, HeaderValue::from_static(protocol));
            }
            negotiate(&headers, &known).map_err(|e| e.0)
        };
        assert_eq!(of(&["channel.k8s.io", "v4.channel.k8s.io"]), Ok("v4.channel.k8s.io"));
        assert_eq!(of(&["v9.channel.k8s.io, v3.channel.k8s.io"]), Ok("v3.channel.k8s.io"));
        assert_eq!(of(&[]), Ok("channel.k8s.io"));
        assert_eq!(of(&["v9.channel.k8s.io"]), Err(StatusCode::FORBIDDEN));
    }
}
