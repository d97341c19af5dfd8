//! One request passed on: the answer streamed back, an upgrade turned into bytes both ways.

use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::{Kubelet, Nodes};
use crate::error::ApiError;
use crate::http::respond::{self, Body};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a refusal's text that are passed on.
const REFUSAL_LIMIT: usize = 16 << 10;
/// Headers that belong to one connection, not to the request.
const HOP_BY_HOP: [&str; 7] = [
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
];

pub(super) async fn forward(
    nodes: &Nodes,
    kubelet: &Kubelet,
    path: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let mut sender = connect(nodes, kubelet).await?;
    let upgrades = request.headers().contains_key(UPGRADE);
    let client = upgrades.then(|| hyper::upgrade::on(&mut request));
    let outgoing = outgoing(kubelet, path, request, upgrades)?;
    let mut response = sender.send_request(outgoing).await.map_err(|e| unreachable(kubelet, &e))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = client else {
            return Err(ApiError::internal(format!("node \"{}\" switched protocols unasked", kubelet.node)));
        };
        let node = hyper::upgrade::on(&mut response);
        tokio::spawn(join(client, node, kubelet.purpose.clone()));
        let mut answer = Response::new(respond::full(""));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = response.headers().clone();
        return Ok(answer);
    }
    if response.status().as_u16() >= 400 && !is_json(response.headers()) {
        return Err(refusal(kubelet, response).await);
    }
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    let body = body.map_err(std::io::Error::other).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    Ok(answer)
}

fn outgoing(
    kubelet: &Kubelet,
    path: &str,
    request: Request<Incoming>,
    upgrades: bool,
) -> Result<Request<Incoming>, ApiError> {
    let (mut parts, body) = request.into_parts();
    parts.uri = path.parse().map_err(|e| ApiError::bad_request(format!("the path is no URI: {e}")))?;
    parts.version = http::Version::HTTP_11;
    strip(&mut parts.headers);
    if upgrades {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    let host = HeaderValue::from_str(&kubelet.address.to_string());
    parts.headers.insert(HOST, host.map_err(|e| ApiError::internal(e.to_string()))?);
    Ok(Request::from_parts(parts, body))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/json"))
}

/// Kubelets refuse in plain text; clients want a `Status`.
async fn refusal(kubelet: &Kubelet, response: Response<Incoming>) -> ApiError {
    let code = response.status().as_u16();
    let body = Limited::new(response.into_body(), REFUSAL_LIMIT).collect().await;
    let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).trim().to_owned()).unwrap_or_default();
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        _ => "InternalError",
    };
    let Kubelet { node, purpose, .. } = kubelet;
    match text.is_empty() {
        true => ApiError::new(code, reason, format!("node \"{node}\" refused with {code} for {purpose}")),
        false => ApiError::new(code, reason, text),
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
}

async fn connect(nodes: &Nodes, kubelet: &Kubelet) -> Result<http1::SendRequest<Incoming>, ApiError> {
    let dial = async {
        let socket = TcpStream::connect(kubelet.address).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::IpAddress(kubelet.address.ip().into());
        nodes.tls.connect(name, socket).await
    };
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, dial).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return Err(unreachable(kubelet, &e)),
        Err(_) => return Err(unreachable(kubelet, &"no answer within 10 s")),
    };
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(kubelet, &e))?;
    tokio::spawn(async move {
        if let Err(e) = connection.with_upgrades().await {
            tracing::debug!("the connection to a node ended: {e}");
        }
    });
    Ok(sender)
}

async fn join(client: OnUpgrade, node: OnUpgrade, purpose: String) {
    let (client, node) = match tokio::try_join!(client, node) {
        Ok(both) => both,
        Err(e) => return tracing::debug!("a stream to {purpose} was not opened: {e}"),
    };
    let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
    if let Err(e) = tokio::io::copy_bidirectional(&mut client, &mut node).await {
        tracing::debug!("a stream to {purpose} broke: {e}");
    }
}

fn unreachable(kubelet: &Kubelet, cause: &dyn std::fmt::Display) -> ApiError {
    let Kubelet { node, address, purpose } = kubelet;
    ApiError::internal(format!(
        "error dialing backend: node \"{node}\" ({address}) does not answer for {purpose}: {cause}; is the \
         node's process running?"
    ))
}
