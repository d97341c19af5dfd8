//! Opening a file without changing it: redb writes to what it opens, also before it finds that it
//! cannot, and a damaged store must stay as it is for whoever mends it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

const PAGE: u64 = 4096;

/// A file as it would be after the writes, which stay in memory. Its locks are the file's.
#[derive(Debug)]
pub(super) struct Rehearsal {
    file: FileBackend,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    len: u64,
    /// What of the file is not cut off.
    kept: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
}

impl Rehearsal {
    pub fn new(file: File) -> Result<Self, redb::DatabaseError> {
        let len = file.metadata()?.len();
        let changes = Changes { len, kept: len, pages: BTreeMap::new() };
        Ok(Self { file: FileBackend::new(file)?, changes: Mutex::new(changes) })
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changes {
    fn read(&self, file: &FileBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset + out.len() as u64;
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.fill(0);
        let from_file = usize::try_from(self.kept.min(end).saturating_sub(offset)).unwrap_or(0);
        if from_file > 0 {
            file.read(offset, &mut out[..from_file])?;
        }
        for (index, page) in self.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let (start, in_page) = overlap(*index, offset, end);
            let length = in_page.len();
            out[start..start + length].copy_from_slice(&page[in_page]);
        }
        Ok(())
    }

    fn write(&mut self, file: &FileBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        self.len = self.len.max(end);
        for index in offset / PAGE..end.div_ceil(PAGE) {
            if !self.pages.contains_key(&index) {
                let mut page = Box::new([0; PAGE as usize]);
                let held = (self.len - index * PAGE).min(PAGE) as usize;
                self.read(file, index * PAGE, &mut page[..held])?;
                self.pages.insert(index, page);
            }
            let (start, in_page) = overlap(index, offset, end);
            let length = in_page.len();
            if let Some(page) = self.pages.get_mut(&index) {
                page[in_page].copy_from_slice(&data[start..start + length]);
            }
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        self.kept = self.kept.min(len);
        drop(self.pages.split_off(&len.div_ceil(PAGE)));
        if let Some(last) = self.pages.get_mut(&(len / PAGE)) {
            last[(len % PAGE) as usize..].fill(0);
        }
        self.len = len;
    }
}

/// Where the bytes `offset..end` and a page meet: the first of them there, and the page's part.
fn overlap(index: u64, offset: u64, end: u64) -> (usize, std::ops::Range<usize>) {
    let base = index * PAGE;
    let (from, to) = (offset.max(base), end.min(base + PAGE));
    ((from - offset) as usize, (from - base) as usize..(to - base) as usize)
}

impl StorageBackend for Rehearsal {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.changes().read(&self.file, offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changes().set_len(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.changes().write(&self.file, offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Len(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20_000_u64, prop::collection::vec(any::<u8>(), 1..6_000))
                .prop_map(|(at, d)| Step::Write(at, d)),
            (0..25_000_u64).prop_map(Step::Len),
        ]
    }

    proptest! {
        #[test]
        fn it_reads_like_a_file_that_was_written(steps in prop::collection::vec(step(), 1..20)) {
            let mut original = tempfile::NamedTempFile::new().unwrap();
            let before: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
            original.write_all(&before).unwrap();
            let rehearsal = Rehearsal::new(original.reopen().unwrap()).unwrap();
            let mut model = before.clone();
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        rehearsal.write(at, &data).unwrap();
                        let (at, end) = (at as usize, at as usize + data.len());
                        model.resize(model.len().max(end), 0);
                        model[at..end].copy_from_slice(&data);
                    }
                    Step::Len(len) => {
                        rehearsal.set_len(len).unwrap();
                        model.resize(len as usize, 0);
                    }
                }
                prop_assert_eq!(rehearsal.len().unwrap(), model.len() as u64);
                let mut seen = vec![1; model.len()];
                rehearsal.read(0, &mut seen).unwrap();
                prop_assert_eq!(&seen, &model);
                let middle = model.len() / 3;
                let mut seen = vec![1; model.len() / 2];
                rehearsal.read(middle as u64, &mut seen).unwrap();
                prop_assert_eq!(&seen[..], &model[middle..middle + model.len() / 2]);
                prop_assert!(rehearsal.read(model.len() as u64, &mut [0]).is_err());
            }
            prop_assert_eq!(std::fs::read(original.path()).unwrap(), before, "the file itself stays");
        }
    }
}
