//! A server on loopback and a bare HTTPS client for it.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod events;
pub mod history;
pub mod kubectl;
pub mod pki;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use daymark_apiserver::{Config, Server};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use pki::Pki;

/// Of everything random in a test: `DAYMARK_TEST_SEED`, or another each time. Shown when the test fails.
pub fn seed() -> u64 {
    let given = std::env::var("DAYMARK_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    eprintln!("DAYMARK_TEST_SEED={seed}");
    seed
}

/// The revision of an object or list.
pub fn revision_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse().ok()).unwrap_or_default()
}

/// A running server with an empty store, and an administrator's client.
pub struct Cluster {
    pub server: Server,
    pub pki: Pki,
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    pub admin: Client,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new();
        let mut config = pki.config(dir.path(), "127.0.0.1:0".parse().unwrap());
        change(&mut config);
        let server = Server::start(config).await.unwrap();
        let address = server.addresses()[0];
        let admin = Client::new(&pki, address, Some(("admin", "system:masters")));
        Self { server, pki, dir, address, admin }
    }

    pub fn client(&self, user: &str, group: &str) -> Client {
        Client::new(&self.pki, self.address, Some((user, group)))
    }
}

/// How many connections to a port of this machine are open at its end.
pub fn connections(port: u16) -> usize {
    let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let open = |line: &&str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // Established, and waiting to be closed here.
        columns[1].ends_with(&local) && matches!(columns[3], "01" | "08")
    };
    sockets.lines().skip(1).filter(open).count()
}

/// One answer, its body read as JSON (a string if it is none).
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// The body of an answer that has to be a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.code < 300, "{} {}", self.code, self.body);
        self.body
    }

    /// The code and reason of a failure.
    pub fn failure(&self) -> (u16, &str) {
        (self.code, self.body["reason"].as_str().unwrap_or_default())
    }

    pub fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().filter_map(|v| v.to_str().ok()).collect()
    }
}

/// A TLS connection.
pub type Raw = tokio_rustls::client::TlsStream<TcpStream>;

/// A client that opens a connection for each request.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
    address: SocketAddr,
}

const JSON: &str = "application/json";

impl Client {
    /// A client with a certificate of that user and group, or with none.
    pub fn new(pki: &Pki, address: SocketAddr, who: Option<(&str, &str)>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pki.ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match who {
            None => builder.with_no_client_auth(),
            Some((user, group)) => {
                let (certificate, key) = pki.client(user, group);
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self { tls: TlsConnector::from(Arc::new(config)), address }
    }

    /// A connection of one's own.
    pub async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, String> {
        let socket = TcpStream::connect(self.address).await.map_err(|e| e.to_string())?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = self.tls.connect(name, socket).await.map_err(|e| e.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// A connection on which anything can be said.
    pub async fn raw(&self) -> Raw {
        let socket = TcpStream::connect(self.address).await.unwrap();
        self.tls.connect(ServerName::IpAddress(self.address.ip().into()), socket).await.unwrap()
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<http::Response<Incoming>, String> {
        self.connect().await?.send_request(request).await.map_err(|e| e.to_string())
    }

    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        self.exchange(method, path, headers, body).await.unwrap()
    }

    /// JSON for a server that may be going.
    pub async fn try_call(&self, method: Method, path: &str, body: &Value) -> Result<Answer, String> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        self.exchange(method, path, &[(CONTENT_TYPE.as_str(), JSON)], body).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(path).header("host", "test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.send(request.body(Full::new(body)).unwrap()).await?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Answer { code: parts.status.as_u16(), headers: parts.headers, body })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], Bytes::new()).await
    }

    /// Asks as somebody else.
    pub async fn get_for(&self, path: &str, user: &str) -> Answer {
        self.call(Method::GET, path, &[("impersonate-user", user)], Bytes::new()).await
    }

    pub async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.call(Method::GET, path, &[(ACCEPT.as_str(), accept)], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.with_body(Method::POST, path, JSON, body).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.with_body(Method::PUT, path, JSON, body).await
    }

    /// `kind` is `json`, `merge`, `strategic-merge` or `apply`.
    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let media_type = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            kind => format!("application/{kind}-patch+json"),
        };
        self.with_body(Method::PATCH, path, &media_type, body).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Answer {
        self.with_body(Method::DELETE, path, JSON, options).await
    }

    async fn with_body(&self, method: Method, path: &str, media_type: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        self.call(method, path, &[(CONTENT_TYPE.as_str(), media_type)], body).await
    }

    pub async fn watch(&self, path: &str) -> Lines {
        self.watch_as(path, JSON).await
    }

    pub async fn watch_as(&self, path: &str, accept: &str) -> Lines {
        self.try_watch(path, accept).await.unwrap()
    }

    /// For a server that may be going.
    pub async fn try_watch(&self, path: &str, accept: &str) -> Result<Lines, String> {
        let request = Request::get(path).header("host", "test").header(ACCEPT, accept);
        let response = self.send(request.body(Full::default()).unwrap()).await?;
        assert_eq!(response.status(), 200);
        Ok(Lines { body: response.into_body(), buffer: BytesMut::new() })
    }
}

/// The lines of a watch.
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await;
            let frame = frame.expect("the watch is silent for 20 s")?.ok()?;
            self.buffer.extend_from_slice(frame.data_ref().unwrap());
        }
    }

    /// Type and name of the next event.
    pub async fn next_name(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch has ended");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}
