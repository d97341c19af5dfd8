//! The cluster's long-lived processes: starting them, knowing whether they live, ending them.
//!
//! A process holds an exclusive lock on its lock file for as long as it lives and keeps its pid in it,
//! so a stale file or a reused pid can never be mistaken for a living process.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Environment variable with the number of the pipe on which a child says that it is ready.
const READY_FD: &str = "DAYMARK_READY_FD";

/// How many lines of a log an error shows.
const LAST_WORDS: usize = 8;

/// Holds a process's lock for its lifetime.
pub struct Alive(#[allow(dead_code, reason = "held, not read")] Flock<File>);

/// Takes the lock of this very process and writes its pid.
///
/// # Errors
/// Another process holds it: it is running already.
pub fn claim(lock: &Path) -> Result<Alive> {
    let mut held = loop {
        let held = Flock::lock(open(lock)?, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| {
            miette!(
                help = "`daymark status` shows what runs",
                "another process holds {}: it is running already",
                lock.display()
            )
        })?;
        // Whoever held it may have removed it since it was opened: it would keep nobody out.
        if is_at(&held, lock) {
            break held;
        }
    };
    held.set_len(0).into_diagnostic()?;
    write!(held, "{}", std::process::id()).into_diagnostic()?;
    Ok(Alive(held))
}

/// Whether a file that is open is the one of that name.
fn is_at(file: &File, path: &Path) -> bool {
    let number = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (here, there) = (file.metadata().map(number), fs::metadata(path).map(number));
    matches!((here, there), (Ok(here), Ok(there)) if here == there)
}

/// The pid of the living process behind a lock file.
pub fn living(lock: &Path) -> Option<i32> {
    let mut file = OpenOptions::new().read(true).write(true).open(lock).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    file.rewind().ok()?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_free) => None,
        Err(_) => text.trim().parse().ok(),
    }
}

fn open(lock: &Path) -> Result<File> {
    if let Some(dir) = lock.parent() {
        fs::create_dir_all(dir)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot make {}", dir.display()))?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot open {}", lock.display()))
}

/// A child that has not yet said that it is ready; killed if nobody waits for that any more, so that an
/// interrupted start leaves no process behind that is too young to hold its lock.
pub struct Starting {
    name: String,
    log: PathBuf,
    ready: Option<OwnedFd>,
    child: std::process::Child,
    settled: bool,
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.settled {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Starts `daymark ARGS` in a session of its own, with its output in `log`.
pub fn spawn(name: &str, args: &[&str], log: &Path) -> Result<Starting> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot make {}", dir.display()))?;
    }
    let out = OpenOptions::new().create(true).append(true).open(log).into_diagnostic()?;
    let (ready, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).into_diagnostic()?;
    let inherited = theirs.as_raw_fd();
    let mut command = Command::new("/proc/self/exe");
    command
        .args(args)
        .arg0("daymark")
        .env(READY_FD, inherited.to_string())
        .stdin(Stdio::null())
        .stdout(out.try_clone().into_diagnostic()?)
        .stderr(out)
        .current_dir("/");
    // SAFETY: both calls are async-signal-safe and touch nothing of the parent; clearing the flag in
    // the child alone keeps the pipe from children that are started at the same time.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            match nix::libc::fcntl(inherited, nix::libc::F_SETFD, 0) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
    let child = command.spawn().into_diagnostic().wrap_err_with(|| format!("cannot start {name}"))?;
    Ok(Starting { name: name.to_owned(), log: log.to_owned(), ready: Some(ready), child, settled: false })
}

impl Starting {
    /// Waits until the child says that it is ready; if it ends instead, says why, from its own words.
    pub async fn ready(mut self) -> Result<i32> {
        let pid = i32::try_from(self.child.id()).into_diagnostic()?;
        let mut pipe =
            File::from(self.ready.take().ok_or_else(|| miette!("asked twice whether it is ready"))?);
        let said = tokio::task::spawn_blocking(move || {
            let mut said = String::new();
            let _ = pipe.read_to_string(&mut said);
            said
        })
        .await
        .into_diagnostic()?;
        if said == "ready" {
            self.settled = true;
            return Ok(pid);
        }
        let name = &self.name;
        match said.strip_prefix("failed: ") {
            Some(why) => Err(miette!("{}", why.trim()).wrap_err(format!("{name} could not start"))),
            None => Err(miette!(
                help = format!("its last words: {}", last_words(&self.log)),
                "{name} ended before it was ready"
            )),
        }
    }
}

/// The last lines of a log: the log itself may go with the cluster that could not start.
pub fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LAST_WORDS)..];
    if tail.is_empty() { "none".into() } else { format!("\n    {}", tail.join("\n    ")) }
}

/// The child's side of the pipe.
pub struct Readiness(Option<File>);

impl Readiness {
    /// Takes the pipe that [`spawn`] left in the environment, if any. To be called once.
    pub fn from_env() -> Self {
        let number = std::env::var(READY_FD).ok().and_then(|v| v.parse::<i32>().ok());
        Self(number.filter(|n| *n > 2).map(|n| {
            use std::os::fd::FromRawFd;
            // SAFETY: the parent opened this descriptor for us, and nothing else in this process knows it.
            let file = unsafe { File::from_raw_fd(n) };
            let flags = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
            let _ = nix::fcntl::fcntl(file.as_fd(), flags);
            file
        }))
    }

    pub fn ready(mut self) {
        self.say("ready");
    }

    pub fn failed(mut self, why: &str) {
        self.say(&format!("failed: {why}"));
    }

    fn say(&mut self, text: &str) {
        if let Some(mut file) = self.0.take() {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// Asks the process behind a lock to end, and kills it if it has not after `grace`.
pub fn stop(lock: &Path, grace: Duration) {
    let Some(pid) = living(lock) else { return };
    let pid = Pid::from_raw(pid);
    let _ = kill(pid, Signal::SIGTERM);
    let deadline = Instant::now() + grace;
    while living(lock).is_some() {
        if Instant::now() > deadline {
            let _ = kill(pid, Signal::SIGKILL);
            std::thread::sleep(Duration::from_millis(20));
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Held by the one command that may change the cluster.
pub fn exclusive(lock: &Path, cluster: &str) -> Result<Alive> {
    claim(lock).map_err(|_| {
        let who = living(lock).map_or_else(String::new, |pid| format!(" (pid {pid})"));
        miette!(
            help = "wait until it is done, then try again",
            "another daymark command{who} is changing cluster \"{cluster}\""
        )
    })
}

/// Resident memory of a process, in bytes.
pub fn resident(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_tells_the_living_from_the_dead() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("locks/daemon");
        assert_eq!(living(&lock), None);
        let held = claim(&lock).unwrap();
        assert_eq!(living(&lock), Some(i32::try_from(std::process::id()).unwrap()));
        assert!(claim(&lock).is_err());
        drop(held);
        assert_eq!(living(&lock), None);
    }

    #[test]
    fn a_lock_file_that_its_holder_removed_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join(".default.lock");
        let held = claim(&lock).unwrap();
        let opened = open(&lock).unwrap();
        assert!(is_at(&opened, &lock));
        fs::remove_file(&lock).unwrap();
        assert!(!is_at(&opened, &lock), "it is nowhere");
        drop(held);
        let next = claim(&lock).unwrap();
        assert!(!is_at(&opened, &lock), "another one has its name");
        assert!(claim(&lock).is_err());
        drop(next);
    }

    #[test]
    fn a_stale_pid_in_a_file_nobody_holds_is_no_process() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("daemon");
        fs::write(&lock, "1").unwrap();
        assert_eq!(living(&lock), None);
    }
}
