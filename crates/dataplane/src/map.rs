//! A pinned map with its name and types.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::error::MapError;
use crate::sys::{self, Plain};

/// How many entries one system call moves.
const BATCH: usize = 4096;

/// A BPF map of keys `K` and values `V`.
#[derive(Debug)]
pub(crate) struct Map<K, V> {
    fd: OwnedFd,
    name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Plain + Debug, V: Plain> Map<K, V> {
    /// Opens the map pinned under its name in a directory.
    pub fn open(directory: &Path, name: &'static str) -> Result<Self, MapError> {
        let fd = sys::open_pinned(&directory.join(name)).map_err(|source| MapError {
            map: name,
            action: "open",
            key: String::new(),
            source,
        })?;
        Ok(Self { fd, name, types: PhantomData })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn error(&self, action: &'static str, key: impl Debug) -> impl FnOnce(io::Error) -> MapError {
        let (map, key) = (self.name, format!("{key:?}"));
        move |source| MapError { map, action, key, source }
    }

    pub fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        sys::lookup(self.fd(), key).map_err(self.error("read", key))
    }

    pub fn put(&self, key: &K, value: &V) -> Result<(), MapError> {
        sys::update(self.fd(), key, value).map_err(self.error("write", key))
    }

    /// Deletes an entry if it is still as `is_wanted` has it, and says whether it did. What changed meanwhile
    /// is put back.
    pub fn delete_if(&self, key: &K, is_wanted: impl Fn(&V) -> bool) -> Result<bool, MapError> {
        if !self.get(key)?.is_some_and(|value| is_wanted(&value)) {
            return Ok(false);
        }
        match sys::take::<K, V>(self.fd(), key).map_err(self.error("delete", key))? {
            Some(value) if !is_wanted(&value) => {
                sys::insert(self.fd(), key, &value).map_err(self.error("write", key))?;
                Ok(false)
            }
            taken => Ok(taken.is_some()),
        }
    }

    /// Deleting what is not there is no error.
    pub fn delete(&self, key: &K) -> Result<(), MapError> {
        sys::delete(self.fd(), key).map(drop).map_err(self.error("delete", key))
    }

    /// Writes all entries in order. On failure says how many were written.
    pub fn put_all(&self, keys: &[K], values: &[V]) -> Result<(), (usize, MapError)> {
        let mut done = 0;
        for (keys, values) in keys.chunks(BATCH).zip(values.chunks(BATCH)) {
            sys::update_batch(self.fd(), keys, values).map_err(|(count, error)| {
                // A failure before the first entry leaves the count as it was given.
                let count = if count < keys.len() { count } else { 0 };
                (done + count, self.error("write", keys[count])(error))
            })?;
            done += keys.len();
        }
        Ok(())
    }

    /// Deletes all of the keys, passing over those that are not there.
    pub fn delete_all(&self, keys: &[K]) -> Result<(), MapError> {
        let mut rest = keys;
        while !rest.is_empty() {
            let chunk = &rest[..rest.len().min(BATCH)];
            match sys::delete_batch(self.fd(), chunk) {
                Ok(()) => rest = &rest[chunk.len()..],
                Err((count, error)) if error.raw_os_error() == Some(libc::ENOENT) && count < chunk.len() => {
                    rest = &rest[count + 1..];
                }
                Err((count, error)) => {
                    return Err(self.error("delete", chunk.get(count).unwrap_or(&chunk[0]))(error));
                }
            }
        }
        Ok(())
    }

    /// Visits every entry of a hash map. Entries that change meanwhile may be missed or seen twice.
    pub fn for_each(&self, mut visit: impl FnMut(K, V)) -> Result<(), MapError> {
        let mut size = BATCH;
        let mut keys = vec![K::default(); size];
        let mut values = vec![V::default(); size];
        let mut cursor = None;
        loop {
            match sys::lookup_batch(self.fd(), &mut cursor, &mut keys, &mut values) {
                Ok(count) => keys[..count].iter().zip(&values[..count]).for_each(|(k, v)| visit(*k, *v)),
                // One bucket holds more than the buffer.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && size < 1 << 20 => {
                    size *= 2;
                    keys.resize(size, K::default());
                    values.resize(size, V::default());
                    continue;
                }
                Err(error) => return Err(self.error("read", "all")(error)),
            }
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Every key of a map without batch operations, as tries are.
    pub fn keys(&self) -> Result<Vec<K>, MapError> {
        let mut keys = Vec::new();
        let mut last = None;
        while let Some(next) = sys::next_key(self.fd(), last.as_ref()).map_err(self.error("read", "all"))? {
            keys.push(next);
            last = Some(next);
        }
        Ok(keys)
    }

    /// A per-CPU value, one for each of `cpus`; zeroes if there is none.
    pub fn get_per_cpu(&self, key: &K, cpus: usize) -> Result<Vec<V>, MapError> {
        let mut values = vec![V::default(); cpus];
        match sys::lookup_per_cpu(self.fd(), key, &mut values) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(vec![V::default(); cpus]),
            done => done.map(|()| values).map_err(self.error("read", key)),
        }
    }

    /// Replaces a per-CPU value.
    pub fn put_per_cpu(&self, key: &K, values: &[V]) -> Result<(), MapError> {
        sys::update_per_cpu(self.fd(), key, values).map_err(self.error("write", key))
    }
}
