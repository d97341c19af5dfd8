//! UDP sockets that are connected to a backend which their Service does not have any more. Nothing asks a
//! program before such a socket sends, so it would talk to nobody for ever: it is ended, and its owner's
//! next send fails and finds a new backend with the next connect.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use daymark_model::Protocol;
use daymark_plan::tables::{FrontendKey, Tables};

use crate::abi;
use crate::error::MapError;
use crate::map::Map;
use crate::sys::diag::Diag;

/// The connected sockets that programs told of.
#[derive(Debug)]
pub(crate) struct Connected {
    map: Map<u64, abi::Dialled>,
}

impl Connected {
    pub fn open(maps: &Path) -> Result<Self, MapError> {
        Ok(Self { map: Map::open(maps, "udp_connected")? })
    }

    /// The sockets, by cookie, whose backend is none of their frontend's Service in `tables`.
    pub fn stuck(&self, tables: &Tables) -> Result<BTreeMap<u64, SocketAddr>, MapError> {
        let mut stuck = BTreeMap::new();
        self.map.for_each(|cookie, dialled| {
            let frontend = FrontendKey {
                ip: abi::ip_from_words(dialled.frontend),
                port: u16::from_be(dialled.frontend_port),
                protocol: Protocol::Udp,
            };
            let backend =
                SocketAddr::new(abi::ip_from_words(dialled.backend), u16::from_be(dialled.backend_port));
            if !serves(tables, &frontend, backend) {
                stuck.insert(cookie, backend);
            }
        })?;
        Ok(stuck)
    }

    pub fn forget(&self, sockets: &BTreeMap<u64, SocketAddr>) -> Result<(), MapError> {
        self.map.delete_all(&sockets.keys().copied().collect::<Vec<_>>())
    }
}

fn serves(tables: &Tables, frontend: &FrontendKey, backend: SocketAddr) -> bool {
    let entry = tables.frontends.get(frontend).and_then(|frontend| tables.services.get(&frontend.service));
    entry.is_some_and(|entry| {
        let mut members = entry.slots.iter().chain(&entry.draining);
        members.any(|slot| SocketAddr::new(slot.ip, slot.port) == backend)
    })
}

/// Ends those of `sockets` that processes below `cgroup` hold, in whatever network namespaces they are, and
/// says how many. Namespaces that vanish meanwhile are passed over.
pub(crate) fn end(cgroup: &Path, sockets: &BTreeMap<u64, SocketAddr>) -> io::Result<usize> {
    let namespaces = namespaces_below(cgroup);
    // A thread of its own, since it wanders through the namespaces.
    let work = || namespaces.iter().map(|namespace| end_in(namespace, sockets)).sum();
    std::thread::scope(|scope| scope.spawn(work).join())
        .map_err(|_| io::Error::other("the thread that ends sockets panicked"))
        .and_then(|ended: io::Result<usize>| ended)
}

fn end_in(namespace: &File, sockets: &BTreeMap<u64, SocketAddr>) -> io::Result<usize> {
    // SAFETY: the descriptor is open, and the thread is ours alone.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let diag = Diag::open()?;
    let mut ended = 0;
    for socket in diag.connected_udp()? {
        if sockets.get(&socket.cookie) != Some(&socket.peer) {
            continue;
        }
        match diag.destroy(&socket) {
            Ok(()) => ended += 1,
            // It closed by itself.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ended)
}

/// The network namespaces of the processes of a cgroup and those below it, each once.
fn namespaces_below(cgroup: &Path) -> Vec<File> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![cgroup.to_owned()];
    while let Some(folder) = folders.pop() {
        let members = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines() {
            let Ok(namespace) = File::open(format!("/proc/{pid}/ns/net")) else { continue };
            if namespace.metadata().is_ok_and(|metadata| seen.insert(metadata.ino())) {
                found.push(namespace);
            }
        }
        let below = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(below.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    found
}
