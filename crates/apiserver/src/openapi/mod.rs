//! OpenAPI v3: an index with hashes, and one document per group version.
//!
//! Documents are made when they are asked for, and the few asked for last are kept. They say what kubectl needs for `explain`, validation, dry runs and strategic patches. There
//! are no descriptions: the schema table holds facts only.

mod models;
mod paths;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::schema::schema;

/// Changes whenever any document may.
static HASH: LazyLock<String> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    digest.update(include_str!("../../schema/types.txt"));
    digest.update(include_str!("../../schema/resources.txt"));
    digest.update(include_str!("models.rs"));
    digest.update(include_str!("paths.rs"));
    digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
});

/// kubectl asks for the same one or two with every command; the largest has a quarter of a megabyte.
const MAX_KEPT: usize = 3;

static KEPT: Mutex<VecDeque<(String, Bytes)>> = Mutex::new(VecDeque::new());

/// `/openapi/v3`.
pub fn index() -> Value {
    let mut listed = Map::new();
    for (group, version) in schema().group_versions() {
        let path = path_of(group, version);
        let url = format!("/openapi/v3/{path}?hash={}", *HASH);
        listed.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": listed})
}

/// The hash in the index's URLs, and a document's ETag.
pub fn hash() -> &'static str {
    &HASH
}

/// `/openapi/v3/PATH`, where `path` is `api/v1` or `apis/GROUP/VERSION`.
pub fn document(path: &str) -> Option<Bytes> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, document)) = kept.iter().find(|(known, _)| known == path) {
        return Some(document.clone());
    }
    let document = make(path)?;
    kept.truncate(MAX_KEPT - 1);
    kept.push_front((path.to_owned(), document.clone()));
    Some(document)
}

fn make(path: &str) -> Option<Bytes> {
    let (group, version) =
        schema().group_versions().into_iter().find(|(group, version)| path_of(group, version) == path)?;
    let mut models = models::Models::default();
    let paths = paths::of(group, version, &mut models);
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.3"},
        "paths": paths,
        "components": {"schemas": models.finish()},
    });
    serde_json::to_vec(&document).ok().map(Bytes::from)
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}
