//! Responses: what the client accepts, and objects, lists, tables and errors in that form.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, WARNING};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Body as _;
use serde_json::Value;

use crate::error::ApiError;

/// Any body that a response can have.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The shape in which objects are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Plain,
    Table,
    /// `PartialObjectMetadata`, or its list for lists.
    Partial,
}

/// What to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub shape: Shape,
    pub yaml: bool,
    pub pretty: bool,
}

impl Format {
    pub const JSON: Self = Self { shape: Shape::Plain, yaml: false, pretty: false };

    /// The first form in `Accept` that is spoken here.
    ///
    /// # Errors
    /// 406 when there is none.
    pub fn negotiate(headers: &HeaderMap, pretty: bool) -> Result<Self, ApiError> {
        let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
        let accept = accept.join(",");
        if accept.trim().is_empty() {
            return Ok(Self { pretty, ..Self::JSON });
        }
        let found = accept.split(',').find_map(clause).map(|format| Self { pretty, ..format });
        found.ok_or_else(|| {
            let message =
                "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml";
            ApiError::new(406, "NotAcceptable", message).with_details(serde_json::json!({}))
        })
    }
}

fn clause(text: &str) -> Option<Format> {
    let mut parts = text.split(';').map(str::trim);
    let yaml = match parts.next()? {
        "application/json" | "*/*" | "application/*" => false,
        "application/yaml" => true,
        _ => return None,
    };
    let mut shape = Shape::Plain;
    for part in parts {
        match part.split_once('=') {
            Some(("as", "Table")) => shape = Shape::Table,
            Some(("as", "PartialObjectMetadata" | "PartialObjectMetadataList")) => shape = Shape::Partial,
            Some(("as", _)) => return None,
            Some(("v", version)) if version != "v1" => return None,
            Some(("g", group)) if group != "meta.k8s.io" => return None,
            _ => {}
        }
    }
    Some(Format { shape, yaml, pretty: false })
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A value in the negotiated encoding.
pub fn value(code: u16, value: &Value, format: Format) -> Response<Body> {
    let encoded = match (format.yaml, format.pretty) {
        (true, _) => serde_yaml::to_string(value).map(String::into_bytes).map_err(|e| e.to_string()),
        (false, true) => serde_json::to_vec_pretty(value).map_err(|e| e.to_string()),
        (false, false) => serde_json::to_vec(value).map_err(|e| e.to_string()),
    };
    match encoded {
        Ok(mut body) => {
            if format.pretty {
                body.push(b'\n');
            }
            bytes(code, if format.yaml { "application/yaml" } else { "application/json" }, body)
        }
        Err(e) => error(&ApiError::internal(format!("the answer could not be encoded: {e}"))),
    }
}

pub fn bytes(code: u16, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The answer to HEAD: that of GET without its body, which hyper would send over HTTP/2.
pub fn head(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        parts.headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
    Response::from_parts(parts, full(""))
}

/// 204: there is no body.
pub fn nothing() -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

pub fn text(code: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = bytes(code, "text/plain; charset=utf-8", body);
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

pub fn error(error: &ApiError) -> Response<Body> {
    let status = serde_json::to_vec(&error.to_status()).unwrap_or_default();
    let mut response = bytes(error.code, "application/json", status);
    let retry = error.details.as_ref().and_then(|d| d.get("retryAfterSeconds")).and_then(Value::as_u64);
    if let Some(seconds) = retry {
        response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    }
    response
}

/// The letters of all warnings of an answer; if they are more, each is cut to `MOST_OF_ONE`.
const MOST_OF_ALL: usize = 4 << 10;
const MOST_OF_ONE: usize = 256;

/// Adds a `Warning: 299` header for each message, once.
pub fn warn(response: &mut Response<Body>, warnings: &[impl AsRef<str>]) {
    let mut told: Vec<&str> = Vec::new();
    for warning in warnings.iter().map(AsRef::as_ref).filter(|warning| !warning.is_empty()) {
        if !told.contains(&warning) {
            told.push(warning);
        }
    }
    let length = |warning: &str| warning.chars().count();
    let cut = told.iter().map(|warning| length(warning)).sum::<usize>() > MOST_OF_ALL;
    let mut letters = 0;
    for warning in told {
        if letters >= MOST_OF_ALL {
            return;
        }
        let most = if cut { MOST_OF_ONE } else { usize::MAX };
        letters += length(warning).min(most);
        let plain: String =
            warning.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = plain.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(header) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING, header);
        }
    }
}

/// As `warn`, before the warnings that are there already.
pub fn warn_first(response: &mut Response<Body>, warnings: &[impl AsRef<str>]) {
    let later: Vec<HeaderValue> = response.headers().get_all(WARNING).iter().cloned().collect();
    response.headers_mut().remove(WARNING);
    warn(response, warnings);
    for warning in later {
        response.headers_mut().append(WARNING, warning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(accept: &str) -> Result<(Shape, bool), u16> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        Format::negotiate(&headers, false).map(|f| (f.shape, f.yaml)).map_err(|e| e.code)
    }

    #[test]
    fn takes_the_first_form_it_speaks() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(shape(kubectl), Ok((Shape::Table, false)));
        assert_eq!(
            shape("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Ok((Shape::Partial, false))
        );
        assert_eq!(shape("application/vnd.kubernetes.protobuf,application/json"), Ok((Shape::Plain, false)));
        assert_eq!(
            shape("application/json;as=Table;v=v1beta1;g=meta.k8s.io, */*"),
            Ok((Shape::Plain, false))
        );
        assert_eq!(shape("application/yaml"), Ok((Shape::Plain, true)));
        assert_eq!(shape("application/vnd.kubernetes.protobuf"), Err(406));
    }

    #[test]
    fn warnings_are_quoted() {
        let mut response = text(200, "ok");
        warn(&mut response, &["unknown field \"spec.x\"".to_owned()]);
        assert_eq!(response.headers()[WARNING], "299 - \"unknown field \\\"spec.x\\\"\"");
    }

    #[test]
    fn warnings_are_told_once_and_do_not_fill_the_head() {
        let told = |warnings: &[String]| {
            let mut response = text(200, "ok");
            warn(&mut response, warnings);
            let all = response.headers().get_all(WARNING).iter();
            all.map(|v| v.len() - "299 - \"\"".len()).collect::<Vec<_>>()
        };
        assert_eq!(told(&["a".into(), "bb".into(), "a".into()]), [1, 2]);
        let many: Vec<String> = (0..100).map(|n| format!("{n:0>300}")).collect();
        assert_eq!(told(&many[..13]), [300; 13]);
        assert_eq!(told(&many), [256; 16]);
    }
}
