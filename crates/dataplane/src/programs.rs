//! The BPF programs: where each belongs, and loading them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::EbpfLoader;
use aya::VerifierLogLevel;
use aya::programs::Program as AyaProgram;

use crate::Sizes;
use crate::error::Error;

/// Numbers of `enum bpf_attach_type`.
pub(crate) const TCX_INGRESS: u32 = 46;
pub(crate) const INET4_CONNECT: u32 = 10;

/// The programs on the pods' cgroup, and their attach types.
pub(crate) const SOCKET_PROGRAMS: [(&str, u32); 8] = [
    ("connect4", INET4_CONNECT),
    ("connect6", 11),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("getpeername4", 29),
    ("getpeername6", 30),
];

/// A program that handles packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketProgram {
    /// On ingress of the node's interface to the LAN.
    Uplink,
    /// On ingress of the node's side of a pod's veth: what the pod sends.
    Pod,
}

impl PacketProgram {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            PacketProgram::Uplink => "uplink",
            PacketProgram::Pod => "pod",
        }
    }
}

static SOCKET_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/socket.bpf.o"));
static PACKET_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/packet.bpf.o"));

/// The loaded programs by name.
#[derive(Debug)]
pub(crate) struct Programs {
    loaded: BTreeMap<&'static str, OwnedFd>,
}

impl Programs {
    /// Loads every program; their maps are those pinned in the directory, or new ones pinned there.
    pub fn load(maps: &Path, sizes: &Sizes) -> Result<Self, Error> {
        let mut loaded = BTreeMap::new();
        let packet = [PacketProgram::Uplink.name(), PacketProgram::Pod.name()];
        load_object("packet", PACKET_OBJECT, &packet, maps, sizes, &mut loaded)?;
        let socket = SOCKET_PROGRAMS.map(|(name, _)| name);
        load_object("socket", SOCKET_OBJECT, &socket, maps, sizes, &mut loaded)?;
        Ok(Self { loaded })
    }

    pub fn fd(&self, name: &str) -> BorrowedFd<'_> {
        self.loaded.get(name).expect("load() loads every program or fails").as_fd()
    }
}

fn load_object(
    object: &'static str,
    bytes: &[u8],
    names: &[&'static str],
    maps: &Path,
    sizes: &Sizes,
    loaded: &mut BTreeMap<&'static str, OwnedFd>,
) -> Result<(), Error> {
    let fail = |program: &'static str, error: &dyn std::error::Error| Error::Load {
        program,
        cause: whole_message(error),
    };
    let mut loader = EbpfLoader::new();
    loader.btf(None).default_map_pin_directory(maps).verifier_log_level(VerifierLogLevel::DISABLE);
    for (map, entries) in sizes.by_map() {
        loader.map_max_entries(map, entries);
    }
    let mut ebpf = loader.load(bytes).map_err(|error| fail(object, &error))?;
    for name in names {
        let program = ebpf.program_mut(name).expect("the object holds the program, by construction");
        let result = match program {
            AyaProgram::SchedClassifier(program) => program.load(),
            AyaProgram::CgroupSockAddr(program) => program.load(),
            _ => continue,
        };
        result.map_err(|error| fail(name, &error))?;
        let fd = program.fd().map_err(|error| fail(name, &error))?.as_fd().try_clone_to_owned();
        loaded.insert(name, fd.map_err(|error| fail(name, &error))?);
    }
    Ok(())
}

fn whole_message(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let text = inner.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = inner.source();
    }
    message
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
    let (action, length) = crate::sys::test_run(program, frame, &mut output, ifindex)?;
    output.truncate(length);
    Ok(Verdict { action, frame: output })
}
