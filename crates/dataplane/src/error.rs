//! What can go wrong, naming the object, the cause and the remedy.

use std::io;
use std::path::PathBuf;

/// A failure of the data plane. What was live before stays live.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The BPF file system could not be prepared.
    #[error("cannot {action} {path}: {source}")]
    Pins { action: &'static str, path: PathBuf, source: io::Error },
    /// The kernel refused a program or a map of it.
    #[error("cannot load BPF program {program}: {cause}")]
    Load { program: &'static str, cause: String },
    /// A map operation failed.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A program could not be attached.
    #[error("cannot attach {program} to {target}: {source}")]
    Attach { program: &'static str, target: String, source: io::Error },
    /// There is nothing to look at.
    #[error("no data plane of this version is pinned at {path}")]
    NothingPinned { path: PathBuf },
    /// Sockets could not be found or ended.
    #[error("cannot end UDP sockets that are stuck to a backend that is gone: {0}")]
    Sockets(#[source] io::Error),
    /// A setting is impossible.
    #[error("{0}")]
    Config(String),
}

/// A failed operation on one key of one map.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {map}[{key}]: {}", cause(.source))]
pub struct MapError {
    /// The map's name.
    pub map: &'static str,
    pub action: &'static str,
    /// The key, readable.
    pub key: String,
    pub source: io::Error,
}

/// `apply` stopped; the operations before `index` are in effect, the rest are not.
#[derive(Debug, thiserror::Error)]
#[error("operation {index} was not applied: {source}")]
pub struct ApplyError {
    /// Of the first operation that may not be in effect.
    pub index: usize,
    pub source: MapError,
}

impl MapError {
    /// Whether there was no room for another entry.
    pub fn is_full(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::E2BIG | libc::ENOMEM))
    }
}

impl ApplyError {
    /// As if a map was full, for tests of those who must bear it.
    pub fn full(index: usize) -> Self {
        let source = io::Error::from_raw_os_error(libc::E2BIG);
        Self { index, source: MapError { map: "slots", action: "write", key: "some".into(), source } }
    }
}

fn cause(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::E2BIG) => "the map is full, and as large as maps get: remove Services or ports".into(),
        Some(libc::ENOMEM) => "the kernel has no memory for it: raise the memory limit".into(),
        Some(libc::EPERM) => "not permitted: CAP_BPF and CAP_NET_ADMIN are needed".into(),
        _ => error.to_string(),
    }
}
