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

use crate::custom::Served;

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

static KEPT: Mutex<VecDeque<(String, u64, Bytes)>> = Mutex::new(VecDeque::new());

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
pub fn document(served: &Served, path: &str) -> Option<Bytes> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = |kept: &&(String, u64, Bytes)| kept.0 == path && kept.1 == served.stamp();
    if let Some((_, _, document)) = kept.iter().find(wanted) {
        return Some(document.clone());
    }
    let document = make(served, path)?;
    kept.truncate(MAX_KEPT - 1);
    kept.push_front((path.to_owned(), served.stamp(), document.clone()));
    Some(document)
}

fn make(served: &Served, path: &str) -> Option<Bytes> {
    let (group, version) =
        served.group_versions().into_iter().find(|(group, version)| path_of(group, version) == path)?;
    let mut models = models::Models::default();
    let paths = paths::of(served, group, version, &mut models);
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
