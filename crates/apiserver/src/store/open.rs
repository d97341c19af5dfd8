//! Opening a store: everything present is read and checked once; damage refuses, never wipes.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::memory::Memory;
use super::record::Record;
use super::rehearsal::Rehearsal;
use super::{Object, Options};

pub(super) const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");
pub(super) const LATEST: TableDefinition<&str, u64> = TableDefinition::new("latest");
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The layout of the tables; a store with another number is refused.
const FORMAT: u64 = 1;
/// Pages that redb keeps in memory; the objects are in ours already.
pub(super) const CACHE_BYTES: usize = 4 << 20;

/// Why a store could not be opened. None of them is cured by trying again, except `Locked`.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the store {path} is in use by another process; stop that daemon first")]
    Locked { path: String },
    #[error("the store {path} cannot be opened: {cause}")]
    Io { path: String, cause: String },
    #[error(
        "the store {path} is damaged: {cause}. It was left untouched: restore it from a copy, or move it \
         away to start with an empty cluster"
    )]
    Corrupt { path: String, cause: String },
    #[error("the store {path} was written by another version (format {found}, this one reads {FORMAT})")]
    Format { path: String, found: u64 },
    /// Damage found in a record, before the path is known.
    #[error("{0}")]
    Damaged(String),
}

/// How long a store that is in use is waited for: the process before may be about to end.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn open_when_free(options: &Options) -> Result<(Database, Memory), OpenError> {
    let mut waited = Duration::ZERO;
    loop {
        match open(options) {
            Err(OpenError::Locked { .. }) if waited < PATIENCE => {
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
            result => return result,
        }
    }
}

fn open(options: &Options) -> Result<(Database, Memory), OpenError> {
    let path = options.path.as_path();
    let shown = path.display().to_string();
    let fresh = is_fresh(path)?;
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        if fresh {
            let database = open_database(path, true)?;
            let memory = load(&database, &shown, options.ring)?;
            return Ok((database, memory));
        }
        let memory = load(&rehearse(path)?, &shown, options.ring)?;
        Ok((open_database(path, false)?, memory))
    }));
    match attempt {
        Ok(Err(OpenError::Damaged(cause))) => Err(OpenError::Corrupt { path: shown, cause }),
        Ok(result) => result,
        Err(panic) => Err(OpenError::Corrupt { path: shown, cause: panic_text(&panic) }),
    }
}

/// Opens an existing database again after an I/O error, when the contents are known from memory.
pub(super) fn reopen(path: &Path) -> Result<Database, redb::Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    match catch_unwind(AssertUnwindSafe(|| builder.open(path))) {
        Ok(result) => result.map_err(redb::Error::from),
        Err(panic) => Err(redb::Error::Corrupted(panic_text(&panic))),
    }
}

fn panic_text(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("its pages make no sense").to_owned()
}

/// A missing file is a fresh store; an empty one lost what it held.
fn is_fresh(path: &Path) -> Result<bool, OpenError> {
    let shown = || path.display().to_string();
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() == 0 => {
            Err(OpenError::Corrupt { path: shown(), cause: "the file is empty".into() })
        }
        Ok(_) => Ok(false),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(OpenError::Io { path: shown(), cause: e.to_string() }),
    }
}

/// A fresh database is made under another name and renamed when it is whole, so that an interrupted
/// first start leaves no half-made store behind.
fn open_database(path: &Path, fresh: bool) -> Result<Database, OpenError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let shown = path.display().to_string();
    if fresh {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|e| OpenError::Io { path: shown.clone(), cause: e.to_string() })?;
        }
        let draft = path.with_extension("new");
        let io = |e: &dyn std::fmt::Display| OpenError::Io { path: shown.clone(), cause: e.to_string() };
        match std::fs::remove_file(&draft) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(&e)),
            _ => {}
        }
        let database = builder.create(&draft).map_err(|e| io(&e))?;
        create_tables(&database).map_err(|e| io(&e))?;
        std::fs::rename(&draft, path).map_err(|e| io(&e))?;
        let folder = path.parent().map(std::fs::File::open).transpose().map_err(|e| io(&e))?;
        folder.map_or(Ok(()), |f| f.sync_all()).map_err(|e| io(&e))?;
        return Ok(database);
    }
    builder.open(path).map_err(|e| refusal(shown, e))
}

/// The database as opening it would make it; the file stays as it is.
fn rehearse(path: &Path) -> Result<Database, OpenError> {
    let shown = path.display().to_string();
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(|e| OpenError::Io { path: shown.clone(), cause: e.to_string() })?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let database = Rehearsal::new(file).and_then(|rehearsal| builder.create_with_backend(rehearsal));
    database.map_err(|e| refusal(shown, e))
}

fn refusal(path: String, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path },
        DatabaseError::Storage(StorageError::Io(e))
            if !matches!(e.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
        {
            OpenError::Io { path, cause: e.to_string() }
        }
        other => OpenError::Corrupt { path, cause: other.to_string() },
    }
}

pub(super) fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    {
        txn.open_table(EVENTS)?;
        txn.open_table(LATEST)?;
        let mut meta = txn.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("revision", 1)?;
        meta.insert("compacted", 1)?;
    }
    txn.commit()?;
    Ok(())
}

pub(super) fn load(database: &Database, path: &str, ring: usize) -> Result<Memory, OpenError> {
    let damaged = |e: redb::Error| OpenError::Damaged(e.to_string());
    let txn = database.begin_read().map_err(|e| damaged(e.into()))?;
    let meta = txn.open_table(META).map_err(|e| damaged(e.into()))?;
    let number = |name: &str| -> Result<u64, OpenError> {
        let found = meta.get(name).map_err(|e| damaged(e.into()))?;
        found.map(|v| v.value()).ok_or_else(|| OpenError::Damaged(format!("it does not say its {name}")))
    };
    let format = number("format")?;
    if format != FORMAT {
        return Err(OpenError::Format { path: path.to_owned(), found: format });
    }
    let (revision, compacted) = (number("revision")?, number("compacted")?);
    let events = txn.open_table(EVENTS).map_err(|e| damaged(e.into()))?;
    let latest = txn.open_table(LATEST).map_err(|e| damaged(e.into()))?;
    let mut objects = BTreeMap::new();
    for entry in latest.iter().map_err(|e| damaged(e.into()))? {
        let (key, modified) = entry.map_err(|e| damaged(e.into()))?;
        let (key, modified) = (key.value(), modified.value());
        let stored = events.get(modified).map_err(|e| damaged(e.into()))?;
        let stored = stored.ok_or_else(|| OpenError::Damaged(format!("{key} has no event {modified}")))?;
        let record = Record::decode(modified, stored.value())?;
        if record.key != key || modified > revision {
            return Err(OpenError::Damaged(format!("{key} points at the wrong event {modified}")));
        }
        let object = Object {
            bytes: Bytes::copy_from_slice(record.object),
            created: record.created,
            modified,
            expires: record.expires,
        };
        objects.insert(Arc::from(key), object);
    }
    Ok(Memory::new(revision, compacted, objects, ring))
}
