//! HTTP GET probes: plain or TLS without verification, redirects followed on the same host only.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Outcome;
use super::check::cause;

const MOST_REDIRECTS: usize = 10;
const MOST_BODY: usize = 10 * 1024;

struct Answer {
    status: u16,
    location: Option<String>,
    body: String,
}

/// Where one request goes.
struct Place {
    https: bool,
    host: String,
    port: u16,
    path: String,
}

/// Asks; 200 to 399 passes.
pub async fn get(action: &HTTPGetAction, ip: IpAddr, port: u16, agent: &str, timeout: Duration) -> Outcome {
    let place = Place {
        https: action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("HTTPS")),
        host: action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| ip.to_string()),
        port,
        path: path(action.path.as_deref()),
    };
    let url = place.url();
    match tokio::time::timeout(timeout, follow(action, place, agent)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failed(format!(
            "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

fn path(path: Option<&str>) -> String {
    match path.unwrap_or_default() {
        "" => "/".to_owned(),
        p if p.starts_with('/') => p.to_owned(),
        p => format!("/{p}"),
    }
}

impl Place {
    fn authority(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, self.port).to_string(),
            Err(_) => format!("{}:{}", self.host, self.port),
        }
    }

    fn url(&self) -> String {
        format!("{}://{}{}", if self.https { "https" } else { "http" }, self.authority(), self.path)
    }

    /// The place that a `Location` names; `None` if it is on another host.
    fn redirected(&self, location: &str) -> Option<Self> {
        let uri: http::Uri = location.parse().ok()?;
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        let Some(host) = uri.host() else {
            return Some(Self { path: self::path(Some(&path)), host: self.host.clone(), ..*self });
        };
        if host.trim_matches(['[', ']']) != self.host {
            return None;
        }
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host: self.host.clone(), port, path })
    }
}

async fn follow(action: &HTTPGetAction, mut place: Place, agent: &str) -> Outcome {
    for _ in 0..MOST_REDIRECTS {
        let answer = match once(action, &place, agent).await {
            Ok(answer) => answer,
            Err(cause) => return Outcome::Failed(format!("Get \"{}\": {cause}", place.url())),
        };
        match (answer.status, &answer.location) {
            (301 | 302 | 303 | 307 | 308, Some(location)) => match place.redirected(location) {
                Some(next) => place = next,
                None => {
                    return Outcome::Warned(
                        "Probe terminated redirects, Response body: ".to_owned() + &answer.body,
                    );
                }
            },
            (200..=399, _) => return Outcome::Passed,
            (status, _) => return Outcome::Failed(format!("HTTP probe failed with statuscode: {status}")),
        }
    }
    Outcome::Failed(format!("Get \"{}\": stopped after 10 redirects", place.url()))
}

async fn once(action: &HTTPGetAction, place: &Place, agent: &str) -> Result<Answer, String> {
    let stream = TcpStream::connect((place.host.as_str(), place.port))
        .await
        .map_err(|e| format!("dial tcp {}: connect: {}", place.authority(), cause(&e)))?;
    if place.https {
        let name = rustls::pki_types::ServerName::try_from(place.host.clone()).map_err(|e| e.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(unverified());
        let tls = connector.connect(name, stream).await.map_err(|e| cause(&e))?;
        exchange(action, place, agent, tls).await
    } else {
        exchange(action, place, agent, stream).await
    }
}

async fn exchange<S>(action: &HTTPGetAction, place: &Place, agent: &str, stream: S) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let response =
            sender.send_request(request(action, place, agent)?).await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let location = response.headers().get(http::header::LOCATION);
        let location = location.and_then(|v| v.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        let mut incoming = response.into_body();
        while body.len() < MOST_BODY {
            match incoming.frame().await {
                Some(Ok(frame)) => body.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d)),
                _ => break,
            }
        }
        body.truncate(MOST_BODY);
        Ok(Answer { status, location, body: String::from_utf8_lossy(&body).into_owned() })
    }
    .await;
    driver.abort();
    answer
}

fn request(action: &HTTPGetAction, place: &Place, agent: &str) -> Result<Request<Empty<Bytes>>, String> {
    let mut builder = Request::get(&place.path);
    let headers = action.http_headers.as_deref().unwrap_or_default();
    let given = |name: &str| headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
    for (name, value) in
        [("Host", place.authority()), ("User-Agent", agent.to_owned()), ("Accept", "*/*".to_owned())]
    {
        if !given(name) {
            builder = builder.header(name, value);
        }
    }
    // An empty value of these means to leave the header out.
    for h in headers.iter().filter(|h| !h.value.is_empty()) {
        builder = builder.header(&h.name, &h.value);
    }
    builder.header("Connection", "close").body(Empty::new()).map_err(|e| e.to_string())
}

/// Probes don't verify certificates, as kubelet's don't.
fn unverified() -> Arc<rustls::ClientConfig> {
    static CONFIG: std::sync::OnceLock<Arc<rustls::ClientConfig>> = std::sync::OnceLock::new();
    let make = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring supports the default TLS versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Arc::new(config)
    };
    CONFIG.get_or_init(make).clone()
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
