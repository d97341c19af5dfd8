//! The calls of bpf(2) that aya does not offer: batches, link updates, pins of either. Thin and unsafe;
//! everything above it is safe.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_CREATE: i32 = 0;
const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const MAP_DELETE_ELEM: i32 = 3;
const MAP_GET_NEXT_KEY: i32 = 4;
const PROG_LOAD: i32 = 5;
const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const PROG_TEST_RUN: i32 = 10;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const BTF_LOAD: i32 = 18;
const MAP_FREEZE: i32 = 22;
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
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value_or_next_key: u64,
    flags: u64,
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

#[repr(C)]
#[derive(Default)]
struct ProgLoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    pad: u32,
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
    let mut attr = ElementAttr {
        map_fd: raw(map),
        key: address(key),
        value_or_next_key: std::ptr::from_mut(&mut value) as u64,
        ..ElementAttr::default()
    };
    absent_is_none(bpf(MAP_LOOKUP_ELEM, &mut attr).map(|_| value))
}

/// Reads a per-CPU value: one per possible CPU.
pub fn lookup_per_cpu<K: Plain>(map: BorrowedFd<'_>, key: &K, values: &mut [u64]) -> io::Result<()> {
    let mut attr = ElementAttr {
        map_fd: raw(map),
        key: address(key),
        value_or_next_key: values.as_mut_ptr() as u64,
        ..ElementAttr::default()
    };
    bpf(MAP_LOOKUP_ELEM, &mut attr).map(drop)
}

pub fn update<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut attr = ElementAttr {
        map_fd: raw(map),
        key: address(key),
        value_or_next_key: address(value),
        ..ElementAttr::default()
    };
    bpf(MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// False if there was no such key.
pub fn delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let mut attr = ElementAttr { map_fd: raw(map), key: address(key), ..ElementAttr::default() };
    Ok(absent_is_none(bpf(MAP_DELETE_ELEM, &mut attr))?.is_some())
}

pub fn next_key<K: Plain>(map: BorrowedFd<'_>, key: Option<&K>) -> io::Result<Option<K>> {
    let mut next = K::default();
    let mut attr = ElementAttr {
        map_fd: raw(map),
        key: key.map_or(0, address),
        value_or_next_key: std::ptr::from_mut(&mut next) as u64,
        ..ElementAttr::default()
    };
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

/// Loads raw instructions, to find out whether the kernel can.
pub fn load_program(
    program_type: u32,
    expected_attach_type: u32,
    instructions: &[u64],
) -> io::Result<OwnedFd> {
    let mut attr = ProgLoadAttr {
        prog_type: program_type,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        expected_attach_type,
        ..ProgLoadAttr::default()
    };
    bpf(PROG_LOAD, &mut attr).map(owned)
}

#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

/// Runs a packet program over a frame as if it arrived at the interface (0: loopback). Returns its
/// verdict and the length of the frame that it left in `output`.
pub fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    output: &mut [u8],
    ifindex: u32,
) -> io::Result<(i32, usize)> {
    // struct __sk_buff: ifindex is the tenth of its 32-bit fields.
    let mut context = [0u32; 48];
    context[10] = ifindex;
    let mut attr = TestRunAttr {
        prog_fd: raw(program),
        data_size_in: frame.len() as u32,
        data_size_out: output.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: output.as_mut_ptr() as u64,
        repeat: 1,
        ctx_size_in: if ifindex == 0 { 0 } else { size_of_val(&context) as u32 },
        ctx_in: if ifindex == 0 { 0 } else { address(&context) },
        ..TestRunAttr::default()
    };
    bpf(PROG_TEST_RUN, &mut attr)?;
    Ok((attr.retval as i32, attr.data_size_out as usize))
}

#[repr(C)]
#[derive(Default)]
struct MapCreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
    map_ifindex: u32,
    btf_fd: u32,
    btf_key_type_id: u32,
    btf_value_type_id: u32,
}

#[repr(C)]
#[derive(Default)]
struct BtfLoadAttr {
    btf: u64,
    log_buf: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
    pad: u32,
}

/// What a new map is like.
pub struct MapShape<'a> {
    pub name: &'a str,
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    /// Type information, and the types of key and value in it.
    pub type_ids: Option<(BorrowedFd<'a>, u32, u32)>,
}

/// The kernel takes letters, digits, `_` and `.`, up to 15 of them.
fn object_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes[..15].iter_mut().zip(name.bytes()) {
        *to = if from.is_ascii_alphanumeric() { from } else { b'_' };
    }
    bytes
}

pub fn create_map(shape: &MapShape<'_>) -> io::Result<OwnedFd> {
    let (btf_fd, btf_key_type_id, btf_value_type_id) =
        shape.type_ids.map_or((0, 0, 0), |(fd, key, value)| (raw(fd), key, value));
    let mut attr = MapCreateAttr {
        map_type: shape.map_type,
        key_size: shape.key_size,
        value_size: shape.value_size,
        max_entries: shape.max_entries,
        map_flags: shape.flags,
        map_name: object_name(shape.name),
        btf_fd,
        btf_key_type_id,
        btf_value_type_id,
        ..MapCreateAttr::default()
    };
    bpf(MAP_CREATE, &mut attr).map(owned)
}

/// Writes the only value of a map of constants, and freezes it, so that the verifier may rely on it.
pub fn fill_constants(map: BorrowedFd<'_>, data: &[u8]) -> io::Result<()> {
    let key = 0u32;
    let mut attr = ElementAttr {
        map_fd: raw(map),
        key: address(&key),
        value_or_next_key: data.as_ptr() as u64,
        ..ElementAttr::default()
    };
    bpf(MAP_UPDATE_ELEM, &mut attr)?;
    let mut attr = ElementAttr { map_fd: raw(map), ..ElementAttr::default() };
    bpf(MAP_FREEZE, &mut attr).map(drop)
}

/// Loads type information.
pub fn load_btf(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut attr =
        BtfLoadAttr { btf: bytes.as_ptr() as u64, btf_size: bytes.len() as u32, ..BtfLoadAttr::default() };
    bpf(BTF_LOAD, &mut attr).map(owned)
}

/// What a new program is like. `I` is an instruction of eight bytes.
pub struct ProgramShape<'a, I> {
    pub name: &'a str,
    pub program_type: u32,
    pub attach_type: u32,
    pub instructions: &'a [I],
    pub types: Option<BorrowedFd<'a>>,
    /// Size of a record, number of records, and the records that say which function has which type.
    pub functions: (usize, usize, &'a [u8]),
}

/// With a buffer, the verifier explains itself there.
pub fn load_typed_program<I>(shape: &ProgramShape<'_, I>, log: &mut [u8]) -> io::Result<OwnedFd> {
    const { assert!(size_of::<I>() == 8) };
    let (func_info_rec_size, func_info_cnt, func_info) = shape.functions;
    let typed = shape.types.is_some();
    let mut attr = ProgLoadAttr {
        prog_type: shape.program_type,
        insn_cnt: shape.instructions.len() as u32,
        insns: shape.instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        prog_name: object_name(shape.name),
        expected_attach_type: shape.attach_type,
        prog_btf_fd: shape.types.map_or(0, raw),
        func_info_rec_size: if typed { func_info_rec_size as u32 } else { 0 },
        func_info: if typed { func_info.as_ptr() as u64 } else { 0 },
        func_info_cnt: if typed { func_info_cnt as u32 } else { 0 },
        ..ProgLoadAttr::default()
    };
    bpf(PROG_LOAD, &mut attr).map(owned)
}
