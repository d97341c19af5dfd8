//! Lists: the present, or the past as the first page of a list saw it.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::ReadableDatabase;

use super::memory::resource_of;
use super::open::EVENTS;
use super::record::Record;
use super::{Event, Object, Shared, Store, StoreError, compact, watch};

/// Which objects to list.
#[derive(Clone, Debug, Default)]
pub struct Range {
    pub prefix: String,
    /// Only keys after this one.
    pub after: Option<String>,
    /// At most this many; 0 means all.
    pub limit: usize,
    /// As of this revision; `None` means now.
    pub at: Option<u64>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The revision that the page shows.
    pub revision: u64,
    pub items: Vec<(Arc<str>, Object)>,
    /// How many objects of the range come after this page.
    pub remaining: usize,
}

impl Store {
    /// Lists a range of keys in order.
    ///
    /// # Errors
    /// `Compacted` when `at` is older than what the store remembers, `Future` when it has not happened.
    pub async fn range(&self, range: Range) -> Result<Page, StoreError> {
        {
            let memory = self.shared.memory();
            let current = memory.revision;
            let at = range.at.unwrap_or(current);
            if at > current {
                return Err(StoreError::Future { asked: at, current });
            }
            let newest = memory.existing_channel(resource_of(&range.prefix)).map(|c| *c.newest.borrow());
            let unchanged = at == current || newest.is_some_and(|newest| newest <= at);
            if unchanged {
                let objects = memory.range(&range.prefix, range.after.as_deref());
                return Ok(cut(objects.map(|(k, o)| (k.clone(), o.clone())), at, range.limit));
            }
            if at < memory.compacted {
                return Err(StoreError::Compacted { asked: at, oldest: memory.compacted });
            }
        }
        let shared = self.shared.clone();
        let task = tokio::task::spawn_blocking(move || past(&shared, &range));
        task.await.map_err(|e| StoreError::Failed(e.to_string()))?
    }
}

fn cut(objects: impl Iterator<Item = (Arc<str>, Object)>, revision: u64, limit: usize) -> Page {
    let mut objects = objects;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let items: Vec<_> = objects.by_ref().take(limit).collect();
    Page { revision, items, remaining: objects.count() }
}

/// The present with every event after `range.at` taken back.
fn past(shared: &Shared, range: &Range) -> Result<Page, StoreError> {
    let at = range.at.unwrap_or_default();
    let (mut objects, upto) = {
        let memory = shared.memory();
        let present = memory.range(&range.prefix, None);
        let objects: BTreeMap<Arc<str>, Object> = present.map(|(k, o)| (k.clone(), o.clone())).collect();
        (objects, memory.revision)
    };
    let mut events = Vec::new();
    let mut from = at;
    while from < upto {
        let batch = watch::disk_batch(shared, &range.prefix, from, upto)?;
        events.extend(batch.events);
        from = batch.revision;
    }
    for event in events.iter().rev() {
        take_back(shared, &mut objects, event)?;
    }
    let after = range.after.as_deref();
    let selected = objects.into_iter().filter(|(key, _)| after.is_none_or(|a| &**key > a));
    Ok(cut(selected, at, range.limit))
}

fn take_back(
    shared: &Shared,
    objects: &mut BTreeMap<Arc<str>, Object>,
    event: &Event,
) -> Result<(), StoreError> {
    let Some(bytes) = event.previous.clone() else {
        objects.remove(&event.key);
        return Ok(());
    };
    let failed = |e: redb::Error| StoreError::Failed(e.to_string());
    let txn = shared.disk().map_err(failed)?.begin_read().map_err(|e| failed(e.into()))?;
    let events = txn.open_table(EVENTS).map_err(|e| failed(e.into()))?;
    let stored = events.get(event.revision).map_err(|e| failed(e.into()))?;
    let stored = stored.ok_or(StoreError::Compacted { asked: event.revision, oldest: event.revision + 1 })?;
    let record = Record::decode(event.revision, stored.value()).map_err(|e| failed(compact::damaged(e)))?;
    let object = Object { bytes, created: record.created, modified: record.previous, expires: 0 };
    objects.insert(event.key.clone(), object);
    Ok(())
}
