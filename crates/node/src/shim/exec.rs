//! Runs further programs in a container, and connects clients to its own streams.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::console;
use super::container::{Console, Container, Streams, describe, duplicate, facts, reported};
use super::executor::Launcher;
use super::log::Stream;
use super::protocol::{Failure, PodDir, Response, SandboxRecord};
use super::spec;
use crate::runtime::{ContainerState, ExecSpec};

/// Descriptors for a client, in the order of [`Response::Session`].
#[derive(Default)]
pub struct Handover {
    /// Towards the program.
    pub stdin: Option<OwnedFd>,
    /// From the program.
    pub stdout: Option<OwnedFd>,
    /// From the program.
    pub stderr: Option<OwnedFd>,
    /// Carries stdin and stdout, and takes the size.
    pub terminal: Option<OwnedFd>,
}

impl Handover {
    /// What to answer.
    pub fn answer(&self) -> Response {
        Response::Session {
            stdin: self.stdin.is_some(),
            stdout: self.stdout.is_some(),
            stderr: self.stderr.is_some(),
            terminal: self.terminal.is_some(),
        }
    }

    /// What to send along.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        [&self.stdin, &self.stdout, &self.stderr, &self.terminal]
            .into_iter()
            .flatten()
            .map(AsFd::as_fd)
            .collect()
    }
}

/// Starts a program in a running container; returns its process and its streams.
pub fn exec(
    sandbox: &SandboxRecord,
    pod: &PodDir<'_>,
    container: &Container,
    spec: &ExecSpec,
) -> Result<(i32, Handover), Failure> {
    let ContainerState::Running { .. } = container.state else {
        return Err(Failure::new(format!("container {} is not running", container.record.spec.name)));
    };
    let dir = pod.container(&container.record.id);
    let mut record = container.record.clone();
    record.spec.command = Some(spec.argv.clone());
    record.spec.args = None;
    record.spec.tty = spec.tty;
    let facts = facts(&record, &dir.join("rootfs"))?;
    let process = dir.join("process.json");
    fs::write(&process, spec::process(sandbox, &record, &facts).to_string()).map_err(Failure::new)?;
    let (report_ours, report_theirs) = pipe2(OFlag::O_CLOEXEC).map_err(Failure::new)?;
    let builder = ContainerBuilder::new(record.id.0.clone(), SyscallType::default())
        .with_executor(Launcher { report: report_theirs.as_raw_fd() })
        .with_root_path(pod.oci())
        .map_err(describe)?;
    let tenant = |builder: ContainerBuilder| {
        let built = builder.as_tenant().with_process(Some(&process)).with_detach(true).build();
        let _ = nix::sys::prctl::set_dumpable(true);
        built
    };
    let mut handover = Handover::default();
    let built = if spec.tty {
        let console = Console::listen(sandbox)?;
        let built = tenant(builder.with_console_socket(Some(&console.path)));
        handover.terminal = console::receive(&console.listener).ok();
        built
    } else {
        let Streams { theirs: [stdin, stdout, stderr], ours } =
            Streams::new(spec.stdin).map_err(Failure::new)?;
        (handover.stdin, handover.stdout, handover.stderr) = (ours.0, Some(ours.1), Some(ours.2));
        tenant(builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr))
    };
    drop(report_theirs);
    // Our own report is clearer than libcontainer's.
    reported(report_ours)?;
    let pid = built.map_err(describe)?;
    Ok((pid.as_raw(), handover))
}

/// Connects a client to a running container's own streams.
pub fn attach(container: &mut Container, stdin: bool) -> Result<Handover, Failure> {
    let ContainerState::Running { .. } = container.state else {
        return Err(Failure::new(format!("container {} is not running", container.record.spec.name)));
    };
    let mut handover = Handover::default();
    if stdin && let Some(terminal) = &container.terminal {
        handover.stdin = Some(duplicate(terminal)?);
    } else if stdin && let Some(pipe) = &container.stdin {
        handover.stdin = Some(duplicate(pipe)?);
        if container.record.spec.stdin_once {
            container.stdin = None;
        }
    }
    for output in &mut container.outputs {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(Failure::new)?;
        let _ = fcntl(&theirs, FcntlArg::F_SETPIPE_SZ(1 << 20));
        fcntl(&theirs, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(Failure::new)?;
        output.listeners.push(theirs);
        match output.stream {
            Stream::Stdout => handover.stdout = Some(ours),
            Stream::Stderr => handover.stderr = Some(ours),
        }
    }
    if let Some(terminal) = &container.terminal {
        handover.terminal = Some(duplicate(terminal)?);
    }
    Ok(handover)
}
