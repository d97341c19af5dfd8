//! Taking a cluster out of the kernel: its pods, mounts, pins and cgroups. Found by path, so that a
//! half-built or damaged cluster can be removed as well.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use nix::mount::{MntFlags, umount2};

use crate::cluster::paths::Paths;
use crate::cluster::{Cluster, preflight};

/// How long killed processes may take to leave their cgroups.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// After the cluster's own processes have ended.
pub fn kernel_state(cluster: &Cluster) -> Result<()> {
    by_paths(&cluster.paths)
}

/// Kills what runs in the cluster's cgroups, unmounts what is mounted below its folders, removes the cgroups.
pub fn by_paths(paths: &Paths) -> Result<()> {
    let unified = preflight::cgroup2_mount()?;
    kill_all(&paths.cgroup(&unified))?;
    for dir in [&paths.run, &paths.state] {
        unmount_below(dir)?;
    }
    for mount in cgroup_mounts()? {
        remove_cgroup(&paths.cgroup(&mount))?;
        let _ = fs::remove_dir(mount.join("daymark"));
    }
    Ok(())
}

fn kill_all(cgroup: &Path) -> Result<()> {
    if !cgroup.exists() {
        return Ok(());
    }
    fs::write(cgroup.join("cgroup.kill"), "1")
        .into_diagnostic()
        .wrap_err("cannot kill the cluster's pods")?;
    let deadline = Instant::now() + EMPTY_WITHIN;
    while fs::read_to_string(cgroup.join("cgroup.events")).is_ok_and(|t| t.contains("populated 1")) {
        if Instant::now() > deadline {
            return Err(miette!(
                help = format!("look at {}/cgroup.procs below it, then try again", cgroup.display()),
                "pods of the cluster do not end although killed"
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Deepest first.
fn unmount_below(dir: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").into_diagnostic()?;
    for point in mounts_below(&table, dir).iter().rev() {
        umount2(point, MntFlags::MNT_DETACH)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot unmount {}", point.display()))?;
    }
    Ok(())
}

/// Mount points below `dir`, in the order they were mounted; octal escapes undone.
fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .map(|p| PathBuf::from(p.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")))
        .filter(|p| p.starts_with(dir))
        .collect()
}

fn cgroup_mounts() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").into_diagnostic()?;
    Ok(mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (path, kind) = (fields.next()?, fields.next()?);
            kind.starts_with("cgroup").then(|| PathBuf::from(path))
        })
        .collect())
}

/// A cgroup's folder has files that cannot be removed; only folders are, from the inside out.
fn remove_cgroup(dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).into_diagnostic(),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    let deadline = Instant::now() + EMPTY_WITHIN;
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) if Instant::now() > deadline => {
                return Err(e).into_diagnostic().wrap_err_with(|| format!("cannot remove {}", dir.display()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_folder_are_found() {
        let table = "1 2 0:1 / /run/daymark/a/bpf rw - bpf none rw\n\
                     2 2 0:1 / /run/daymark/ab rw - tmpfs none rw\n\
                     3 2 0:1 / /run/daymark/a/with\\040space rw - tmpfs none rw\n";
        let found = mounts_below(table, Path::new("/run/daymark/a"));
        assert_eq!(found, [PathBuf::from("/run/daymark/a/bpf"), "/run/daymark/a/with space".into()]);
    }
}
