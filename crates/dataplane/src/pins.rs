//! The BPF file system that keeps maps and links while no agent runs.
//!
//! ```text
//! DIR/maps-vN/NAME     maps of ABI version N
//! DIR/links/HOOK-…     links: removing one detaches its program
//! ```

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::{abi, sys};

const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Pins { action, path, source }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    // SAFETY: a zeroed statfs is a valid out parameter, and the path is a C string.
    let mut buffer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    match unsafe { libc::statfs(path.as_ptr(), &mut buffer) } {
        0 => Ok(buffer.f_type as i64 == BPF_FS_MAGIC),
        _ => Err(io::Error::last_os_error()),
    }
}

fn mount(path: &Path) -> io::Result<()> {
    let target = c_path(path)?;
    // SAFETY: all arguments are C strings that outlive the call.
    let result = unsafe {
        libc::mount(c"bpf".as_ptr(), target.as_ptr(), c"bpf".as_ptr(), 0, c"mode=0700".as_ptr().cast())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The directories of one data plane.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Mounts a BPF file system at the directory unless it is on one, and makes the directories.
    pub fn prepare(root: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(root).map_err(failed("create", root))?;
        if !is_bpffs(root).map_err(failed("examine", root))? {
            mount(root).map_err(failed("mount a BPF file system at", root))?;
        }
        let pins = Self { root: root.to_owned() };
        for directory in [pins.maps(), pins.links()] {
            std::fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
        }
        Ok(pins)
    }

    /// Those that may be there; nothing is made.
    pub fn existing(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub fn maps(&self) -> PathBuf {
        self.root.join(format!("maps-v{}", abi::ABI_VERSION))
    }

    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The names of pinned links, sorted.
    pub fn link_names(&self) -> Result<Vec<String>, Error> {
        let links = self.links();
        let entries = std::fs::read_dir(&links).map_err(failed("list", &links))?;
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// The maps of the newest earlier ABI version, if there are any and none of ours.
    pub fn earlier_maps(&self) -> Option<PathBuf> {
        if self.maps().join("frontends").exists() {
            return None;
        }
        let mut versions =
            (1..abi::ABI_VERSION).rev().map(|version| self.root.join(format!("maps-v{version}")));
        versions.find(|maps| maps.join("frontends").exists())
    }

    /// An empty place for maps that are to be filled before they become ours.
    pub fn stage(&self) -> Result<PathBuf, Error> {
        let stage = self.root.join(format!("maps-v{}-new", abi::ABI_VERSION));
        if stage.exists() {
            std::fs::remove_dir_all(&stage).map_err(failed("remove", &stage))?;
        }
        std::fs::create_dir(&stage).map_err(failed("create", &stage))?;
        Ok(stage)
    }

    /// Makes the maps of a stage ours, all at once.
    pub fn finish(&self, stage: &Path) -> Result<(), Error> {
        let maps = self.maps();
        std::fs::remove_dir(&maps).map_err(failed("remove", &maps))?;
        std::fs::rename(stage, &maps).map_err(failed("rename", stage))
    }

    /// The names of our maps.
    pub fn map_names(&self) -> Result<Vec<String>, Error> {
        let maps = self.maps();
        let entries = std::fs::read_dir(&maps).map_err(failed("list", &maps))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Pins one of our maps in a stage too.
    pub fn share(&self, name: &str, stage: &Path) -> Result<(), Error> {
        let from = self.maps().join(name);
        let map = sys::open_pinned(&from).map_err(failed("open", &from))?;
        let to = stage.join(name);
        sys::pin(map.as_fd(), &to).map_err(failed("pin a map at", &to))
    }

    /// Puts the maps of a stage in the place of ours, all at once.
    pub fn swap(&self, stage: &Path) -> Result<(), Error> {
        let maps = self.maps();
        exchange(stage, &maps).map_err(failed("replace", &maps))?;
        remove_tree(stage);
        Ok(())
    }

    /// Removes maps of other ABI versions; nothing uses them once every link has this version's programs.
    pub fn remove_old_maps(&self) {
        let current = self.maps();
        let Ok(entries) = std::fs::read_dir(&self.root) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with("maps-v") && path != current {
                remove_tree(&path);
            }
        }
    }
}

/// Gives each of two paths what is at the other.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let (one, other) = (c_path(one)?, c_path(other)?);
    // SAFETY: both are C strings.
    let result = unsafe {
        libc::renameat2(libc::AT_FDCWD, one.as_ptr(), libc::AT_FDCWD, other.as_ptr(), libc::RENAME_EXCHANGE)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn remove_tree(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove old pins");
    }
}

/// Detaches every program, removes every map, and unmounts the file system if `bpffs` is a mount point.
/// Nothing to remove is no error.
///
/// # Errors
/// When something is left.
pub fn remove(bpffs: &Path) -> Result<(), Error> {
    if !bpffs.exists() {
        return Ok(());
    }
    if is_bpffs(bpffs).map_err(failed("examine", bpffs))? {
        let entries = std::fs::read_dir(bpffs).map_err(failed("list", bpffs))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let ours = path
                .file_name()
                .is_some_and(|name| name == "links" || name.to_string_lossy().starts_with("maps-v"));
            if ours {
                std::fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        let target = c_path(bpffs).map_err(failed("unmount", bpffs))?;
        // SAFETY: the path is a C string. Failure means that it is a directory within someone's mount.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) };
    }
    match std::fs::remove_dir(bpffs) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", bpffs)(error)),
        _ => Ok(()),
    }
}
