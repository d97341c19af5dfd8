//! The process that owns one pod's containers, so that they outlive the node process.
//!
//! Single threaded on purpose: libcontainer forks without exec. Its namespaces are the pod's, so when
//! it and its containers end, the kernel removes the pod's network, mounts and shared memory by itself.

mod console;
mod container;
mod exec;
mod executor;
mod log;
pub(crate) mod protocol;
mod rootfs;
mod server;
mod setup;
mod spec;
mod user;

pub(crate) use rootfs::unmount_below;
pub(crate) use spec::args as program;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use protocol::{PodDir, SandboxRecord};

/// Runs `daymark shim POD_DIR`: sets the pod up, says `ready` on stdout (or why not), serves until it
/// is told to shut down. Returns the process's exit code.
pub fn main(args: &[OsString]) -> i32 {
    let [dir] = args else {
        eprintln!("usage: daymark shim POD_DIR (started by the node process, not by people)");
        return 2;
    };
    let dir = PathBuf::from(dir);
    match prepare(&dir) {
        Ok(server) => {
            println!("ready");
            let _ = std::io::stdout().flush();
            detach();
            server.run();
            0
        }
        Err(cause) => {
            println!("{}", cause.replace('\n', " "));
            1
        }
    }
}

fn prepare(dir: &Path) -> Result<server::Server, String> {
    let pod = PodDir(dir);
    let path = pod.record();
    let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let record: SandboxRecord =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        mask.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).map_err(|error| error.to_string())?;
    setup::enter(&record, &pod)?;
    server::Server::new(record, dir.to_owned(), &mask).map_err(|error| format!("listening: {error}"))
}

/// Lets go of the node process's pipe.
fn detach() {
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        for target in [0, 1, 2] {
            // SAFETY: replaces a standard stream by an open descriptor.
            unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), target) };
        }
    }
}
