//! The calls of bpf(2) that aya does not offer: batches, link updates, pins of either. Thin and unsafe;
//! everything above it is safe.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub mod diag;
mod load;
pub mod raw;

pub use load::*;

const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const MAP_DELETE_ELEM: i32 = 3;
const MAP_GET_NEXT_KEY: i32 = 4;
const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const MAP_LOOKUP_AND_DELETE_ELEM: i32 = 21;
const MAP_LOOKUP_BATCH: i32 = 24;
const MAP_UPDATE_BATCH: i32 = 26;
const MAP_DELETE_BATCH: i32 = 27;
const LINK_CREATE: i32 = 28;
const LINK_UPDATE: i32 = 29;

/// A value that is only its bytes: no padding, no invalid patterns, no pointers.
///
/// # Safety
/// Every bit pattern of the type's size must be a valid value, and all of its bytes initialized.
pub unsafe trait Plain: Copy + Default {}
// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for u64 {}

#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value_or_next_key: u64,
    flags: u64,
}

/// `key` and `value` are addresses of what is read or written.
fn element(map: BorrowedFd<'_>, key: u64, value: u64) -> ElementAttr {
    ElementAttr { map_fd: raw(map), pad: 0, key, value_or_next_key: value, flags: 0 }
}

#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ObjectAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreateAttr {
    prog_fd: u32,
    /// Interface index or file descriptor of a cgroup.
    target: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 4],
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// The head of `struct bpf_link_info`; for our link types the union begins with what they hang on.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    union: [u32; 32],
}

impl LinkInfo {
    /// The cgroup that a cgroup link is attached to; 0 if it is gone.
    pub fn cgroup_id(&self) -> u64 {
        u64::from(self.union[0]) | u64::from(self.union[1]) << 32
    }

    /// The interface that a tcx link is attached to; 0 if it is gone.
    pub fn ifindex(&self) -> u32 {
        self.union[0]
    }
}

fn bpf<T>(command: i32, attr: &mut T) -> io::Result<i32> {
    // SAFETY: attr is a live, initialized structure laid out as the command expects, and the pointers in
    // it come from references that outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

pub fn lookup<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::default();
    let mut attr = element(map, address(key), std::ptr::from_mut(&mut value) as u64);
    absent_is_none(bpf(MAP_LOOKUP_ELEM, &mut attr).map(|_| value))
}

/// Reads a per-CPU value, of a multiple of eight bytes: one per possible CPU.
pub fn lookup_per_cpu<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, values: &mut [V]) -> io::Result<()> {
    const { assert!(size_of::<V>().is_multiple_of(8)) };
    let mut attr = element(map, address(key), values.as_mut_ptr() as u64);
    bpf(MAP_LOOKUP_ELEM, &mut attr).map(drop)
}

/// Writes a per-CPU value, one per possible CPU.
pub fn update_per_cpu<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, values: &[V]) -> io::Result<()> {
    const { assert!(size_of::<V>().is_multiple_of(8)) };
    let mut attr = element(map, address(key), values.as_ptr() as u64);
    bpf(MAP_UPDATE_ELEM, &mut attr).map(drop)
}

pub fn update<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut attr = element(map, address(key), address(value));
    bpf(MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Deletes an entry and returns what it was, in one step.
pub fn take<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::default();
    let mut attr = element(map, address(key), std::ptr::from_mut(&mut value) as u64);
    absent_is_none(bpf(MAP_LOOKUP_AND_DELETE_ELEM, &mut attr).map(|_| value))
}

/// Writes an entry unless there is one; true if it was written.
pub fn insert<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<bool> {
    let mut attr = ElementAttr { flags: raw::NO_EXIST, ..element(map, address(key), address(value)) };
    match bpf(MAP_UPDATE_ELEM, &mut attr) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        done => done.map(|_| true),
    }
}

/// False if there was no such key.
pub fn delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let mut attr = element(map, address(key), 0);
    Ok(absent_is_none(bpf(MAP_DELETE_ELEM, &mut attr))?.is_some())
}

pub fn next_key<K: Plain>(map: BorrowedFd<'_>, key: Option<&K>) -> io::Result<Option<K>> {
    let mut next = K::default();
    let mut attr = element(map, key.map_or(0, address), std::ptr::from_mut(&mut next) as u64);
    absent_is_none(bpf(MAP_GET_NEXT_KEY, &mut attr).map(|_| next))
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// On failure also says how many entries were written before.
pub fn update_batch<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<(), (usize, io::Error)> {
    assert_eq!(keys.len(), values.len(), "a value for each key");
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: raw(map),
        ..BatchAttr::default()
    };
    bpf(MAP_UPDATE_BATCH, &mut attr).map(drop).map_err(|error| (attr.count as usize, error))
}

/// On failure also says how many entries were deleted before.
pub fn delete_batch<K: Plain>(map: BorrowedFd<'_>, keys: &[K]) -> Result<(), (usize, io::Error)> {
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: raw(map),
        ..BatchAttr::default()
    };
    bpf(MAP_DELETE_BATCH, &mut attr).map(drop).map_err(|error| (attr.count as usize, error))
}

/// Reads the next entries of a hash map into the buffers; `cursor` is `None` at first and at the end.
/// Returns how many were read.
pub fn lookup_batch<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    cursor: &mut Option<u32>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<usize> {
    assert_eq!(keys.len(), values.len(), "a value for each key");
    let mut next = 0u32;
    let mut attr = BatchAttr {
        in_batch: cursor.as_ref().map_or(0, address),
        out_batch: std::ptr::from_mut(&mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: keys.len() as u32,
        map_fd: raw(map),
        ..BatchAttr::default()
    };
    let result = bpf(MAP_LOOKUP_BATCH, &mut attr);
    match result {
        Ok(_) => *cursor = Some(next),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => *cursor = None,
        Err(error) => return Err(error),
    }
    Ok(attr.count as usize)
}

fn path_of(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_of(path)?;
    let mut attr =
        ObjectAttr { pathname: path.as_ptr() as u64, bpf_fd: raw(object), ..ObjectAttr::default() };
    bpf(OBJ_PIN, &mut attr).map(drop)
}

pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = path_of(path)?;
    let mut attr = ObjectAttr { pathname: path.as_ptr() as u64, ..ObjectAttr::default() };
    bpf(OBJ_GET, &mut attr).map(owned)
}

pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo { kind: 0, id: 0, prog_id: 0, pad: 0, union: [0; 32] };
    let mut attr = InfoAttr {
        bpf_fd: raw(link),
        info_len: size_of::<LinkInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr).map(|_| info)
}

/// `target` is an interface index or a cgroup's descriptor, as the attach type wants.
pub fn create_link(program: BorrowedFd<'_>, target: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr { prog_fd: raw(program), target, attach_type, ..LinkCreateAttr::default() };
    bpf(LINK_CREATE, &mut attr).map(owned)
}

/// Replaces the program of a link at once: no packet sees neither.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr =
        LinkUpdateAttr { link_fd: raw(link), new_prog_fd: raw(program), ..LinkUpdateAttr::default() };
    bpf(LINK_UPDATE, &mut attr).map(drop)
}
