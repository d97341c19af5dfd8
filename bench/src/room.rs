//! A room for everything that a run starts: namespaces of processes and mounts that end with it, whatever ends it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getpid};

/// Says where the cgroups of this run are.
const CGROUPS: &str = "DAYMARK_BENCH_CGROUPS";

/// The first process of a room, for those outside.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// Where this run's cgroups are.
pub fn cgroups() -> Result<PathBuf> {
    std::env::var_os(CGROUPS).map(PathBuf::from).context("outside of a room")
}

/// Whether this process is the first in a room; else it is whoever was called by hand.
pub fn is_inside() -> bool {
    getpid() == Pid::from_raw(1)
}

/// Runs this program again inside, and removes afterwards what outlives processes.
pub fn run_inside() -> Result<ExitStatus> {
    let folder = tempfile::Builder::new().prefix("daymark-bench-").tempdir()?;
    let cgroups = cgroup2_mount()?.join(folder.path().file_name().unwrap_or_default());
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block()?;
    // Before there are namespaces that its own thread could not be in.
    std::thread::spawn(move || {
        let _ = signals.wait();
        match FIRST.load(Ordering::SeqCst) {
            0 => std::process::exit(130),
            // With the first process go all others.
            first => drop(kill(Pid::from_raw(first), Signal::SIGKILL)),
        }
    });
    unshare(CloneFlags::CLONE_NEWPID).context("benchmarks need root")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).env("TMPDIR", folder.path()).env(CGROUPS, &cgroups);
    let mut child = command.spawn()?;
    FIRST.store(i32::try_from(child.id())?, Ordering::SeqCst);
    let ended = child.wait().context("waiting for the run");
    remove_cgroups(&cgroups);
    ended
}

/// The first process's own part: mounts that nobody else sees, and an end with whoever started it.
pub fn settle() -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), nothing).context("a /proc of its own")
}

fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = lines.find(|fields| fields.get(2) == Some(&"cgroup2"));
    found.and_then(|fields| Some(PathBuf::from(fields.get(1)?))).context("cgroup v2 is not mounted")
}

fn remove_cgroups(path: &Path) {
    // Their last processes may still be ending.
    for _ in 0..100 {
        let below = std::fs::read_dir(path).into_iter().flatten().flatten();
        below.for_each(|folder| drop(std::fs::remove_dir(folder.path())));
        if !path.exists() || std::fs::remove_dir(path).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("left behind: {}", path.display());
}
