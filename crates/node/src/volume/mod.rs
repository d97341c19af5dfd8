//! Volumes of a pod: directories on the node, made before the sandbox and bound into containers.

pub mod atomic;
pub mod mounts;
pub mod payload;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::env::Sources;
use crate::env::fields::Place;
use crate::env::quantity;

pub use mounts::container_mounts;
pub use payload::{references, tokens};

/// A volume that could not be set up; becomes a `FailedMount` event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {cause}")]
pub struct MountError {
    pub volume: String,
    pub cause: String,
}

/// Where a volume of a pod lies, below the pod's volumes directory.
pub fn path_of(dir: &Path, volume: &str) -> PathBuf {
    dir.join(volume)
}

/// Makes all volumes of a pod; those that exist already are brought up to date. Blocking.
pub fn prepare(pod: &Pod, dir: &Path, place: &Place, sources: &Sources) -> Result<(), MountError> {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
    let fs_group = fs_group(pod);
    for volume in volumes {
        let fail = |cause: String| MountError { volume: volume.name.clone(), cause };
        let at = path_of(dir, &volume.name);
        if let Some(files) = payload::files(volume, pod, place, sources).map_err(fail)? {
            make_dir(&at, 0o755)
                .and_then(|()| atomic::write(&at, &files, fs_group))
                .map_err(|e| fail(io_cause(&at, &e)))?;
        } else if let Some(source) = &volume.empty_dir {
            empty_dir(&at, source, fs_group).map_err(|e| fail(io_cause(&at, &e)))?;
        } else if let Some(source) = &volume.host_path {
            host_path(source).map_err(fail)?;
        } else {
            return Err(fail(unsupported(volume)));
        }
    }
    Ok(())
}

/// Rewrites what ConfigMaps, Secrets, tokens and the downward API put into volumes. Blocking.
pub fn refresh(pod: &Pod, dir: &Path, place: &Place, sources: &Sources) -> Result<(), MountError> {
    for volume in pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default() {
        let fail = |cause: String| MountError { volume: volume.name.clone(), cause };
        let at = path_of(dir, &volume.name);
        if let Some(files) = payload::files(volume, pod, place, sources).map_err(fail)? {
            atomic::write(&at, &files, fs_group(pod)).map_err(|e| fail(io_cause(&at, &e)))?;
        }
    }
    Ok(())
}

/// Unmounts whatever is mounted below a pod's volumes directory, so that it can be removed. Blocking.
pub fn release(dir: &Path) {
    for target in mounts_below(dir).iter().rev() {
        if let Err(e) = umount2(target, MntFlags::MNT_DETACH) {
            tracing::warn!(target = %target.display(), "cannot unmount a volume: {e}");
        }
    }
}

/// Mount points below a directory, parents first.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let targets = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    targets.filter(|t| t.starts_with(dir) && t != dir).collect()
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    context.and_then(|c| c.fs_group).and_then(|g| u32::try_from(g).ok())
}

fn io_cause(at: &Path, error: &io::Error) -> String {
    format!("{}: {error}", at.display())
}

fn make_dir(at: &Path, mode: u32) -> io::Result<()> {
    if at.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(at)?;
    fs::set_permissions(at, fs::Permissions::from_mode(mode))
}

fn empty_dir(at: &Path, source: &EmptyDirVolumeSource, fs_group: Option<u32>) -> io::Result<()> {
    let fresh = !at.exists();
    make_dir(at, 0o777)?;
    let in_memory = source.medium.as_deref() == Some("Memory");
    if in_memory && !mounts_below(at.parent().unwrap_or(at)).iter().any(|m| m == at) {
        let limit = source.size_limit.as_ref().and_then(|q| quantity::units(&q.0)).filter(|n| *n > 0);
        let data = limit.map_or("mode=0777".to_owned(), |n| format!("mode=0777,size={n}"));
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(data.as_str())).map_err(io::Error::from)?;
    }
    if let Some(group) = fs_group.filter(|_| fresh) {
        chown(at, None, Some(group))?;
        fs::set_permissions(at, fs::Permissions::from_mode(0o2777))?;
    }
    Ok(())
}

/// Checks a path of the node, and makes it where its type says so.
fn host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    let at = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let made = match kind {
        "DirectoryOrCreate" if !at.exists() => make_dir(at, 0o755),
        "FileOrCreate" if !at.exists() => fs::File::create(at).map(|_| ()),
        _ => Ok(()),
    };
    made.map_err(|e| io_cause(at, &e))?;
    let meta = match fs::metadata(at) {
        Ok(meta) => meta,
        Err(_) if kind.is_empty() => return make_dir(at, 0o755).map_err(|e| io_cause(at, &e)),
        Err(_) => return Err(format!("hostPath type check failed: {} does not exist", source.path)),
    };
    let file_type = meta.file_type();
    let (fits, what) = match kind {
        "Directory" | "DirectoryOrCreate" => (meta.is_dir(), "a directory"),
        "File" | "FileOrCreate" => (meta.is_file(), "a file"),
        "Socket" => (file_type.is_socket(), "a socket"),
        "CharDevice" => (file_type.is_char_device(), "a character device"),
        "BlockDevice" => (file_type.is_block_device(), "a block device"),
        _ => (true, ""),
    };
    if fits { Ok(()) } else { Err(format!("hostPath type check failed: {} is not {what}", source.path)) }
}

/// Names the kind of a volume that this node cannot provide.
fn unsupported(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let kind = value.as_object().and_then(|o| o.keys().find(|k| *k != "name")).cloned();
    format!("volumes of type {} are not supported by this node", kind.as_deref().unwrap_or("unknown"))
}

#[cfg(test)]
mod tests;
