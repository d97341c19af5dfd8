//! Attaching programs, such that they stay attached without us, and replacing them without a gap.
//!
//! A pinned link outlives its cgroup or interface as a zombie, and updating a zombie succeeds without
//! effect. So before a link is used again, the kernel is asked what it hangs on.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::pins::Pins;
use crate::programs::{PacketProgram, Programs, SOCKET_PROGRAMS};
use crate::sys;

/// What a pinned link's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LinkName {
    /// `cgroup-PROGRAM-HASH`, the hash being of the cgroup's path.
    Cgroup { program: &'static str },
    /// `uplink-IFINDEX`, `pod-IFINDEX` or `out-IFINDEX`.
    Interface { program: PacketProgram, ifindex: u32 },
}

impl LinkName {
    fn parse(name: &str) -> Option<Self> {
        if let Some(rest) = name.strip_prefix("cgroup-") {
            let (program, _) = rest.split_once('-')?;
            let (program, _) = SOCKET_PROGRAMS.into_iter().find(|(known, _)| *known == program)?;
            return Some(LinkName::Cgroup { program });
        }
        let (program, ifindex) = name.split_once('-')?;
        let program = PacketProgram::ALL.into_iter().find(|p| p.name() == program)?;
        Some(LinkName::Interface { program, ifindex: ifindex.parse().ok()? })
    }
}

fn interface_link(program: PacketProgram, ifindex: u32) -> String {
    format!("{}-{ifindex}", program.name())
}

/// FNV-1a: names need to be stable and short, nothing more.
fn hash(text: &[u8]) -> u64 {
    text.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// A pinned link, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    pub program: &'static str,
    /// `cgroup 1234` or `interface 7`; what it was attached to if it is dead.
    pub target: String,
    /// Whether what it is attached to still exists.
    pub alive: bool,
}

/// The pinned links.
#[derive(Debug)]
pub(crate) struct Links {
    directory: PathBuf,
}

impl Links {
    /// Takes over the links of an earlier agent: those whose target lives get the new programs, others are
    /// removed. Returns the interfaces whose pod is gone.
    pub fn adopt(pins: &Pins, programs: &Programs, replace: bool) -> Result<(Self, Vec<u32>), Error> {
        let links = Self { directory: pins.links() };
        let mut gone = Vec::new();
        for name in pins.link_names()? {
            let Some(parsed) = LinkName::parse(&name) else {
                links.unpin(&name)?;
                continue;
            };
            let alive = links.open(&name)?.and_then(|link| {
                let info = sys::link_info(link.as_fd()).ok()?;
                let (program, alive) = match &parsed {
                    LinkName::Cgroup { program } => (*program, info.cgroup_id() != 0),
                    LinkName::Interface { program, ifindex } => (program.name(), info.ifindex() == *ifindex),
                };
                alive.then_some((link, program))
            });
            match alive {
                Some((link, program)) if replace => {
                    sys::update_link(link.as_fd(), programs.fd(program)).map_err(|source| Error::Attach {
                        program,
                        target: name.clone(),
                        source,
                    })?;
                }
                Some(_) => {}
                None => {
                    links.unpin(&name)?;
                    if let LinkName::Interface { program: PacketProgram::Pod, ifindex } = parsed {
                        gone.push(ifindex);
                    }
                }
            }
        }
        Ok((links, gone))
    }

    /// What is pinned, and whether it does anything.
    pub fn view(pins: &Pins) -> Result<Vec<LinkView>, Error> {
        let links = Self { directory: pins.links() };
        let mut views = Vec::new();
        for name in pins.link_names()? {
            let Some(parsed) = LinkName::parse(&name) else { continue };
            let info = links.open(&name)?.and_then(|link| sys::link_info(link.as_fd()).ok());
            views.push(match parsed {
                LinkName::Cgroup { program } => {
                    let id = info.map_or(0, |info| info.cgroup_id());
                    LinkView { program, target: format!("cgroup {id}"), alive: id != 0 }
                }
                LinkName::Interface { program, ifindex } => LinkView {
                    program: program.name(),
                    target: format!("interface {ifindex}"),
                    alive: info.is_some_and(|info| info.ifindex() == ifindex),
                },
            });
        }
        Ok(views)
    }

    fn open(&self, name: &str) -> Result<Option<OwnedFd>, Error> {
        let path = self.directory.join(name);
        match sys::open_pinned(&path) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(source) => Err(Error::Pins { action: "open the link", path, source }),
        }
    }

    fn unpin(&self, name: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::Pins { action: "remove the link", path, source }),
            Ok(()) => Ok(()),
        }
    }

    /// Updates the link of that name if it hangs on the right target, else makes it anew.
    fn put(
        &self,
        name: &str,
        program: BorrowedFd<'_>,
        is_right: impl Fn(&sys::LinkInfo) -> bool,
        target: u32,
        attach_type: u32,
    ) -> Result<(), LinkFailure> {
        if let Some(link) = self.open(name)? {
            if sys::link_info(link.as_fd()).is_ok_and(|info| is_right(&info)) {
                return Ok(sys::update_link(link.as_fd(), program)?);
            }
            self.unpin(name)?;
        }
        let link = sys::create_link(program, target, attach_type)?;
        Ok(sys::pin(link.as_fd(), &self.directory.join(name))?)
    }

    /// Puts the socket programs on a cgroup of the v2 hierarchy.
    pub fn attach_cgroup(&self, programs: &Programs, path: &Path) -> Result<(), Error> {
        let failed = |program: &'static str, source: io::Error| Error::Attach {
            program,
            target: format!("cgroup {}", path.display()),
            source,
        };
        let cgroup = File::open(path).map_err(|error| failed("connect4", error))?;
        let id = cgroup.metadata().map_err(|error| failed("connect4", error))?.ino();
        let suffix = hash(path.as_os_str().as_encoded_bytes());
        for (program, attach_type) in SOCKET_PROGRAMS {
            let name = format!("cgroup-{program}-{suffix:016x}");
            self.put(
                &name,
                programs.fd(program),
                |info| info.cgroup_id() == id,
                cgroup.as_raw_fd() as u32,
                attach_type,
            )
            .map_err(|failure| failure.attaching(|source| failed(program, source)))?;
        }
        Ok(())
    }

    /// Puts a packet program where it belongs on an interface.
    pub fn attach_interface(
        &self,
        programs: &Programs,
        program: PacketProgram,
        ifindex: u32,
    ) -> Result<(), Error> {
        let name = interface_link(program, ifindex);
        let is_right = |info: &sys::LinkInfo| info.ifindex() == ifindex;
        self.put(&name, programs.fd(program.name()), is_right, ifindex, program.attach_type()).map_err(
            |failure| {
                failure.attaching(|source| Error::Attach {
                    program: program.name(),
                    target: format!("interface {ifindex}"),
                    source,
                })
            },
        )
    }

    /// Detaches the program; one that is not there is no error.
    pub fn detach_interface(&self, program: PacketProgram, ifindex: u32) -> Result<(), Error> {
        self.unpin(&interface_link(program, ifindex))
    }
}

/// Either a failure of the kernel to attach, or one of the pins, which says its name itself.
enum LinkFailure {
    Kernel(io::Error),
    Pins(Error),
}

impl LinkFailure {
    fn attaching(self, wrap: impl FnOnce(io::Error) -> Error) -> Error {
        match self {
            LinkFailure::Kernel(error) => wrap(error),
            LinkFailure::Pins(error) => error,
        }
    }
}

impl From<io::Error> for LinkFailure {
    fn from(error: io::Error) -> Self {
        LinkFailure::Kernel(error)
    }
}

impl From<Error> for LinkFailure {
    fn from(error: Error) -> Self {
        LinkFailure::Pins(error)
    }
}
