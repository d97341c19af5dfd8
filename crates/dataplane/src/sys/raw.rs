//! Maps as bytes, for copying entries whose types we do not know.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::{ElementAttr, InfoAttr, absent_is_none, bpf, element, raw};
use super::{MAP_GET_NEXT_KEY, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, OBJ_GET_INFO_BY_FD, open_pinned};

/// Flags of an update.
pub const ANY: u64 = 0;
pub const NO_EXIST: u64 = 1;

/// Numbers of `enum bpf_map_type`.
#[cfg(test)]
pub const HASH: u32 = 1;
const ARRAY: u32 = 2;
pub const PER_CPU_HASH: u32 = 5;
const PER_CPU_ARRAY: u32 = 6;
const LRU_PER_CPU_HASH: u32 = 10;

/// A map of any key and value.
pub struct RawMap {
    pub fd: OwnedFd,
    pub key_size: usize,
    pub value_size: usize,
    pub capacity: u32,
    map_type: u32,
    /// Values that the kernel keeps for each key: one, or one for each processor.
    copies: usize,
}

impl RawMap {
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(open_pinned(path)?)
    }

    pub fn of(fd: OwnedFd) -> io::Result<Self> {
        // struct bpf_map_info begins with type, id, key_size, value_size, max_entries.
        let mut info = [0u32; 16];
        let mut attr = InfoAttr {
            bpf_fd: raw(fd.as_fd()),
            info_len: size_of_val(&info) as u32,
            info: info.as_mut_ptr() as u64,
        };
        bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
        let [map_type, _, key_size, value_size, capacity, ..] = info;
        let per_cpu = matches!(map_type, PER_CPU_HASH | PER_CPU_ARRAY | LRU_PER_CPU_HASH);
        let copies = if per_cpu { crate::stats::possible_cpus().map_err(io::Error::other)? } else { 1 };
        let (key_size, value_size) = (key_size as usize, value_size as usize);
        Ok(Self { fd, key_size, value_size, capacity, map_type, copies })
    }

    pub fn is_array(&self) -> bool {
        matches!(self.map_type, ARRAY | PER_CPU_ARRAY)
    }

    /// How many bytes apart the kernel lays the values of one key.
    fn stride(&self) -> usize {
        if self.copies > 1 { self.value_size.next_multiple_of(8) } else { self.value_size }
    }

    pub fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        assert_eq!(key.len(), self.key_size, "a whole key");
        let mut value = vec![0; self.stride() * self.copies];
        let mut attr = element(self.fd.as_fd(), key.as_ptr() as u64, value.as_mut_ptr() as u64);
        let found = absent_is_none(bpf(MAP_LOOKUP_ELEM, &mut attr))?;
        Ok(found.map(|_| value))
    }

    pub fn put(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        assert_eq!((key.len(), value.len()), (self.key_size, self.stride() * self.copies), "whole entries");
        let mut attr =
            ElementAttr { flags, ..element(self.fd.as_fd(), key.as_ptr() as u64, value.as_ptr() as u64) };
        bpf(MAP_UPDATE_ELEM, &mut attr).map(drop)
    }

    /// A value of this map as one of `to`, whose values are as long or longer.
    pub fn widen(&self, value: &[u8], to: &RawMap) -> Vec<u8> {
        let mut wide = vec![0; to.stride() * to.copies];
        for (from, into) in value.chunks(self.stride()).zip(wide.chunks_mut(to.stride())) {
            into[..self.value_size].copy_from_slice(&from[..self.value_size]);
        }
        wide
    }
}

/// The key after `key`, or the first.
pub fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, size: usize) -> io::Result<Option<Vec<u8>>> {
    let mut next = vec![0; size];
    let mut attr = element(map, key.map_or(0, |key| key.as_ptr() as u64), next.as_mut_ptr() as u64);
    let found = absent_is_none(bpf(MAP_GET_NEXT_KEY, &mut attr))?;
    Ok(found.map(|_| next))
}
