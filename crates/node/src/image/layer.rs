//! Unpacks one layer's tar stream into a directory that overlayfs can use as a lower layer.
//!
//! A layer is hostile input: every path is resolved by the kernel inside the target directory
//! (`openat2` with `RESOLVE_IN_ROOT`), so that neither `..` nor a symlink made by an earlier entry
//! leads outside.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use tar::{Archive, Entry, EntryType};

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The stream is no proper layer.
    #[error("{0}")]
    Corrupt(String),
    /// The system refused to write it.
    #[error("{path}: {cause}")]
    Io {
        /// Path inside the layer.
        path: String,
        /// The system's answer.
        cause: io::Error,
    },
}

/// Unpacks an uncompressed tar stream into the existing empty directory `root`; returns the bytes of
/// its files.
pub fn unpack(stream: impl Read, root: &Path) -> Result<u64, LayerError> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| io_error(root, error.into()))?;
    let mut unpacker = Unpacker { root, directories: Vec::new(), bytes: 0 };
    let mut archive = Archive::new(stream);
    archive.set_ignore_zeros(false);
    let entries = archive.entries().map_err(|error| LayerError::Corrupt(error.to_string()))?;
    for entry in entries {
        let mut entry =
            entry.map_err(|error| LayerError::Corrupt(format!("not a proper tar archive: {error}")))?;
        unpacker.entry(&mut entry)?;
    }
    unpacker.finish()
}

struct Unpacker {
    root: OwnedFd,
    /// Times are set last, because filling a directory changes them.
    directories: Vec<(PathBuf, Timestamps)>,
    bytes: u64,
}

impl Unpacker {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), LayerError> {
        let raw = entry.path().map_err(|error| LayerError::Corrupt(error.to_string()))?.into_owned();
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        let path = clean(&raw)?;
        let Some(name) = path.file_name() else {
            return self.root_attributes(entry);
        };
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        if let Some(hidden) = name.to_str().and_then(|name| name.strip_prefix(".wh.")) {
            return whiteout(&parent, hidden, &path);
        }
        self.make(entry, kind, &parent, &path)
    }

    fn make<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        parent: &OwnedFd,
        path: &Path,
    ) -> Result<(), LayerError> {
        let name = path.file_name().unwrap_or_default();
        let mode = entry.header().mode().map_err(|error| corrupt(path, &error))? & 0o7777;
        let fail = |error: rustix::io::Errno| io_error(path, error.into());
        if kind != EntryType::Directory {
            clear(parent.as_fd(), Path::new(name)).map_err(|error| io_error(path, error))?;
        }
        match kind {
            EntryType::Directory => {
                make_directory(parent, name.as_ref()).map_err(|error| io_error(path, error))?;
                self.directories.push((path.to_owned(), times(entry)));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
                let copied =
                    io::copy(entry, &mut std::fs::File::from(file)).map_err(|error| io_error(path, error))?;
                if copied != entry.size() && kind != EntryType::GNUSparse {
                    return Err(LayerError::Corrupt(format!("{} is cut short", path.display())));
                }
                self.bytes += copied;
            }
            EntryType::Symlink => {
                let target = link_target(entry, path)?;
                rustix::fs::symlinkat(&target, parent, name).map_err(fail)?;
            }
            EntryType::Link => {
                return self.hard_link(&clean(&link_target(entry, path)?)?, parent, path);
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                make_node(entry, kind, parent, path)?;
            }
            other => {
                return Err(LayerError::Corrupt(format!("{} is of unknown type {other:?}", path.display())));
            }
        }
        attributes(entry, parent, path, mode, kind)
    }

    fn hard_link(&self, target: &Path, parent: &OwnedFd, path: &Path) -> Result<(), LayerError> {
        let missing = |error: io::Error| {
            LayerError::Corrupt(format!("{} is a link to {}: {error}", path.display(), target.display()))
        };
        let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(LayerError::Corrupt(format!("{} is a link to nothing", path.display())));
        };
        let from = self.resolve(directory).map_err(missing)?;
        let to = path.file_name().unwrap_or_default();
        rustix::fs::linkat(&from, name, parent, to, AtFlags::empty()).map_err(|error| missing(error.into()))
    }

    /// Opens a directory of the layer, making what is missing.
    fn directory(&self, path: &Path) -> Result<OwnedFd, LayerError> {
        if let Ok(found) = self.resolve(path) {
            return Ok(found);
        }
        let mut built = PathBuf::new();
        let mut current = self.resolve(Path::new("")).map_err(|error| io_error(path, error))?;
        for part in path.components() {
            make_directory(&current, part.as_os_str().as_ref()).map_err(|error| io_error(path, error))?;
            built.push(part);
            current = self.resolve(&built).map_err(|error| io_error(path, error))?;
        }
        Ok(current)
    }

    fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?)
    }

    fn root_attributes<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), LayerError> {
        let mode = entry.header().mode().unwrap_or(0o755) & 0o7777;
        let root = self.resolve(Path::new("")).map_err(|error| io_error(Path::new("/"), error))?;
        rustix::fs::chmodat(&root, ".", Mode::from_raw_mode(mode), AtFlags::empty())
            .map_err(|error| io_error(Path::new("/"), error.into()))
    }

    fn finish(self) -> Result<u64, LayerError> {
        for (path, times) in self.directories.iter().rev() {
            let Some(name) = path.file_name() else { continue };
            if let Ok(parent) = self.resolve(path.parent().unwrap_or(Path::new(""))) {
                // A later entry may have replaced the directory: then its time doesn't matter.
                let _ = rustix::fs::utimensat(&parent, name, times, AtFlags::SYMLINK_NOFOLLOW);
            }
        }
        Ok(self.bytes)
    }
}

/// The path relative to the layer's root; refuses `..`.
fn clean(path: &Path) -> Result<PathBuf, LayerError> {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(LayerError::Corrupt(format!("{} leads out of the layer", path.display())));
            }
        }
    }
    Ok(cleaned)
}

/// Marks what lower layers have at this place as deleted, in overlayfs's terms.
fn whiteout(parent: &OwnedFd, hidden: &str, path: &Path) -> Result<(), LayerError> {
    let fail = |error: rustix::io::Errno| io_error(path, error.into());
    if hidden == ".wh..opq" {
        // Attributes cannot be set through O_PATH descriptors, but through their names.
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(parent));
        return rustix::fs::setxattr(name, "trusted.overlay.opaque", b"y", XattrFlags::empty()).map_err(fail);
    }
    if hidden.starts_with(".wh.") || hidden.is_empty() || hidden == "." || hidden == ".." {
        return Ok(());
    }
    clear(parent.as_fd(), Path::new(hidden)).map_err(|error| io_error(path, error))?;
    rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0).map_err(fail)
}

fn make_directory(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Ok(());
    }
    rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
    Ok(rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?)
}

fn make_node<R: Read>(
    entry: &Entry<'_, R>,
    kind: EntryType,
    parent: &OwnedFd,
    path: &Path,
) -> Result<(), LayerError> {
    let header = entry.header();
    let major = header.device_major().ok().flatten().unwrap_or(0);
    let minor = header.device_minor().ok().flatten().unwrap_or(0);
    let file_type = match kind {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let name = path.file_name().unwrap_or_default();
    let device = rustix::fs::makedev(major, minor);
    match rustix::fs::mknodat(parent, name, file_type, Mode::from_raw_mode(0o600), device) {
        Ok(()) => Ok(()),
        Err(error) => Err(io_error(path, error.into())),
    }
}

/// Owner, mode, extended attributes and times, in the order in which they don't undo each other.
fn attributes<R: Read>(
    entry: &mut Entry<'_, R>,
    parent: &OwnedFd,
    path: &Path,
    mode: u32,
    kind: EntryType,
) -> Result<(), LayerError> {
    let name = path.file_name().unwrap_or_default();
    let fail = |error: rustix::io::Errno| io_error(path, error.into());
    let old = entry.header().as_old();
    let uid = number(entry.header().uid(), &old.uid).map_err(|error| corrupt(path, &error))?;
    let gid = number(entry.header().gid(), &old.gid).map_err(|error| corrupt(path, &error))?;
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    if kind != EntryType::Symlink {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty()).map_err(fail)?;
    }
    let times = times(entry);
    for (key, value) in extended(entry)? {
        let at =
            format!("/proc/self/fd/{}/{}", std::os::fd::AsRawFd::as_raw_fd(parent), name.to_string_lossy());
        // What the file system or our rights don't allow is left out, as other runtimes do.
        if let Err(error) = rustix::fs::lsetxattr(&*at, &*key, &value, XattrFlags::empty()) {
            tracing::debug!(path = %path.display(), key, %error, "extended attribute left out");
        }
    }
    rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
}

fn extended<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<(String, Vec<u8>)>, LayerError> {
    let Some(extensions) = entry.pax_extensions().map_err(|error| LayerError::Corrupt(error.to_string()))?
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for extension in extensions.flatten() {
        if let Ok(key) = extension.key()
            && let Some(key) = key.strip_prefix("SCHILY.xattr.")
            && !key.starts_with("trusted.")
        {
            found.push((key.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

/// A numeric field; some writers leave it blank, which means 0.
fn number(parsed: io::Result<u64>, raw: &[u8]) -> io::Result<u32> {
    match parsed {
        Ok(number) => u32::try_from(number).map_err(io::Error::other),
        Err(_) if raw.iter().all(|b| matches!(b, 0 | b' ')) => Ok(0),
        Err(error) => Err(error),
    }
}

fn times<R: Read>(entry: &Entry<'_, R>) -> Timestamps {
    let seconds = entry.header().mtime().unwrap_or(0) as i64;
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn link_target<R: Read>(entry: &Entry<'_, R>, path: &Path) -> Result<PathBuf, LayerError> {
    let target = entry.link_name().map_err(|error| corrupt(path, &error))?;
    Ok(target
        .ok_or_else(|| LayerError::Corrupt(format!("{} is a link to nothing", path.display())))?
        .into_owned())
}

/// Removes whatever has this name, without following it.
fn clear(parent: std::os::fd::BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child != b"." && child != b".." {
            clear(directory.as_fd(), Path::new(std::ffi::OsStr::from_bytes(child)))?;
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn io_error(path: &Path, cause: io::Error) -> LayerError {
    // An unexpected end or an invalid header inside the tar stream is the archive's fault.
    match cause.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            LayerError::Corrupt(format!("{}: {cause}", path.display()))
        }
        _ => LayerError::Io { path: path.display().to_string(), cause },
    }
}

fn corrupt(path: &Path, error: &io::Error) -> LayerError {
    LayerError::Corrupt(format!("{}: {error}", path.display()))
}
