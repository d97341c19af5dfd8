//! Forgetting old events, never a present object.

use redb::{Database, Durability, ReadableTable};

use super::open::{EVENTS, META};
use super::record::{EventKind, Record};
use super::{OpenError, Shared};

/// Forgets what only watchers from before `to` could ask for. An event goes when the event that
/// replaced it is at or before `to`, and a deletion when it is itself at or before `to`; so a walk over
/// the events since the last compaction finds everything that may go.
pub(super) fn compact(shared: &Shared, database: &Database, to: u64) -> Result<u64, redb::Error> {
    let (done, target) = {
        let memory = shared.memory();
        (memory.compacted, to.min(memory.revision))
    };
    if target <= done {
        return Ok(done);
    }
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    let mut dead = Vec::new();
    {
        let mut events = txn.open_table(EVENTS)?;
        for entry in events.range(done + 1..=target)? {
            let (revision, bytes) = entry?;
            let record = Record::decode(revision.value(), bytes.value()).map_err(damaged)?;
            if record.previous != 0 {
                dead.push(record.previous);
            }
            if record.kind == EventKind::Deleted {
                dead.push(revision.value());
            }
        }
        for revision in &dead {
            events.remove(revision)?;
        }
        txn.open_table(META)?.insert("compacted", target)?;
    }
    txn.commit()?;
    shared.memory_mut().compacted = target;
    tracing::debug!(revision = target, forgotten = dead.len(), "compacted the store");
    Ok(target)
}

pub(super) fn damaged(error: OpenError) -> redb::Error {
    redb::Error::Corrupted(error.to_string())
}
