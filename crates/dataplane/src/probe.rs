//! Whether this kernel can do what we need, found out by trying.

use std::io;
use std::os::fd::AsFd;

use crate::programs::{CGROUP_SOCK_ADDR, INET4_CONNECT, SCHED_CLS, TCX_INGRESS};
use crate::sys;

/// A feature that the kernel lacks or does not let us use.
#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel ({kernel}) cannot {feature}: {source}; Daymark needs Linux 6.6 or newer with {option}, run as root"
)]
pub struct MissingFeature {
    /// What it cannot do.
    pub feature: &'static str,
    /// The kernel option that brings it.
    pub option: &'static str,
    /// The running kernel's release.
    pub kernel: String,
    pub source: io::Error,
}

/// One eBPF instruction without operands: opcode, destination register, immediate value.
const fn instruction(opcode: u8, register: u8, immediate: i32) -> u64 {
    opcode as u64 | (register as u64) << 8 | (immediate as u32 as u64) << 32
}

const MOVE: u8 = 0xb7;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const SET_RETVAL: i32 = 187;

/// `return -1`: look at the next program, then at the network stack.
const PASS_PACKET: [u64; 2] = [instruction(MOVE, 0, -1), instruction(EXIT, 0, 0)];

/// `bpf_set_retval(0); return 1`.
const ALLOW_CONNECT: [u64; 4] = [
    instruction(MOVE, 1, 0),
    instruction(CALL, 0, SET_RETVAL),
    instruction(MOVE, 0, 1),
    instruction(EXIT, 0, 0),
];

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Checks the features that [`crate::DataPlane::open`] and the `attach_…` calls need. Attaches a program
/// that does nothing to the loopback interface for a moment.
///
/// # Errors
/// Names the first feature that is missing.
pub fn probe() -> Result<(), MissingFeature> {
    let missing =
        |feature, option| move |source| MissingFeature { feature, option, kernel: kernel_release(), source };
    sys::load_program(CGROUP_SOCK_ADDR, INET4_CONNECT, &ALLOW_CONNECT)
        .map_err(missing("refuse connections in BPF socket programs", "CONFIG_CGROUP_BPF"))?;
    let program = sys::load_program(SCHED_CLS, 0, &PASS_PACKET)
        .map_err(missing("run BPF packet programs", "CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT"))?;
    // SAFETY: the name is a C string.
    let loopback = unsafe { libc::if_nametoindex(c"lo".as_ptr()) };
    sys::create_link(program.as_fd(), loopback, TCX_INGRESS)
        .map_err(missing("attach BPF programs to interfaces (tcx)", "CONFIG_NET_XGRESS"))?;
    Ok(())
}

/// Whether this kernel has sockets of SCTP. Without, packets of SCTP are still translated, for other machines.
pub fn speaks_sctp() -> bool {
    // SAFETY: no pointers.
    let fd =
        unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_SCTP) };
    // SAFETY: the descriptor is ours if there is one.
    fd >= 0 && unsafe { libc::close(fd) } == 0
}
