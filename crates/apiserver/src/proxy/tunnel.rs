//! Ways to a backend: a node's kubelet API over TLS, and through it to one of its pods (HTTP CONNECT),
//! because pods' addresses are out of the host's reach.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::destination::trouble;
use super::{Kubelet, Nodes};
use crate::error::ApiError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a refusal's text that are passed on.
pub(super) const REFUSAL_LIMIT: usize = 16 << 10;

/// Sends requests over one connection.
pub(super) type Sender = http1::SendRequest<Incoming>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a node's kubelet API.
pub(super) async fn kubelet(nodes: &Nodes, kubelet: &Kubelet) -> Result<Sender, ApiError> {
    let stream = dial_kubelet(nodes, kubelet).await?;
    handshake(stream).await.map_err(|e| kubelet.unreachable(&e))
}

/// A connection to a port of a pod on the kubelet's node.
pub(super) async fn pod(
    nodes: &Nodes,
    kubelet: &Kubelet,
    address: SocketAddr,
    https: bool,
) -> Result<Sender, ApiError> {
    let stream = dial_kubelet(nodes, kubelet).await?;
    let mut proxy = handshake::<Empty<Bytes>>(stream).await.map_err(|e| kubelet.unreachable(&e))?;
    let request = Request::builder().method(Method::CONNECT).uri(address.to_string());
    let request = request.header(http::header::HOST, address.to_string()).body(Empty::new());
    let request = request.map_err(|e| ApiError::internal(e.to_string()))?;
    let mut answer = proxy.send_request(request).await.map_err(|e| kubelet.unreachable(&e))?;
    if answer.status() != StatusCode::OK {
        let body = Limited::new(answer.into_body(), REFUSAL_LIMIT).collect().await;
        let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).trim().to_owned()).unwrap_or_default();
        return Err(unavailable(&text));
    }
    let stream = hyper::upgrade::on(&mut answer).await.map_err(|e| kubelet.unreachable(&e))?;
    over(nodes, TokioIo::new(stream), address, https).await
}

/// A connection straight to an address that the host can reach.
pub(super) async fn direct(nodes: &Nodes, address: SocketAddr, https: bool) -> Result<Sender, ApiError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => over(nodes, stream, address, https).await,
        Ok(Err(e)) => Err(unavailable(&format!("dial tcp {address}: {e}"))),
        Err(_) => Err(unavailable(&format!("dial tcp {address}: i/o timeout"))),
    }
}

async fn over(
    nodes: &Nodes,
    stream: impl Stream + 'static,
    address: SocketAddr,
    https: bool,
) -> Result<Sender, ApiError> {
    let sender = if https {
        let name = ServerName::IpAddress(address.ip().into());
        let secured = nodes.pods_tls.connect(name, stream).await;
        handshake(secured.map_err(|e| unavailable(&e))?).await
    } else {
        handshake(stream).await
    };
    sender.map_err(|e| unavailable(&e))
}

fn unavailable(cause: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(503, "ServiceUnavailable", trouble(cause))
}

async fn dial_kubelet(
    nodes: &Nodes,
    kubelet: &Kubelet,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ApiError> {
    let dial = async {
        let socket = TcpStream::connect(kubelet.address).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::IpAddress(kubelet.address.ip().into());
        nodes.tls.connect(name, socket).await
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, dial).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) => Err(kubelet.unreachable(&e)),
        Err(_) => Err(kubelet.unreachable(&"no answer within 10 s")),
    }
}

async fn handshake<B>(stream: impl Stream + 'static) -> hyper::Result<http1::SendRequest<B>>
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(e) = connection.with_upgrades().await {
            tracing::debug!("the connection to a backend ended: {e}");
        }
    });
    Ok(sender)
}

/// TLS towards pods: they have certificates of anybody's making, and Kubernetes does not check them here either.
pub(super) fn unverified() -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
