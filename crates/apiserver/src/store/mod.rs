//! Revisions, events and watches on an embedded database.
//!
//! Every write gets the next revision and becomes one event. `events` (rev → record) holds each
//! event with the object's bytes, `latest` (key → rev) says which event is a key's present state.
//! All present objects are also in memory, as bytes; reads never touch the disk, except watches and
//! pages that start in the past. One thread writes: it takes whatever requests have queued, checks
//! them in order against memory, commits them with one fsync, and only then shows them to readers.

mod compact;
mod expire;
mod memory;
mod open;
mod read;
mod record;
mod rehearsal;
mod watch;
mod writer;

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

pub use open::OpenError;
pub use read::{Page, Range};
pub use record::EventKind;
pub use watch::{Batch, Watcher};

use memory::Memory;
use writer::Request;

/// A present object.
#[derive(Clone, Debug)]
pub struct Object {
    /// The object's JSON, its `metadata.resourceVersion` filled in.
    pub bytes: Bytes,
    pub created: u64,
    pub modified: u64,
    /// Seconds since the epoch after which the object may go; 0 means never.
    pub expires: u64,
}

/// One change of one key, as watchers see it.
#[derive(Clone, Debug)]
pub struct Event {
    pub revision: u64,
    pub kind: EventKind,
    pub key: Arc<str>,
    /// The object after the change; of a deletion, its last state with the deletion's revision.
    pub object: Bytes,
    /// The object before the change.
    pub previous: Option<Bytes>,
}

/// JSON in which the writer puts the revision at byte `at`.
#[derive(Clone, Debug)]
pub struct Template {
    pub json: Vec<u8>,
    pub at: usize,
}

/// What has to be true of a key for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Absent,
    /// The key exists and was last modified at this revision.
    Revision(u64),
}

/// One write.
#[derive(Clone, Debug)]
pub struct Write {
    pub key: String,
    pub expect: Expect,
    pub object: Template,
    pub delete: bool,
    /// Seconds since the epoch; 0 means never.
    pub expires: u64,
}

/// Why a read or write did not happen. `Exists`, `Missing` and `Conflict` want a fresh read before a
/// retry, `Full` wants room on the disk, `Compacted` wants a new list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the key exists")]
    Exists,
    #[error("the key does not exist")]
    Missing,
    #[error("the object is at revision {0}")]
    Conflict(u64),
    #[error("revision {asked} was compacted, the oldest is {oldest}")]
    Compacted { asked: u64, oldest: u64 },
    #[error("revision {asked} is in the future, the present is {current}")]
    Future { asked: u64, current: u64 },
    #[error("the disk is full: {0}")]
    Full(String),
    #[error("the store cannot be written: {0}")]
    Failed(String),
}

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    pub path: PathBuf,
    /// How many events of one resource stay in memory for watches.
    pub ring: usize,
}

impl Options {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ring: 1_000 }
    }
}

/// The store; cheap to clone. The writing thread ends when the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

struct Shared {
    memory: RwLock<Memory>,
    /// `None` after a disk error until the file could be opened again.
    disk: RwLock<Option<Arc<redb::Database>>>,
    options: Options,
}

impl Shared {
    fn memory(&self) -> std::sync::RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn memory_mut(&self) -> std::sync::RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn disk(&self) -> Result<Arc<redb::Database>, redb::Error> {
        let disk = self.disk.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        disk.clone().ok_or(redb::Error::DatabaseClosed)
    }
}

impl Store {
    /// Opens the store at `options.path`, creating it if the file does not exist.
    ///
    /// # Errors
    /// A file that is locked, truncated or corrupt is refused and left as it is.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let (database, memory) = open::open_when_free(&options)?;
        Ok(Self::start(database, memory, options))
    }

    fn start(database: redb::Database, memory: Memory, options: Options) -> Self {
        let shared = Arc::new(Shared {
            memory: RwLock::new(memory),
            disk: RwLock::new(Some(Arc::new(database))),
            options,
        });
        let (requests, queue) = mpsc::channel(1_024);
        writer::spawn(shared.clone(), queue);
        Self { shared, requests }
    }

    /// Writes one object and returns its new revision and stored form, once both are on the disk.
    pub async fn write(&self, write: Write) -> Result<Object, StoreError> {
        let (reply, answer) = oneshot::channel();
        let stopped = || StoreError::Failed("its writer has stopped".into());
        self.requests.send(Request::Write { write, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Forgets events up to revision `to` and returns the oldest revision that watches may still
    /// start from.
    pub async fn compact(&self, to: u64) -> Result<u64, StoreError> {
        let (reply, answer) = oneshot::channel();
        let stopped = || StoreError::Failed("its writer has stopped".into());
        self.requests.send(Request::Compact { to, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.shared.memory().revision
    }

    pub fn get(&self, key: &str) -> Option<Object> {
        self.shared.memory().objects.get(key).cloned()
    }

    /// All present objects whose key begins with `prefix`, in order.
    pub fn all(&self, prefix: &str) -> Vec<Object> {
        self.shared.memory().range(prefix, None).map(|(_, object)| object.clone()).collect()
    }

    /// All present objects whose key begins with `prefix`, with their keys, in order.
    pub fn entries(&self, prefix: &str) -> Vec<(Arc<str>, Object)> {
        self.shared.memory().range(prefix, None).map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// When a key of a resource was last written; 0 if not since the store was opened. `prefix` is the
    /// resource's whole prefix, as in `core/pods/`.
    pub fn newest(&self, prefix: &str) -> u64 {
        self.shared.memory().existing_channel(prefix).map_or(0, |channel| *channel.newest.borrow())
    }

    /// How many keys begin with `prefix`.
    pub fn count(&self, prefix: &str) -> usize {
        self.shared.memory().range(prefix, None).count()
    }

    /// Whether the writer still runs.
    pub fn healthy(&self) -> bool {
        !self.requests.is_closed()
    }
}
