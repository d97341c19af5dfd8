//! OpenAPI v3: an index with hashes, and one document per group version; and v2, one document for all.
//!
//! Documents of v3 are made when they are asked for, and the few asked for last are kept, packed. They say what kubectl needs
//! for `explain`, validation, dry runs and strategic patches.

mod models;
mod paths;
mod prose;
mod v2;
mod v2_protobuf;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::custom::Served;

pub use v2::document as document_v2;
pub use v2_protobuf::document as document_v2_protobuf;

/// Changes whenever any document may.
static HASH: LazyLock<String> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    digest.update(include_str!("../../schema/types.txt"));
    digest.update(prose::PACKED);
    digest.update(include_str!("../../schema/resources.txt"));
    digest.update(include_str!("models.rs"));
    digest.update(include_str!("paths.rs"));
    digest.update(include_str!("v2.rs"));
    digest.update(include_str!("v2_protobuf.rs"));
    hex(&digest.finalize())
});

/// kubectl asks for the same one or two with every command; the largest has a megabyte, unpacked.
const MAX_KEPT: usize = 3;

static KEPT: Mutex<VecDeque<(String, u64, Document)>> = Mutex::new(VecDeque::new());

/// A document as it is kept.
#[derive(Clone)]
pub struct Document {
    /// Its digest, in hexadecimal.
    pub digest: String,
    pub gzip: Bytes,
}

impl Document {
    fn pack(json: &[u8]) -> std::io::Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(json)?;
        Ok(Self { digest: hex(&Sha256::digest(json)), gzip: encoder.finish()?.into() })
    }
}

/// What was packed by gzip.
///
/// # Errors
/// When it was not.
pub fn unpack(gzip: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut json = Vec::new();
    GzDecoder::new(gzip).read_to_end(&mut json)?;
    Ok(json)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `/openapi/v3`.
pub fn index(served: &Served) -> Value {
    let mut listed = Map::new();
    for (group, version) in served.group_versions() {
        let path = path_of(group, version);
        let url = format!("/openapi/v3/{path}?hash={}", hash(served));
        listed.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": listed})
}

/// The hash in the index's URLs, and a document's ETag.
pub fn hash(served: &Served) -> String {
    match served.stamp() {
        0 => HASH.clone(),
        stamp => format!("{}{stamp:016X}", *HASH),
    }
}

/// `/openapi/v3/PATH`, where `path` is `api/v1` or `apis/GROUP/VERSION`.
pub fn document(served: &Served, path: &str) -> Option<Document> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = |kept: &&(String, u64, Document)| kept.0 == path && kept.1 == served.stamp();
    if let Some((_, _, document)) = kept.iter().find(wanted) {
        return Some(document.clone());
    }
    let document = make(served, path)?;
    kept.truncate(MAX_KEPT - 1);
    kept.push_front((path.to_owned(), served.stamp(), document.clone()));
    Some(document)
}

fn make(served: &Served, path: &str) -> Option<Document> {
    let (group, version) =
        served.group_versions().into_iter().find(|(group, version)| path_of(group, version) == path)?;
    let mut models = models::Models::new();
    let paths = paths::of(served, group, version, &mut models);
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.3"},
        "paths": paths,
        "components": {"schemas": models.finish()},
    });
    Document::pack(&serde_json::to_vec(&document).ok()?).ok()
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}
