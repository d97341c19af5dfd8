//! One request passed on: the answer streamed back, an upgrade turned into bytes both ways.

use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::tunnel::{self, REFUSAL_LIMIT};
use super::{Kubelet, Nodes};
use crate::error::ApiError;
use crate::http::respond::{self, Body};

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
    let mut sender = tunnel::kubelet(nodes, kubelet).await?;
    let client = switching(&mut request);
    let outgoing = outgoing(kubelet, path, request, client.is_some())?;
    let mut response = sender.send_request(outgoing).await.map_err(|e| kubelet.unreachable(&e))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return carry(client, &mut response, &kubelet.purpose);
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

/// The client's side of an upgrade, if it asks for one.
pub(super) fn switching(request: &mut Request<Incoming>) -> Option<OnUpgrade> {
    request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(request))
}

/// Both sides switch protocols: from here on bytes go both ways.
pub(super) fn carry(
    client: Option<OnUpgrade>,
    response: &mut Response<Incoming>,
    purpose: &str,
) -> Result<Response<Body>, ApiError> {
    let Some(client) = client else {
        return Err(ApiError::internal(format!("{purpose} switched protocols unasked")));
    };
    tokio::spawn(join(client, hyper::upgrade::on(&mut *response), purpose.to_owned()));
    let mut answer = Response::new(respond::full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = response.headers().clone();
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
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let Kubelet { node, purpose, .. } = kubelet;
    match text.is_empty() {
        true => ApiError::new(code, reason, format!("node \"{node}\" refused with {code} for {purpose}")),
        false => ApiError::new(code, reason, text),
    }
}

pub(super) fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
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
