//! A minimal HTTP client: plain `http://`, names looked up as the pod's `resolv.conf` says.

use std::time::Duration;

use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest answer that is read, in bytes.
const MAX_BODY: usize = 1 << 20;
/// Says how many tiers a request has come through.
pub const TIER_HEADER: &str = "x-daymark-tier";

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Text of the body.
    pub body: String,
}

/// Gets `url`, asking for plain text. `tier` counts the tiers before this one.
pub async fn get(url: &str, timeout: Duration, tier: u32) -> Result<Answer, String> {
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri = full.parse::<Uri>().map_err(|error| format!("{url}: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("{url}: only http:// is supported"));
    }
    let answer = tokio::time::timeout(timeout, request(&uri, tier)).await;
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(cause)) => Err(format!("{url}: {cause}")),
        Err(_) => Err(format!("{url}: no answer within {:.1} s", timeout.as_secs_f64())),
    }
}

async fn request(uri: &Uri, tier: u32) -> Result<Answer, String> {
    let host = uri.host().ok_or("the URL has no host")?.trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(80);
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses = found.map_err(|error| format!("cannot resolve {host}: {error}"))?.collect::<Vec<_>>();
    let mut failure = format!("{host} has no address");
    let mut connected = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => failure = format!("cannot connect to {address}: {error}"),
        }
    }
    let stream = connected.ok_or(failure)?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or(host);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header("host", authority)
        .header("accept", "text/plain")
        .header("user-agent", concat!("daymark-web/", env!("CARGO_PKG_VERSION")))
        .header("connection", "close")
        .header(TIER_HEADER, tier)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body =
        Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|error| error.to_string())?;
    driver.abort();
    Ok(Answer { status, body: String::from_utf8_lossy(&body.to_bytes()).into_owned() })
}
