//! The BPF programs: where each belongs, and loading them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use crate::Sizes;
use crate::error::Error;
use crate::loader::{self, Aligned, Wanted};
use crate::{abi, socket_fields};

/// Numbers of `enum bpf_prog_type`.
pub(crate) const SCHED_CLS: u32 = 3;
const CGROUP_SOCK: u32 = 9;
pub(crate) const CGROUP_SOCK_ADDR: u32 = 18;
/// Numbers of `enum bpf_attach_type`.
pub(crate) const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
pub(crate) const INET4_CONNECT: u32 = 10;
const SOCK_RELEASE: u32 = 34;

/// The programs on the pods' cgroup, and their attach types.
pub(crate) const SOCKET_PROGRAMS: [(&str, u32); 9] = [
    ("connect4", INET4_CONNECT),
    ("connect6", 11),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("release", SOCK_RELEASE),
];

/// The programs that a node has wherever no pod is: those on the cgroup, and those on the uplink.
pub fn needed_programs() -> impl Iterator<Item = &'static str> {
    let socket = SOCKET_PROGRAMS.into_iter().map(|(name, _)| name);
    socket.chain([PacketProgram::Uplink, PacketProgram::Out].map(PacketProgram::name))
}

/// A program that handles packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketProgram {
    /// On ingress of the node's interface to the LAN.
    Uplink,
    /// On ingress of the node's side of a pod's veth: what the pod sends.
    Pod,
    /// On egress of both: what the node itself sends.
    Out,
}

impl PacketProgram {
    pub(crate) const ALL: [Self; 3] = [Self::Uplink, Self::Pod, Self::Out];

    pub(crate) const fn attach_type(self) -> u32 {
        match self {
            PacketProgram::Uplink | PacketProgram::Pod => TCX_INGRESS,
            PacketProgram::Out => TCX_EGRESS,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            PacketProgram::Uplink => "uplink",
            PacketProgram::Pod => "pod",
            PacketProgram::Out => "out",
        }
    }
}

/// Adds what flows counted to the statistics. It is attached nowhere, but run.
pub(crate) const SETTLE: &str = "settle";

static SOCKET_OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/socket.bpf.o")));
static PACKET_OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/packet.bpf.o")));

/// The loaded programs by name.
#[derive(Debug)]
pub(crate) struct Programs {
    loaded: BTreeMap<&'static str, OwnedFd>,
}

impl Programs {
    /// Loads every program; their maps are those pinned in the directory, or new ones pinned there.
    pub fn load(maps: &Path, sizes: &Sizes) -> Result<Self, Error> {
        let entries_of = |map: &str| sizes.entries(map);
        let names = PacketProgram::ALL.map(PacketProgram::name).into_iter().chain([SETTLE]);
        let packet: Vec<Wanted> =
            names.map(|name| Wanted { name, program_type: SCHED_CLS, attach_type: 0 }).collect();
        let socket = SOCKET_PROGRAMS.map(|(name, attach_type)| Wanted {
            name,
            program_type: if attach_type == SOCK_RELEASE { CGROUP_SOCK } else { CGROUP_SOCK_ADDR },
            attach_type,
        });
        let mut loaded = loader::load("packet", &PACKET_OBJECT.0, &packet, &[], maps, entries_of)?;
        let load_socket = |fields: &abi::SocketFields| {
            let fields = socket_fields::bytes(fields);
            loader::load("socket", &SOCKET_OBJECT.0, &socket, &[("socket_fields", &fields)], maps, entries_of)
        };
        let of_sockets = match load_socket(socket_fields::of_this_kernel()) {
            Ok(of_sockets) => of_sockets,
            // A kernel that is locked down lets no program read its memory.
            Err(why) => {
                let of_sockets = load_socket(&abi::SocketFields::default())?;
                tracing::warn!(%why, "bytes of connections that are translated at the socket are not counted");
                of_sockets
            }
        };
        loaded.extend(of_sockets);
        Ok(Self { loaded: loaded.into_iter().collect() })
    }

    pub fn fd(&self, name: &str) -> BorrowedFd<'_> {
        self.loaded.get(name).expect("load() loads every program or fails").as_fd()
    }
}

impl Programs {
    /// By program name, sorted.
    pub fn verifier_cost(&self) -> io::Result<Vec<(&'static str, u32)>> {
        self.loaded
            .iter()
            .map(|(name, fd)| Ok((*name, crate::sys::verified_instructions(fd.as_fd())?)))
            .collect()
    }
}

/// What a program did to one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// -1: to the network stack; 2: dropped; 7: sent on.
    pub action: i32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// Runs a program over a frame that arrives at an interface, without sending anything.
pub(crate) fn run(program: BorrowedFd<'_>, frame: &[u8], ifindex: u32) -> io::Result<Verdict> {
    let mut output = vec![0; frame.len() + 512];
    let done = crate::sys::test_run(program, frame, &mut output, ifindex, 1)?;
    output.truncate(done.length);
    Ok(Verdict { action: done.verdict, frame: output })
}

/// How long a program takes for a frame, on average over `repeat` runs, each over what the one before left.
pub(crate) fn time(program: BorrowedFd<'_>, frame: &[u8], ifindex: u32, repeat: u32) -> io::Result<Duration> {
    let mut output = vec![0; frame.len() + 512];
    let done = crate::sys::test_run(program, frame, &mut output, ifindex, repeat)?;
    Ok(Duration::from_nanos(done.nanoseconds.into()))
}
