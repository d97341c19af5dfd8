//! Sockets: TLS with an optional client certificate, HTTP/1.1 and HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::route::{self, App};
use crate::access::Identity;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Certificates and a key in PEM, read.
pub struct KeyPair {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// Why TLS could not be set up or an address not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("the {what} is no usable PEM: {cause}")]
    Pem { what: &'static str, cause: String },
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error(
        "address {0} is taken by another program; find it with `ss -ltnp 'sport = :{port}'` and stop it, or \
         choose another port",
        port = .0.port()
    )]
    Taken(SocketAddr),
    #[error("address {0} is not an address of this machine; check that its interface is up")]
    NotHere(SocketAddr),
    #[error("address {address} cannot be listened on: {cause}")]
    Io { address: SocketAddr, cause: String },
}

pub fn read_certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, ListenError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(ListenError::Pem { what, cause: "it has no certificate".into() }),
        Err(e) => Err(ListenError::Pem { what, cause: e.to_string() }),
    }
}

pub fn read_pair(certificate: &str, key: &str, what: &'static str) -> Result<KeyPair, ListenError> {
    let chain = read_certificates(certificate, what)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|e| ListenError::Pem { what, cause: e.to_string() })?;
    Ok(KeyPair { chain, key })
}

pub fn roots(ca: &str) -> Result<Arc<RootCertStore>, ListenError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(ca, "CA certificate")? {
        roots
            .add(certificate)
            .map_err(|e| ListenError::Pem { what: "CA certificate", cause: e.to_string() })?;
    }
    Ok(Arc::new(roots))
}

/// TLS for clients: a certificate is not asked of everyone, but one that is shown must be the CA's.
pub fn server_tls(roots: Arc<RootCertStore>, pair: KeyPair) -> Result<TlsAcceptor, ListenError> {
    let tls = |e: &dyn std::fmt::Display| ListenError::Tls(e.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| tls(&e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| tls(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(pair.chain, pair.key)
        .map_err(|e| tls(&e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => ListenError::Taken(address),
        std::io::ErrorKind::AddrNotAvailable => ListenError::NotHere(address),
        _ => ListenError::Io { address, cause: e.to_string() },
    })
}

/// Accepts until the app shuts down; connections live on in `tasks`.
pub async fn serve(listener: TcpListener, tls: TlsAcceptor, app: Arc<App>, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = app.shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                tasks.spawn(connection(socket, peer, tls.clone(), app.clone()));
            }
            Err(e) => {
                // Out of file descriptors, most likely: give others the time to close some.
                tracing::warn!("accepting a connection failed: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, peer: SocketAddr, tls: TlsAcceptor, app: Arc<App>) {
    let _ = socket.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return tracing::debug!(%peer, "TLS handshake failed: {e}"),
        Err(_) => return tracing::debug!(%peer, "TLS handshake took too long"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let identity = match certificate.map(|der| Identity::from_certificate(der)) {
        None => Identity::anonymous(),
        Some(Ok(identity)) => identity,
        Some(Err(_)) => return tracing::debug!(%peer, "the client certificate names nobody"),
    };
    let identity = Arc::new(identity);
    let service = service_fn(|mut request: http::Request<hyper::body::Incoming>| {
        // Proxied requests name the client.
        request.extensions_mut().insert(peer);
        let (app, identity) = (app.clone(), identity.clone());
        async move { Ok::<_, std::convert::Infallible>(route::respond(&app, &identity, request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1_000)
        .keep_alive_interval(Duration::from_secs(30));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = app.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(%peer, "connection ended: {e}");
    }
}
