//! Watches: a cursor into the events of one resource. Nothing is buffered per watcher: one that is
//! behind reads from the ring in memory, further behind from the disk, and once what it needs has
//! been compacted it ends.

use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable};
use tokio::sync::watch;

use super::memory::resource_of;
use super::open::{EVENTS, META};
use super::record::Record;
use super::{Event, Shared, Store, StoreError, compact};

/// How many events one batch holds at most.
const BATCH: usize = 256;
/// With this many bytes of objects a batch is full, however few they are: each watch holds one.
const BATCH_BYTES: usize = 1 << 20;

/// Events in order, and the revision up to which nothing is missing.
#[derive(Clone, Debug)]
pub struct Batch {
    pub events: Vec<Arc<Event>>,
    pub revision: u64,
}

/// Reads the events of a key prefix after a revision, each once, in order.
pub struct Watcher {
    shared: Arc<Shared>,
    prefix: String,
    cursor: u64,
    news: watch::Receiver<u64>,
}

impl Store {
    /// Watches keys that begin with `prefix`, from after `revision`.
    ///
    /// # Errors
    /// `Compacted` when events after `revision` are gone, `Future` when it has not happened.
    pub fn watch(&self, prefix: &str, revision: u64) -> Result<Watcher, StoreError> {
        let mut memory = self.shared.memory_mut();
        if revision < memory.compacted {
            return Err(StoreError::Compacted { asked: revision, oldest: memory.compacted });
        }
        if revision > memory.revision {
            return Err(StoreError::Future { asked: revision, current: memory.revision });
        }
        let news = memory.channel(resource_of(prefix)).newest.subscribe();
        drop(memory);
        Ok(Watcher { shared: self.shared.clone(), prefix: prefix.to_owned(), cursor: revision, news })
    }
}

impl Watcher {
    /// The revision up to which everything was delivered.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The next events, waiting for one if there is none.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Batch, StoreError> {
        loop {
            self.news.borrow_and_update();
            let batch = self.ready().await?;
            if !batch.events.is_empty() {
                return Ok(batch);
            }
            let stopped = |_| StoreError::Failed("the store was closed".into());
            self.news.changed().await.map_err(stopped)?;
        }
    }

    /// What is there now; the batch may be empty, and its revision is then the present one.
    pub async fn ready(&mut self) -> Result<Batch, StoreError> {
        loop {
            let batch = match self.ring_batch() {
                Some(batch) => batch,
                None => {
                    let (shared, prefix, from) = (self.shared.clone(), self.prefix.clone(), self.cursor);
                    let read = move || disk_batch(&shared, &prefix, from, u64::MAX);
                    let task = tokio::task::spawn_blocking(read);
                    task.await.map_err(|e| StoreError::Failed(e.to_string()))??
                }
            };
            let moved = batch.revision > self.cursor;
            self.cursor = batch.revision;
            if !batch.events.is_empty() || !moved {
                return Ok(batch);
            }
        }
    }

    fn ring_batch(&self) -> Option<Batch> {
        let memory = self.shared.memory();
        let channel = memory.existing_channel(resource_of(&self.prefix))?;
        if self.cursor < channel.floor {
            return None;
        }
        let start = channel.events.partition_point(|e| e.revision <= self.cursor);
        let mut batch = Batch { events: Vec::new(), revision: memory.revision };
        let mut bytes = 0;
        for event in channel.events.range(start..) {
            if event.key.starts_with(&self.prefix) {
                if batch.events.len() == BATCH || bytes > BATCH_BYTES {
                    batch.revision = batch.events.last().map_or(self.cursor, |e| e.revision);
                    break;
                }
                bytes += event.object.len();
                batch.events.push(event.clone());
            }
        }
        Some(batch)
    }
}

/// Reads events after `from` and at most at `upto` from the disk, at most a batch of them.
pub(super) fn disk_batch(shared: &Shared, prefix: &str, from: u64, upto: u64) -> Result<Batch, StoreError> {
    // Memory is read first: it may lag behind the disk by one batch, never the other way round.
    let current = shared.memory().revision.min(upto);
    let read = || -> Result<Result<Batch, StoreError>, redb::Error> {
        let txn = shared.disk()?.begin_read()?;
        let compacted = txn.open_table(META)?.get("compacted")?.map_or(0, |v| v.value());
        if from < compacted {
            return Ok(Err(StoreError::Compacted { asked: from, oldest: compacted }));
        }
        let events = txn.open_table(EVENTS)?;
        let mut batch = Batch { events: Vec::new(), revision: current };
        let mut bytes_read = 0;
        for entry in events.range(from + 1..=current.max(from + 1))? {
            let (revision, bytes) = entry?;
            let revision = revision.value();
            if revision > current {
                break;
            }
            let record = Record::decode(revision, bytes.value()).map_err(compact::damaged)?;
            if !record.key.starts_with(prefix) {
                continue;
            }
            bytes_read += record.object.len();
            batch.events.push(Arc::new(event(&events, revision, &record)?));
            if batch.events.len() == BATCH || bytes_read > BATCH_BYTES {
                batch.revision = revision;
                break;
            }
        }
        Ok(Ok(batch))
    };
    read().unwrap_or_else(|e| Err(StoreError::Failed(e.to_string())))
}

fn event(
    events: &impl ReadableTable<u64, &'static [u8]>,
    revision: u64,
    record: &Record<'_>,
) -> Result<Event, redb::Error> {
    let previous = match record.previous {
        0 => None,
        before => match events.get(before)? {
            Some(stored) => {
                let record = Record::decode(before, stored.value()).map_err(compact::damaged)?;
                Some(Bytes::copy_from_slice(record.object))
            }
            None => None,
        },
    };
    Ok(Event {
        revision,
        kind: record.kind,
        key: record.key.into(),
        object: Bytes::copy_from_slice(record.object),
        previous,
    })
}
