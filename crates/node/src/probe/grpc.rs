//! gRPC probes: one call of `grpc.health.v1.Health/Check` (KEP-2727).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::GRPCAction;
use tokio::net::TcpStream;

use super::Outcome;

/// An answer has a few bytes.
const MOST_ANSWER: usize = 4096;
const UNIMPLEMENTED: &str = "12";

/// Asks the server on the pod's port whether the service of that name is well.
pub async fn check(action: &GRPCAction, ip: IpAddr, timeout: Duration) -> Outcome {
    let Some(port) = u16::try_from(action.port).ok().filter(|port| *port > 0) else {
        return Outcome::Failed(format!("invalid port number: {}", action.port));
    };
    let address = SocketAddr::new(ip, port);
    let deadline = tokio::time::Instant::now() + timeout;
    let stream = match tokio::time::timeout_at(deadline, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        failed => {
            let cause = failed.map_or("context deadline exceeded".into(), |r| {
                r.map_or_else(|e| super::check::cause(&e), |_| String::new())
            });
            let text =
                format!("timeout: failed to connect service \"{address}\" within {timeout:?}: {cause}");
            return Outcome::Failed(text);
        }
    };
    match tokio::time::timeout_at(deadline, ask(stream, address, action.service.as_deref())).await {
        Err(_) => Outcome::Failed(format!("timeout: health rpc did not complete within {timeout:?}")),
        Ok(Err(cause)) => Outcome::Failed(format!("error: health rpc probe failed: {cause}")),
        Ok(Ok(outcome)) => outcome,
    }
}

async fn ask(
    stream: TcpStream,
    address: SocketAddr,
    service: Option<&str>,
) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) =
        http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(question(service.unwrap_or_default())))?;
    let response = sender.send_request(request).await?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MOST_ANSWER).collect().await?;
    connection.abort();
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(judge(&[&trailers, &parts.headers], &body.to_bytes()))
}

/// A `HealthCheckRequest` as gRPC frames it: field 1 is the service.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.put_u32(message.len() as u32);
    framed.extend(message);
    framed.into()
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The status of the call, in the trailers or, where there is no body, in the headers; then the answer.
fn judge(headers: &[&HeaderMap], body: &[u8]) -> Outcome {
    let find = |name: &str| headers.iter().find_map(|h| h.get(name)).and_then(|v| v.to_str().ok());
    let message = find("grpc-message").unwrap_or_default();
    match find("grpc-status") {
        Some("0") => {}
        Some(UNIMPLEMENTED) => {
            return Outcome::Failed(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            ));
        }
        Some(code) => {
            return Outcome::Failed(format!(
                "error: health rpc probe failed: code = {code} desc = {message}"
            ));
        }
        None => {
            return Outcome::Failed("error: health rpc probe failed: the answer has no grpc-status".into());
        }
    }
    match status(body) {
        1 => Outcome::Passed,
        other => {
            let name = match other {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "unknown status",
            };
            Outcome::Failed(format!("service unhealthy (responded with \"{name}\")"))
        }
    }
}

/// Field 1 of a framed `HealthCheckResponse`: an enum, 0 if absent.
fn status(body: &[u8]) -> u8 {
    match body.get(5..) {
        Some([0x08, value, ..]) => *value,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use hyper::body::{Frame, Incoming};
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers each service by its name.
    async fn serve(
        request: Request<Incoming>,
    ) -> Result<
        http::Response<impl hyper::body::Body<Data = Bytes, Error = std::convert::Infallible>>,
        std::convert::Infallible,
    > {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let asked = request.into_body().collect().await.expect("a body").to_bytes();
        let (code, answer) = match asked.get(7..).unwrap_or_default() {
            b"" => ("0", &[0, 0, 0, 0, 2, 8, 1][..]),
            b"ill" => ("0", &[0, 0, 0, 0, 2, 8, 2][..]),
            b"other" => ("12", &[][..]),
            _ => ("5", &[][..]),
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.parse().expect("a header"));
        let frames = [Frame::data(Bytes::copy_from_slice(answer)), Frame::trailers(trailers)];
        let body = StreamBody::new(futures::stream::iter(frames.map(Ok)));
        Ok(http::Response::builder()
            .header("content-type", "application/grpc")
            .body(body)
            .expect("a response"))
    }

    #[tokio::test]
    async fn a_server_is_asked_by_the_health_protocol() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service_fn(serve)));
            }
        });
        let of = async |service: &str| {
            let action = GRPCAction { port: address.port().into(), service: Some(service.into()) };
            match check(&action, address.ip(), Duration::from_secs(20)).await {
                Outcome::Failed(cause) => cause,
                other => format!("{other:?}"),
            }
        };
        assert_eq!(of("").await, "Passed");
        assert_eq!(of("ill").await, "service unhealthy (responded with \"NOT_SERVING\")");
        assert!(of("other").await.contains("does not implement the grpc health protocol"));
        assert!(of("absent").await.contains("code = 5"));
        let nobody =
            TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        let action = GRPCAction { port: nobody.port().into(), service: None };
        let refused = check(&action, nobody.ip(), Duration::from_secs(20)).await;
        assert!(matches!(refused, Outcome::Failed(cause) if cause.contains("failed to connect service")));
    }
}
