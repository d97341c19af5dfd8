//! The `proxy` subresources: a request handed to a pod, a Service's pod or a node, and its answer with links
//! that lead back through here.

use std::net::SocketAddr;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Frame, Incoming};

use super::destination::trouble;
use super::forward::{carry, strip, switching};
use super::rewrite::Links;
use super::tunnel::Sender;
use crate::error::ApiError;
use crate::http::request::Target;
use crate::http::respond::{self, Body};

/// Pages that are longer are passed on as they are, rather than kept in memory.
const LONGEST_PAGE: usize = 8 << 20;
/// What the client says to the API server is not the backend's business.
const CREDENTIALS: [&str; 2] = ["authorization", "impersonate-"];
const CORS: &str = "access-control-allow-";

/// A path without a slash after `proxy` is asked for again with one, so that relative links work.
pub(super) fn redirect<B>(target: &Target, request: &Request<B>) -> Option<Response<Body>> {
    let path = request.uri().path();
    let bare = target.rest.is_empty() && !path.ends_with('/');
    if !bare || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let mut response = Response::new(respond::full(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, HeaderValue::from_str(&format!("{path}/{query}")).ok()?);
    Some(response)
}

/// The links of this request's answer.
pub(super) fn links<B>(target: &Target, request: &Request<B>, backend: SocketAddr) -> Links {
    let path = request.uri().path();
    let suffix = target.rest.len() + usize::from(path.ends_with('/') && target.rest.is_empty());
    let suffix = if target.rest.is_empty() { suffix } else { suffix + 1 };
    let prefix = path[..path.len() - suffix].to_owned();
    let host = request.headers().get(HOST).and_then(|v| v.to_str().ok());
    let host = host.or(request.uri().authority().map(|a| a.as_str())).unwrap_or_default().to_owned();
    Links { prefix, backend: backend.to_string(), host }
}

/// Hands the request over and brings the answer back.
pub(super) async fn send(
    mut sender: Sender,
    target: &Target,
    links: Links,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let client = switching(&mut request);
    let path = request.uri().path().to_owned();
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    *request.uri_mut() = format!("/{}{query}", target.rest)
        .parse()
        .map_err(|e| ApiError::bad_request(format!("the path is no URI: {e}")))?;
    *request.version_mut() = http::Version::HTTP_11;
    let peer = request.extensions().get::<SocketAddr>().copied();
    prepare(request.headers_mut(), &links, &path, peer, client.is_some());
    let mut response = sender
        .send_request(request)
        .await
        .map_err(|e| ApiError::new(503, "ServiceUnavailable", trouble(&e)))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return carry(client, &mut response, &format!("{} {}", target.resource.plural, target.name));
    }
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    let cors: Vec<_> = parts.headers.keys().filter(|k| k.as_str().starts_with(CORS)).cloned().collect();
    for name in cors {
        parts.headers.remove(name);
    }
    let redirected = parts.headers.get(LOCATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
    if let Some(location) = &redirected {
        let new = links.rewrite(location).and_then(|l| HeaderValue::from_str(&l).ok());
        new.map(|new| parts.headers.insert(LOCATION, new));
    }
    let body = if redirected.is_none() && is_page(&parts.headers) {
        page(body, &links, &mut parts.headers).await?
    } else {
        body.map_err(std::io::Error::other).boxed_unsync()
    };
    Ok(Response::from_parts(parts, body))
}

fn prepare(headers: &mut HeaderMap, links: &Links, path: &str, peer: Option<SocketAddr>, upgrades: bool) {
    if !upgrades {
        strip(headers);
        // Links in a compressed page could not be seen.
        headers.remove(ACCEPT_ENCODING);
    }
    let secrets = headers.keys().filter(|k| CREDENTIALS.iter().any(|c| k.as_str().starts_with(c)));
    for name in secrets.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    if let Some(peer) = peer {
        let before: Vec<&str> =
            headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).collect();
        let ip = peer.ip().to_string();
        let chain = before.into_iter().chain([ip.as_str()]).collect::<Vec<_>>().join(", ");
        HeaderValue::from_str(&chain).ok().map(|value| headers.insert("x-forwarded-for", value));
    }
    HeaderValue::from_str(path).ok().map(|value| headers.insert("x-forwarded-uri", value));
    if !headers.contains_key(HOST) {
        HeaderValue::from_str(&links.host).ok().map(|value| headers.insert(HOST, value));
    }
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|k| k.trim() == "text/html") && !headers.contains_key(CONTENT_ENCODING)
}

/// A whole page with its links rewritten; one that is too long, or no text, is streamed untouched.
async fn page(body: Incoming, links: &Links, headers: &mut HeaderMap) -> Result<Body, ApiError> {
    let mut frames = BodyStream::new(body);
    let mut read = Vec::new();
    let mut whole = true;
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|e| ApiError::new(502, "InternalError", trouble(&e)))?;
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > LONGEST_PAGE {
            whole = false;
            break;
        }
    }
    if let (true, Ok(text)) = (whole, std::str::from_utf8(&read)) {
        headers.remove(CONTENT_LENGTH);
        return Ok(respond::full(links.rewrite_html(text)));
    }
    let first = futures::stream::once(async { Ok(Frame::data(Bytes::from(read))) });
    let rest = TryStreamExt::map_err(frames, std::io::Error::other);
    Ok(StreamBody::new(first.chain(rest)).boxed_unsync())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::target;

    fn of(uri: &str) -> (Target, Request<()>) {
        let request = Request::get(uri).header("host", "h:1").body(()).unwrap();
        (target(request.uri().path()).unwrap(), request)
    }

    #[test]
    fn what_follows_the_proxy_is_not_in_front_of_links() {
        let base = "/api/v1/namespaces/a/pods/p:80/proxy";
        for rest in ["", "/", "/x", "/x/", "/x//y?z=/w"] {
            let (target, request) = of(&format!("{base}{rest}"));
            let links = links(&target, &request, "10.0.0.5:80".parse().unwrap());
            assert_eq!((links.prefix.as_str(), links.host.as_str()), (base, "h:1"), "{rest}");
        }
    }

    #[test]
    fn a_bare_proxy_path_gets_its_slash() {
        let (target, request) = of("/api/v1/namespaces/a/pods/p/proxy?x=y");
        let answer = redirect(&target, &request).unwrap();
        assert_eq!(answer.status(), 301);
        assert_eq!(answer.headers()["location"], "/api/v1/namespaces/a/pods/p/proxy/?x=y");
        let (target, request) = of("/api/v1/namespaces/a/pods/p/proxy/");
        assert!(redirect(&target, &request).is_none());
    }

    #[test]
    fn credentials_stay_here_and_the_client_is_named() {
        let (target, request) = of("/api/v1/namespaces/a/pods/p/proxy/x");
        let links = links(&target, &request, "10.0.0.5:80".parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer t"),
            ("impersonate-user", "u"),
            ("connection", "close"),
            ("accept", "a/b"),
            ("x-forwarded-for", "192.0.2.1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        prepare(&mut headers, &links, "/full/x", "192.0.2.9:5".parse().ok(), false);
        let mut left: Vec<String> =
            headers.iter().map(|(k, v)| format!("{k}: {}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(
            left,
            ["accept: a/b", "host: h:1", "x-forwarded-for: 192.0.2.1, 192.0.2.9", "x-forwarded-uri: /full/x"]
        );
    }
}
