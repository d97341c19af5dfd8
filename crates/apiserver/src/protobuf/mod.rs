//! Protobuf request bodies, decoded to the JSON that Kubernetes would make of them; and back, for tests.
//!
//! Field numbers come from the schema table, so no descriptor set is needed: one table serves JSON and
//! protobuf alike.

mod encode;
mod value;
mod wire;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::schema::{Gvk, schema};
pub use encode::{Unencodable, encode, frame};
use wire::{Reader, Wire};

/// What every body starts with.
const MAGIC: &[u8] = b"k8s\0";
/// Envelopes may nest in raw extensions, but not deeper than this.
const MAX_ENVELOPES: usize = 4;
/// Schemas in CustomResourceDefinitions hold schemas, but not deeper than this; as JSON, each is two levels.
const MAX_MESSAGES: usize = 60;

/// How deep in a body a value lies.
#[derive(Clone, Copy, Default)]
struct Depth {
    envelopes: usize,
    messages: usize,
}

impl Depth {
    fn in_message(self) -> Result<Self, Malformed> {
        let messages = self.messages + 1;
        if messages > MAX_MESSAGES { Err(Malformed::Deep) } else { Ok(Self { messages, ..self }) }
    }

    fn in_envelope(self) -> Result<Self, Malformed> {
        let envelopes = self.envelopes + 1;
        if envelopes > MAX_ENVELOPES { Err(Malformed::Deep) } else { Ok(Self { envelopes, ..self }) }
    }
}

/// Why a body cannot be decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Malformed {
    #[error("unexpected end of data")]
    Truncated,
    #[error("a number is longer than ten bytes")]
    Overlong,
    #[error("illegal tag or wire type {0}")]
    Tag(u64),
    #[error("field {0} has a wrong wire type")]
    WireType(&'static str),
    #[error("field {0} is not UTF-8")]
    Utf8(&'static str),
    #[error("field {0} holds an invalid value")]
    Invalid(&'static str),
    #[error("objects nest too deeply")]
    Deep,
    #[error("{0}")]
    Kind(String),
}

/// Decodes a `k8s\0` envelope to JSON with `apiVersion` and `kind`. What is malformed or of an unknown
/// kind is a 400.
pub fn decode(body: &[u8]) -> Result<Value, ApiError> {
    envelope(body, Depth::default())
        .map_err(|why| ApiError::bad_request(format!("error decoding the protobuf request body: {why}")))
}

/// Whether a body carries the protobuf envelope's magic bytes.
pub fn is_envelope(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

fn envelope(body: &[u8], depth: Depth) -> Result<Value, Malformed> {
    let body = body
        .strip_prefix(MAGIC)
        .ok_or_else(|| Malformed::Kind("the body does not start with the protobuf prefix".to_owned()))?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(body);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => (api_version, kind) = type_meta(meta)?,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            (3, Wire::Bytes(encoding)) if !encoding.is_empty() => {
                return Err(Malformed::Kind("encoded contents are not supported".to_owned()));
            }
            _ => {}
        }
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let gvk = Gvk { group, version, kind: &kind };
    let ty = schema().type_of(gvk).ok_or_else(|| {
        Malformed::Kind(format!("no kind {kind:?} is registered for version {api_version:?}"))
    })?;
    let mut map = Map::new();
    map.insert("kind".to_owned(), kind.clone().into());
    map.insert("apiVersion".to_owned(), api_version.clone().into());
    value::structure(ty, raw, depth, &mut map)?;
    let mut obj = Value::Object(map);
    schema().normalise(gvk, &mut obj);
    Ok(obj)
}

fn type_meta(bytes: &[u8]) -> Result<(String, String), Malformed> {
    let (mut api_version, mut kind) = (String::new(), String::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(text)) => api_version = wire::text("apiVersion", text)?,
            (2, Wire::Bytes(text)) => kind = wire::text("kind", text)?,
            _ => {}
        }
    }
    Ok((api_version, kind))
}
