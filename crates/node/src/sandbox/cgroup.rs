//! A pod's directories in the cgroup hierarchies: killing everything in them, removing them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROOT: &str = "/sys/fs/cgroup";

/// Makes a pod's directory in the v2 tree and limits the number of its processes.
pub fn create(v2_dir: &Path, path: &Path, pids_limit: Option<i64>) -> io::Result<()> {
    fs::create_dir_all(v2_dir)?;
    let Some(limit) = pids_limit.filter(|limit| *limit > 0) else { return Ok(()) };
    let relative = path.strip_prefix("/").unwrap_or(path);
    let v1 = Path::new(ROOT).join("pids");
    let place = if v1.join("cgroup.procs").exists() {
        let place = v1.join(relative);
        fs::create_dir_all(&place)?;
        place
    } else {
        v2_dir.to_owned()
    };
    if place.join("pids.max").exists() {
        fs::write(place.join("pids.max"), limit.to_string())?;
    }
    Ok(())
}

/// Kills every process of a pod and waits until they are gone.
pub fn kill(v2_dir: &Path) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while populated(v2_dir) {
        if fs::write(v2_dir.join("cgroup.kill"), "1").is_err() {
            // Kernels before 5.14.
            for pid in processes(v2_dir) {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        if Instant::now() > deadline {
            let message = format!("processes in {} do not end", v2_dir.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Removes a pod's directories from all hierarchies. No process may be in them.
pub fn remove(v2_dir: &Path, path: &Path) -> io::Result<()> {
    for place in places(path).into_iter().chain([v2_dir.to_owned()]) {
        remove_tree(&place)?;
    }
    Ok(())
}

/// A pod's directory in every hierarchy that has one.
fn places(path: &Path) -> Vec<PathBuf> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let Ok(entries) = fs::read_dir(ROOT) else { return Vec::new() };
    let mounts = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    mounts.map(|mount| mount.join(relative)).filter(|place| place.is_dir()).collect()
}

fn populated(v2_dir: &Path) -> bool {
    let events = fs::read_to_string(v2_dir.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

fn processes(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids = text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            pids.extend(processes(&entry.path()));
        }
    }
    pids
}

/// Removes a cgroup and those below it. Just after the last process has gone the kernel may still be
/// busy with it.
fn remove_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    for attempt in 0..50 {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempt < 49 => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
