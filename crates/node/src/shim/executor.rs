//! The last steps inside a container before its program takes over.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};

/// Replaces the process by the container's program; says why not through the `report` pipe.
#[derive(Clone)]
pub struct Launcher {
    /// Write end of a pipe. It closes by itself when the program takes over.
    pub report: RawFd,
}

impl Executor for Launcher {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let args = process.args().as_deref().unwrap_or_default();
        let path = std::env::var("PATH").unwrap_or_default();
        let (code, message) = launch(args, &path);
        // SAFETY: the descriptor is open for as long as this process has not exec'd.
        let report = unsafe { std::os::fd::BorrowedFd::borrow_raw(self.report) };
        let _ = nix::unistd::write(report, format!("{code} {message}").as_bytes());
        Err(ExecutorError::Other(message))
    }

    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        // A missing program is a failed start, not a failed creation: see `exec`.
        Ok(())
    }
}

/// Returns only on failure: the exit code that a shell would give, and the reason as runc words it.
fn launch(args: &[String], path: &str) -> (i32, String) {
    let Some(name) = args.first() else { return (128, "no command specified".into()) };
    let mut argv = Vec::new();
    for arg in args {
        match CString::new(arg.as_bytes()) {
            Ok(arg) => argv.push(arg),
            Err(_) => return (128, format!("exec: {arg:?}: argument has a zero byte")),
        }
    }
    let program = match find(name, path) {
        Ok(program) => program,
        Err(failure) => return failure,
    };
    let Ok(file) = CString::new(program.as_os_str().as_bytes()) else { return (128, "bad path".into()) };
    prepare();
    let error = match nix::unistd::execv(&file, &argv) {
        Err(error) => error,
        Ok(never) => match never {},
    };
    let text = match error {
        Errno::ENOENT => "no such file or directory".to_owned(),
        Errno::EACCES => "permission denied".to_owned(),
        Errno::ENOEXEC => "exec format error".to_owned(),
        other => other.desc().to_lowercase(),
    };
    (if error == Errno::ENOENT { 127 } else { 126 }, format!("exec {}: {text}", program.display()))
}

/// What the shim set for itself must not reach the program; and it must not outlive the shim.
fn prepare() {
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    // SAFETY: takes plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

fn find(name: &str, path: &str) -> Result<PathBuf, (i32, String)> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(Errno::ENOENT) => {
                Err((127, format!("exec: {name:?}: stat {name}: no such file or directory")))
            }
            Err(Errno::EISDIR) => Err((126, format!("exec: {name:?}: is a directory"))),
            Err(error) => Err((126, format!("exec: {name:?}: {}", error.desc().to_lowercase()))),
        };
    }
    let mut denied = false;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => denied = true,
            Err(_) => {}
        }
    }
    if denied {
        return Err((126, format!("exec: {name:?}: permission denied")));
    }
    Err((127, format!("exec: {name:?}: executable file not found in $PATH")))
}

fn executable(path: &Path) -> Result<(), Errno> {
    let stat = nix::sys::stat::stat(path)?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK)
}
