//! The one thread that writes: group commit, and what to do when the disk fails.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, Durability};
use tokio::sync::{mpsc, oneshot};

use super::open::{EVENTS, LATEST, META, reopen};
use super::record::Record;
use super::{Event, EventKind, Expect, Object, Shared, StoreError, Template, Write, compact};

pub(super) enum Request {
    Write { write: Write, reply: oneshot::Sender<Result<Object, StoreError>> },
    Compact { to: u64, reply: oneshot::Sender<Result<u64, StoreError>> },
}

/// At most this many writes share one fsync.
const BATCH: usize = 256;

type Reply = oneshot::Sender<Result<Object, StoreError>>;

/// One accepted write of a batch.
struct Accepted {
    event: Arc<Event>,
    /// `None` for a deletion.
    object: Option<Object>,
    answer: Object,
    previous_revision: u64,
    reply: Reply,
}

pub(super) fn spawn(shared: Arc<Shared>, mut queue: mpsc::Receiver<Request>) {
    let run = move || {
        while let Some(first) = queue.blocking_recv() {
            let mut writes = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Write { write, reply } => writes.push((write, reply)),
                    Request::Compact { to, reply } => {
                        write_batch(&shared, std::mem::take(&mut writes));
                        let result = opened(&shared).and_then(|disk| compact::compact(&shared, &disk, to));
                        let result = result.inspect_err(|e| close_after(&shared, e));
                        // A caller that went away does not need the answer.
                        let _ = reply.send(result.map_err(explain));
                    }
                }
                next = if writes.len() < BATCH { queue.try_recv().ok() } else { None };
            }
            write_batch(&shared, writes);
        }
    };
    std::thread::Builder::new()
        .name("store-writer".into())
        .spawn(run)
        .expect("a process that is starting can start one thread");
}

/// The accepted writes of a batch, and those refused because of them.
#[derive(Default)]
struct Batch {
    accepted: Vec<Accepted>,
    refused: Vec<(Reply, StoreError)>,
}

fn write_batch(shared: &Shared, writes: Vec<(Write, Reply)>) {
    let Batch { accepted, refused } = accept(shared, writes);
    if accepted.is_empty() {
        return;
    }
    match opened(shared).and_then(|disk| commit(&disk, &accepted)) {
        Ok(()) => {
            let changes = accepted.iter().map(|a| (a.event.clone(), a.object.clone())).collect();
            shared.memory_mut().apply(changes);
            for done in accepted {
                let _ = done.reply.send(Ok(done.answer));
            }
            for (reply, refusal) in refused {
                let _ = reply.send(Err(refusal));
            }
        }
        Err(error) => {
            close_after(shared, &error);
            let refusal = explain(error);
            tracing::error!(writes = accepted.len(), "writes were refused: {refusal}");
            let replies = accepted.into_iter().map(|failed| failed.reply);
            for reply in replies.chain(refused.into_iter().map(|(reply, _)| reply)) {
                let _ = reply.send(Err(refusal.clone()));
            }
        }
    }
}

/// Checks the writes in order, each against memory and the accepted ones before it. Refusals are
/// answered here, but for those whose reason nobody can see before the batch is on the disk.
fn accept(shared: &Shared, writes: Vec<(Write, Reply)>) -> Batch {
    let memory = shared.memory();
    let mut revision = memory.revision;
    let mut pending: HashMap<String, Option<Object>> = HashMap::new();
    let mut batch = Batch::default();
    for (write, reply) in writes {
        let unseen = pending.get(&write.key);
        let present = match unseen {
            Some(state) => state.clone(),
            None => memory.objects.get(write.key.as_str()).cloned(),
        };
        if let Some(refusal) = refusal(&write, present.as_ref()) {
            if unseen.is_some() {
                batch.refused.push((reply, refusal));
            } else {
                let _ = reply.send(Err(refusal));
            }
            continue;
        }
        revision += 1;
        let bytes = fill_in(&write.object, revision);
        let created = present.as_ref().map_or(revision, |o| o.created);
        let answer = Object { bytes: bytes.clone(), created, modified: revision, expires: write.expires };
        let kind = match (&present, write.delete) {
            (_, true) => EventKind::Deleted,
            (None, false) => EventKind::Added,
            (Some(_), false) => EventKind::Modified,
        };
        let object = (!write.delete).then(|| answer.clone());
        pending.insert(write.key.clone(), object.clone());
        let event = Event {
            revision,
            kind,
            key: write.key.into(),
            object: bytes,
            previous: present.as_ref().map(|o| o.bytes.clone()),
        };
        let previous_revision = present.map_or(0, |o| o.modified);
        batch.accepted.push(Accepted { event: Arc::new(event), object, answer, previous_revision, reply });
    }
    batch
}

fn refusal(write: &Write, present: Option<&Object>) -> Option<StoreError> {
    match (write.expect, present) {
        (Expect::Absent, Some(_)) => Some(StoreError::Exists),
        (Expect::Revision(_), None) => Some(StoreError::Missing),
        (Expect::Revision(want), Some(o)) if o.modified != want => Some(StoreError::Conflict(o.modified)),
        _ => None,
    }
}

fn fill_in(template: &Template, revision: u64) -> Bytes {
    let digits = revision.to_string();
    let mut bytes = Vec::with_capacity(template.json.len() + digits.len());
    bytes.extend_from_slice(&template.json[..template.at]);
    bytes.extend_from_slice(digits.as_bytes());
    bytes.extend_from_slice(&template.json[template.at..]);
    bytes.into()
}

fn commit(database: &Database, accepted: &[Accepted]) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    {
        let mut events = txn.open_table(EVENTS)?;
        let mut latest = txn.open_table(LATEST)?;
        let mut meta = txn.open_table(META)?;
        for Accepted { event, object, answer, previous_revision, .. } in accepted {
            let record = Record {
                kind: event.kind,
                created: answer.created,
                previous: *previous_revision,
                expires: answer.expires,
                key: &event.key,
                object: &event.object,
            };
            events.insert(event.revision, record.encode(event.revision).as_slice())?;
            match object {
                Some(_) => latest.insert(&*event.key, event.revision)?,
                None => latest.remove(&*event.key)?,
            };
            meta.insert("revision", event.revision)?;
        }
    }
    txn.commit()?;
    Ok(())
}

/// redb refuses all work after an I/O error until its file is opened again; so it is closed here, and
/// the next write opens it.
fn close_after(shared: &Shared, error: &redb::Error) {
    if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed) {
        *shared.disk.write().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }
}

/// The database, opened again if an error had closed it.
fn opened(shared: &Shared) -> Result<Arc<Database>, redb::Error> {
    let mut disk = shared.disk.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(database) = disk.as_ref() {
        return Ok(database.clone());
    }
    let database = Arc::new(reopen(&shared.options.path)?);
    tracing::info!("the store was opened again after a disk error");
    *disk = Some(database.clone());
    Ok(database)
}

fn explain(error: redb::Error) -> StoreError {
    match &error {
        redb::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => StoreError::Full(e.to_string()),
        redb::Error::Io(e) if e.raw_os_error() == Some(28) => StoreError::Full(e.to_string()),
        other => StoreError::Failed(other.to_string()),
    }
}
