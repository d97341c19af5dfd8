//! Everything that is not a resource: health, version, discovery, OpenAPI.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderValue, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::request::{Query, not_served, wrong_method};
use super::respond::{self, Body, Format};
use super::route::App;
use crate::error::ApiError;
use crate::{discovery, openapi};

/// The Kubernetes version whose API this is.
pub const GIT_VERSION: &str = "v1.36.3+daymark";
const AGGREGATED: &str = "as=APIGroupDiscoveryList";

pub fn handle(app: &App, request: &Request<Incoming>) -> Result<Response<Body>, ApiError> {
    let path = request.uri().path();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(wrong_method());
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    if let Some(response) = health(app, path, &query) {
        return Ok(response);
    }
    let trimmed = path.trim_matches('/');
    let parts: Vec<&str> = trimmed.split('/').collect();
    match parts.as_slice() {
        [""] => Ok(respond::value(200, &json!({"paths": paths(app)}), Format::JSON)),
        ["version"] => Ok(respond::value(200, &version(), Format { pretty: true, ..Format::JSON })),
        [".well-known", "openid-configuration"] => {
            let document = app.registry.issuer().configuration(&app.address);
            Ok(keys_document("application/json", &document))
        }
        ["openid", "v1", "jwks"] => {
            Ok(keys_document("application/jwk-set+json", &app.registry.issuer().key.jwks()))
        }
        ["openapi", "v2"] => openapi_v2(app, request.headers()),
        ["openapi", "v3"] => {
            Ok(respond::value(200, &openapi::index(&app.registry.catalog.now()), Format::JSON))
        }
        ["openapi", "v3", ..] => openapi_document(app, &trimmed["openapi/v3/".len()..], request.headers()),
        _ => discover(app, &parts, request.headers(), query.flag("pretty")),
    }
}

/// How those who check tokens elsewhere find the key.
fn keys_document(media_type: &'static str, document: &Value) -> Response<Body> {
    let mut response = respond::bytes(200, media_type, document.to_string());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

fn discover(
    app: &App,
    parts: &[&str],
    headers: &HeaderMap,
    pretty: bool,
) -> Result<Response<Body>, ApiError> {
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let accept = accept.join(",");
    let aggregated =
        accept.split(',').any(|a| a.contains(AGGREGATED) && a.contains("v=v2") && !a.contains("beta"));
    let served = &app.registry.catalog.now();
    let found = match parts {
        ["api"] if aggregated => return cached(discovery::aggregated_core(served), headers),
        ["apis"] if aggregated => return cached(discovery::aggregated_groups(served), headers),
        ["api"] => Some(discovery::legacy_core(&app.address)),
        ["apis"] => Some(discovery::legacy_groups(served)),
        ["api", version] => discovery::legacy_resources(served, "", version),
        ["apis", group] => discovery::legacy_group(served, group),
        ["apis", group, version] => discovery::legacy_resources(served, group, version),
        _ => None,
    };
    let Some(document) = found else { return Ok(respond::text(404, "404 page not found\n")) };
    Ok(respond::value(200, &document, Format { pretty, ..Format::JSON }))
}

/// Aggregated discovery carries an ETag, so that clients ask again for free.
fn cached(document: Value, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    let body = document.to_string();
    let media_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let digest = hex(&Sha256::digest(&body));
    Ok(with_etag(&digest, respond::bytes(200, media_type, body), headers))
}

/// The protobuf form of the old document, under both of its names.
const OLD_PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];

/// `/openapi/v2`: everything in one document.
fn openapi_v2(app: &App, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let accept = if accept.is_empty() { "*/*".to_owned() } else { accept.join(",") };
    let mut wanted = accept.split(',').filter_map(|clause| clause.split(';').next()).map(str::trim);
    let protobuf = |ty: &str| OLD_PROTOBUF.contains(&ty);
    let known = |ty: &&str| matches!(*ty, "application/json" | "application/*" | "*/*") || protobuf(ty);
    let Some(ty) = wanted.find(known) else {
        return Ok(respond::bytes(406, "text/plain; charset=utf-8", ""));
    };
    let served = app.registry.catalog.now();
    let (digest, media_type) = match protobuf(ty) {
        true => (openapi::hash(&served) + "-PROTOBUF", OLD_PROTOBUF[1]),
        false => (openapi::hash(&served), "application/json"),
    };
    let response = if is_known(&digest, headers) {
        respond::bytes(200, media_type, "")
    } else if protobuf(ty) {
        respond::bytes(200, media_type, openapi::document_v2_protobuf(&served))
    } else {
        let document = openapi::document_v2(&served);
        packed(document.map_err(|why| ApiError::internal(format!("/openapi/v2: {why}")))?, headers)?
    };
    let mut response = with_etag(&digest, response, headers);
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    Ok(response)
}

fn openapi_document(app: &App, path: &str, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    let document = openapi::document(&app.registry.catalog.now(), path).ok_or_else(not_served)?;
    let mut response = packed(document.gzip, headers)?;
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    Ok(with_etag(&document.digest, response, headers))
}

/// JSON that is kept packed, in the form that the client takes.
fn packed(gzip: bytes::Bytes, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    if takes_gzip(headers) {
        let mut response = respond::bytes(200, "application/json", gzip);
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return Ok(response);
    }
    let json = openapi::unpack(&gzip);
    let json = json.map_err(|why| ApiError::internal(format!("the document cannot be unpacked: {why}")))?;
    Ok(respond::bytes(200, "application/json", json))
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let listed = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    let mut codings = listed.flat_map(|list| list.split(',')).map(str::trim);
    codings.any(|coding| coding == "gzip")
}

/// Whether the client has it already.
fn is_known(digest: &str, headers: &HeaderMap) -> bool {
    headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == format!("\"{digest}\"").as_bytes())
}

fn with_etag(digest: &str, mut response: Response<Body>, headers: &HeaderMap) -> Response<Body> {
    let tag = format!("\"{digest}\"");
    if is_known(digest, headers) {
        // The type stays: caches take the headers of this answer for the ones that they have.
        *response.status_mut() = http::StatusCode::NOT_MODIFIED;
        *response.body_mut() = respond::full("");
        response.headers_mut().remove(CONTENT_ENCODING);
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

fn paths(app: &App) -> Vec<String> {
    let mut paths = vec!["/api".to_owned(), "/api/v1".into(), "/apis".into()];
    for resource in app.registry.catalog.now().resources().iter().filter(|r| !r.group.is_empty()) {
        for path in [format!("/apis/{}", resource.group), format!("/apis/{}", resource.api_version())] {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    let others = [
        "/.well-known/openid-configuration",
        "/healthz",
        "/livez",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    paths.extend(others.map(str::to_owned));
    paths
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none (Rust)", "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

/// `/livez`, `/readyz`, `/healthz`, each also with the name of one check behind it.
fn health(app: &App, path: &str, query: &Query) -> Option<Response<Body>> {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let endpoint = parts.next()?;
    let mut checks = vec![("ping", true), ("store", app.registry.store.healthy())];
    match endpoint {
        "livez" | "healthz" => {}
        "readyz" => checks.push(("shutdown", !app.shutdown.is_cancelled())),
        _ => return None,
    }
    if let Some(one) = parts.next() {
        checks.retain(|(name, _)| *name == one);
        if checks.is_empty() {
            return Some(respond::text(404, "404 page not found\n"));
        }
    }
    let healthy = checks.iter().all(|(_, ok)| *ok);
    if healthy && !query.flag("verbose") {
        return Some(respond::text(200, "ok"));
    }
    let mut lines: String = checks
        .iter()
        .map(|(name, ok)| match ok {
            true => format!("[+]{name} ok\n"),
            false => format!("[-]{name} failed: reason withheld\n"),
        })
        .collect();
    lines.push_str(&format!("{endpoint} check {}\n", if healthy { "passed" } else { "failed" }));
    Some(respond::text(if healthy { 200 } else { 500 }, lines))
}
