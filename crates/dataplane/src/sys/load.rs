//! Making maps and loading programs.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{InfoAttr, MAP_UPDATE_ELEM, OBJ_GET_INFO_BY_FD, address, bpf, element, owned, raw};

const MAP_CREATE: i32 = 0;
const PROG_LOAD: i32 = 5;
const PROG_TEST_RUN: i32 = 10;
const BTF_LOAD: i32 = 18;
const MAP_FREEZE: i32 = 22;

/// How often loading a program is tried when signals interrupt it.
const LOAD_TRIES: usize = 20;

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

/// What a test run of a program gave.
#[derive(Clone, Copy, Debug)]
pub struct TestRun {
    pub verdict: i32,
    /// Of the frame that it left in the output.
    pub length: usize,
    /// Of one run, on average.
    pub nanoseconds: u32,
}

/// Runs a packet program over a frame as if it arrived at the interface (0: loopback), `repeat` times over what the
/// time before left.
pub fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    output: &mut [u8],
    ifindex: u32,
    repeat: u32,
) -> io::Result<TestRun> {
    // struct __sk_buff: ifindex is the tenth of its 32-bit fields.
    let mut context = [0u32; 48];
    context[10] = ifindex;
    let mut attr = TestRunAttr {
        prog_fd: raw(program),
        data_size_in: frame.len() as u32,
        data_size_out: output.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: output.as_mut_ptr() as u64,
        repeat,
        ctx_size_in: if ifindex == 0 { 0 } else { size_of_val(&context) as u32 },
        ctx_in: if ifindex == 0 { 0 } else { address(&context) },
        ..TestRunAttr::default()
    };
    bpf(PROG_TEST_RUN, &mut attr)?;
    Ok(TestRun {
        verdict: attr.retval as i32,
        length: attr.data_size_out as usize,
        nanoseconds: attr.duration,
    })
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
    let mut attr = element(map, address(&key), data.as_ptr() as u64);
    bpf(MAP_UPDATE_ELEM, &mut attr)?;
    let mut attr = element(map, 0, 0);
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
    // The verifier gives up when a signal comes, any signal.
    for _ in 0..LOAD_TRIES {
        match bpf(PROG_LOAD, &mut attr) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            done => return done.map(owned),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

/// How many instructions the verifier looked at, over all paths.
pub fn verified_instructions(program: BorrowedFd<'_>) -> io::Result<u32> {
    // struct bpf_prog_info, of which this is the 32-bit field at byte 216.
    let mut info = [0u64; 30];
    let mut attr = InfoAttr {
        bpf_fd: raw(program),
        info_len: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info[27] as u32)
}
