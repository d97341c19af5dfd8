//! A container's root file system in the shim's own mount namespace: overlay, working directory,
//! account files and volume sub-paths.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::protocol::{ContainerRecord, PodDir};
use crate::runtime::Mount;

/// Mounts the container's overlay at `rootfs` in its directory. Its writes go to `upper`.
pub fn mount_overlay(dir: &Path, layers: &[PathBuf]) -> Result<PathBuf, String> {
    let target = dir.join("rootfs");
    for path in [&target, &dir.join("upper"), &dir.join("work")] {
        fs::create_dir_all(path).map_err(|error| format!("making {}: {error}", path.display()))?;
    }
    // Mount options fit one page, so layers are named relative to their common directory.
    let base = layers.first().and_then(|layer| layer.parent()).unwrap_or(Path::new("/"));
    let names = layers.iter().rev().map(|layer| layer.strip_prefix(base).unwrap_or(layer).to_string_lossy());
    let mut lower = names.collect::<Vec<_>>().join(":");
    if lower.is_empty() {
        // An image without layers: overlayfs wants one.
        let empty = dir.join("empty");
        fs::create_dir_all(&empty).map_err(|error| format!("making {}: {error}", empty.display()))?;
        lower = empty.display().to_string();
    }
    let options = format!(
        "lowerdir={lower},upperdir={},workdir={},volatile",
        escape(&dir.join("upper")),
        escape(&dir.join("work"))
    );
    if options.len() >= 4096 {
        return Err(format!("the image has too many layers ({}): squash them", layers.len()));
    }
    std::env::set_current_dir(base).map_err(|error| format!("entering {}: {error}", base.display()))?;
    let mounted = mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    let _ = std::env::set_current_dir("/");
    mounted.map_err(|error| format!("mounting its root file system: {error}"))?;
    Ok(target)
}

fn escape(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

/// Undoes every mount below a container's directory, innermost first.
pub fn unmount_below(dir: &Path) {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else { return };
    let mut points =
        table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect::<Vec<_>>();
    points.retain(|point| point.starts_with(dir));
    for point in points.iter().rev() {
        if let Err(error) = umount2(point, MntFlags::MNT_DETACH) {
            tracing::warn!(point = %point.display(), %error, "cannot unmount");
        }
    }
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> PathBuf {
    let mut out = text.to_owned();
    for (code, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(code, plain);
    }
    PathBuf::from(out)
}

/// Reads a small file of the container; a link in it cannot lead out. Missing is empty.
pub fn read_inside(root: &Path, path: &str) -> String {
    let open = || -> io::Result<String> {
        let root = open_root(root)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
        let file = fs::File::from(file);
        if !file.metadata()?.is_file() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        file.take(4 << 20).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    open().unwrap_or_default()
}

/// Makes a directory inside the container, if it doesn't exist, owned by its user.
pub fn make_directory(root: &Path, path: &str, uid: u32, gid: u32) -> io::Result<()> {
    let root = open_root(root)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).is_ok() {
        return Ok(());
    }
    let made = walk(&root, Path::new(path), ResolveFlags::IN_ROOT, true)?;
    let owner = (Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)));
    rustix::fs::chownat(&made, "", owner.0, owner.1, rustix::fs::AtFlags::EMPTY_PATH)?;
    Ok(())
}

/// The container's volumes with sub-paths bound to a safe place, so that nobody can swap a link in
/// between. Makes missing sub-directories.
pub fn resolve_volumes(record: &ContainerRecord, pod: &PodDir<'_>) -> Result<Vec<Mount>, String> {
    let mut resolved = Vec::new();
    for (position, mount) in record.spec.mounts.iter().enumerate() {
        let mut mount = mount.clone();
        if !mount.target.starts_with('/') {
            return Err(format!("invalid mount path {:?}: it must be absolute", mount.target));
        }
        if let Some(sub_path) = mount.sub_path.take().filter(|path| !path.is_empty()) {
            let place = pod.container(&record.id).join("volumes").join(position.to_string());
            bind_sub_path(&mount.source, &sub_path, &place).map_err(|error| {
                format!("failed to prepare subPath {sub_path:?} for volumeMount {:?}: {error}", mount.target)
            })?;
            mount.source = place;
        }
        if !mount.source.exists() {
            return Err(format!("volume {} for {:?} does not exist", mount.source.display(), mount.target));
        }
        resolved.push(mount);
    }
    Ok(resolved)
}

fn bind_sub_path(source: &Path, sub_path: &str, place: &Path) -> io::Result<()> {
    let normal = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(sub_path).components().all(normal) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it must be relative and without '..'"));
    }
    let root = open_root(source)?;
    let found = walk(&root, Path::new(sub_path), ResolveFlags::BENEATH, false)?;
    let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode).is_dir();
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    if is_dir {
        fs::create_dir_all(place)?;
    } else {
        fs::File::create(place)?;
    }
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(&found, "", flags)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", rustix::fs::CWD, place, flags)?;
    Ok(())
}

/// Opens `path` step by step, making missing directories; the kernel keeps every step inside `root`.
fn walk(root: &OwnedFd, path: &Path, resolve: ResolveFlags, absolute: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
    if let Ok(found) = open(path) {
        return Ok(found);
    }
    let mut built = if absolute { PathBuf::from("/") } else { PathBuf::from(".") };
    let mut current = open(&built)?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        match rustix::fs::mkdirat(&current, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        built.push(name);
        current = open(&built)?;
    }
    Ok(current)
}

fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
