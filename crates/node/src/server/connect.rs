//! HTTP CONNECT: the API server's way to ports of this node's pods, whose addresses only nodes reach.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Api, Refusal};
use crate::pod::Snapshot;

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Joins the connection with one to the address that is asked for, if it is a pod's.
pub async fn connect<B>(api: &Api, request: Request<B>) -> Response
where
    B: Send + 'static,
{
    match dial(api, request.uri().authority().map(|a| a.as_str())).await {
        Ok(pod) => {
            tokio::spawn(async move {
                match hyper::upgrade::on(request).await {
                    Ok(client) => join(TokioIo::new(client), pod).await,
                    Err(e) => tracing::debug!("a tunnel to a pod was not opened: {e}"),
                }
            });
            Response::new(Body::empty())
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn dial(api: &Api, authority: Option<&str>) -> Result<TcpStream, Refusal> {
    let address: Option<SocketAddr> = authority.and_then(|a| a.parse().ok());
    let Some(address) = address else {
        return Err(Refusal(StatusCode::BAD_REQUEST, "CONNECT needs an address and a port".into()));
    };
    if !api.directory.all().iter().any(|snapshot| has_address(snapshot, address)) {
        let text = format!("dial tcp {address}: no pod of this node has this address");
        return Err(Refusal(StatusCode::FORBIDDEN, text));
    }
    let failed = |cause: &str| Refusal(StatusCode::BAD_GATEWAY, format!("dial tcp {address}: {cause}"));
    match tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) => Err(failed(&format!("connect: {}", crate::probe::check::cause(&e)))),
        Err(_) => Err(failed("i/o timeout")),
    }
}

fn has_address(snapshot: &Snapshot, address: SocketAddr) -> bool {
    let ip = address.ip().to_string();
    snapshot.status.pod_ips.iter().flatten().any(|p| p.ip == ip)
}

async fn join<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut client: S, mut pod: TcpStream) {
    let _ = pod.set_nodelay(true);
    if let Err(e) = tokio::io::copy_bidirectional(&mut client, &mut pod).await {
        tracing::debug!("a tunnel to a pod broke: {e}");
    }
}
