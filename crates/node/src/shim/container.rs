//! One container in the shim: making, starting, its streams, its end.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use libcontainer::container::Container as OciContainer;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Pid, pipe2};

use super::executor::Launcher;
use super::log::{Lines, LogFile, Stream, stamp};
use super::protocol::{ContainerRecord, Failure, PodDir, SandboxRecord};
use super::spec::{self, Facts};
use super::{console, rootfs, setup, user};
use crate::runtime::files::write_atomic;
use crate::runtime::{ContainerId, ContainerState, Exit};

/// A container that was started in this shim.
pub struct Container {
    /// What it was made from.
    pub record: ContainerRecord,
    /// What it is doing.
    pub state: ContainerState,
    /// Its output, until it ends.
    pub outputs: Vec<Output>,
    /// Kept open for attach.
    pub stdin: Option<OwnedFd>,
    /// Its terminal.
    pub terminal: Option<OwnedFd>,
    log: Option<LogFile>,
}

/// One output stream of a container and who else listens to it.
pub struct Output {
    /// Which.
    pub stream: Stream,
    /// Where it comes from; not blocking.
    pub fd: OwnedFd,
    /// Attached clients; not blocking.
    pub listeners: Vec<OwnedFd>,
    lines: Lines,
}

/// The three streams of a new process: its ends and ours.
pub struct Streams {
    /// Given to the process.
    pub theirs: [OwnedFd; 3],
    /// Our ends: stdin (if wanted), stdout, stderr.
    pub ours: (Option<OwnedFd>, OwnedFd, OwnedFd),
}

impl Streams {
    /// Makes pipes, and `/dev/null` for an unwanted stdin.
    pub fn new(stdin: bool) -> io::Result<Self> {
        let (out_ours, out_theirs) = pipe2(OFlag::O_CLOEXEC)?;
        let (err_ours, err_theirs) = pipe2(OFlag::O_CLOEXEC)?;
        let (in_theirs, in_ours) = if stdin {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
            (theirs, Some(ours))
        } else {
            (fs::File::open("/dev/null")?.into(), None)
        };
        Ok(Self { theirs: [in_theirs, out_theirs, err_theirs], ours: (in_ours, out_ours, err_ours) })
    }
}

impl Container {
    /// Makes and starts the container. On failure it is `Exited` with 128 and `StartError`, on disk
    /// too, and nothing of it runs.
    pub fn start(
        sandbox: &SandboxRecord,
        pod: &PodDir<'_>,
        record: ContainerRecord,
    ) -> (Self, Result<(), Failure>) {
        let now = jiff::Timestamp::now();
        let mut container = Self {
            record,
            state: ContainerState::Created,
            outputs: Vec::new(),
            stdin: None,
            terminal: None,
            log: None,
        };
        let result = container.launch(sandbox, pod);
        container.state = match &result {
            Ok(pid) => ContainerState::Running { pid: *pid, started_at: jiff::Timestamp::now() },
            Err(failure) => {
                container.release(pod);
                let message = failure.message.clone();
                let exit = Exit {
                    code: 128,
                    signal: None,
                    reason: "StartError".into(),
                    message,
                    started_at: jiff::Timestamp::UNIX_EPOCH,
                    finished_at: now,
                };
                ContainerState::Exited(exit)
            }
        };
        container.save(pod);
        (container, result.map(|_| ()))
    }

    fn launch(&mut self, sandbox: &SandboxRecord, pod: &PodDir<'_>) -> Result<i32, Failure> {
        let dir = pod.container(&self.record.id);
        let root = rootfs::mount_overlay(&dir, &self.record.layers).map_err(Failure::new)?;
        let pid_namespace = self.record.spec.pid_of.as_ref().map(|of| pid_namespace(pod, of)).transpose()?;
        let facts = Facts { pid_namespace, ..facts(&self.record, &root)? };
        let volumes = rootfs::resolve_volumes(&self.record, pod).map_err(Failure::new)?;
        let cwd = spec::working_dir(&self.record);
        let in_volume = volumes.iter().any(|volume| Path::new(&cwd).starts_with(&volume.target));
        if !in_volume {
            rootfs::make_directory(&root, &cwd, facts.identity.uid, facts.identity.gid)
                .map_err(|error| Failure::new(format!("working directory {cwd:?}: {error}")))?;
        }
        let config = spec::config(sandbox, &self.record, pod, &volumes, &facts);
        fs::write(dir.join("config.json"), config.to_string())
            .and_then(|()| termination_log(&spec::termination_log(&self.record, pod)))
            .map_err(|error| Failure::new(format!("writing its configuration: {error}")))?;
        self.log = Some(LogFile::open(&self.record.log_path).map_err(|error| {
            Failure::new(format!("opening its log {}: {error}", self.record.log_path.display()))
        })?);
        self.run(sandbox, pod, &dir)
    }

    fn run(&mut self, sandbox: &SandboxRecord, pod: &PodDir<'_>, dir: &Path) -> Result<i32, Failure> {
        let (report_ours, report_theirs) = pipe2(OFlag::O_CLOEXEC).map_err(Failure::new)?;
        let launcher = Launcher { report: report_theirs.as_raw_fd() };
        let builder = ContainerBuilder::new(self.record.id.0.clone(), SyscallType::default())
            .with_executor(launcher)
            .with_root_path(pod.oci())
            .map_err(describe)?;
        let mut container = if self.record.spec.tty {
            let console = Console::listen(sandbox)?;
            let built = build(builder.with_console_socket(Some(&console.path)), dir)?;
            let terminal = console::receive(&console.listener)
                .map_err(|e| Failure::new(format!("its terminal: {e}")))?;
            let reader = terminal.try_clone().map_err(Failure::new)?;
            self.outputs.push(Output::new(Stream::Stdout, reader)?);
            self.terminal = Some(terminal);
            built
        } else {
            let Streams { theirs: [stdin, stdout, stderr], ours } =
                Streams::new(self.record.spec.stdin).map_err(Failure::new)?;
            let built = build(builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr), dir)?;
            self.stdin = ours.0;
            self.outputs.push(Output::new(Stream::Stdout, ours.1)?);
            self.outputs.push(Output::new(Stream::Stderr, ours.2)?);
            built
        };
        drop(report_theirs);
        let _ = nix::sys::prctl::set_dumpable(true);
        let pid = container.pid().ok_or_else(|| Failure::new("it has no process"))?.as_raw();
        if let Some(score) = self.record.spec.oom_score_adj.filter(|score| *score >= 0) {
            let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
        }
        let started = container.start().map_err(describe).and_then(|()| reported(report_ours));
        if let Err(failure) = started {
            kill_and_reap(pid);
            return Err(failure);
        }
        Ok(pid)
    }

    /// Reads what the container wrote to one of its outputs: into the log and to listeners.
    /// Returns false at the end of the stream.
    pub fn pump(&mut self, index: usize, limit: usize) -> bool {
        let Some(output) = self.outputs.get_mut(index) else { return false };
        let mut buffer = [0; 16 << 10];
        let mut lines = Vec::new();
        let mut open = true;
        let mut total = 0;
        while total < limit {
            match nix::unistd::read(&output.fd, &mut buffer) {
                Ok(0) => open = false,
                Ok(count) => {
                    total += count;
                    output.lines.push(
                        output.stream,
                        &stamp(jiff::Timestamp::now()),
                        &buffer[..count],
                        &mut lines,
                    );
                    // A client that doesn't keep up with a megabyte is cut off rather than waited for.
                    output.listeners.retain(|fd| nix::unistd::write(fd, &buffer[..count]) == Ok(count));
                    continue;
                }
                Err(nix::errno::Errno::EINTR) => continue,
                Err(nix::errno::Errno::EAGAIN) => {}
                // A terminal whose other side is closed.
                Err(_) => open = false,
            }
            break;
        }
        if !open {
            output.lines.finish(output.stream, &stamp(jiff::Timestamp::now()), &mut lines);
        }
        if let Some(log) = &mut self.log
            && let Err(error) = log.write(&lines)
        {
            tracing::error!(%error, "cannot write a container's log");
        }
        open
    }

    /// The first process ended: takes the rest of the output, decides the reason, saves the state.
    pub fn ended(
        &mut self,
        sandbox: &SandboxRecord,
        pod: &PodDir<'_>,
        code: i32,
        signal: Option<i32>,
    ) -> Exit {
        for index in 0..self.outputs.len() {
            if self.pump(index, 16 << 20) {
                let (now, mut lines) = (stamp(jiff::Timestamp::now()), Vec::new());
                let output = &mut self.outputs[index];
                output.lines.finish(output.stream, &now, &mut lines);
                let _ = self.log.as_mut().map(|log| log.write(&lines));
            }
        }
        let started_at = match &self.state {
            ContainerState::Running { started_at, .. } => *started_at,
            _ => self.record.created_at,
        };
        let reason = match code {
            0 => "Completed",
            _ if out_of_memory(&sandbox.cgroup_path.join(&self.record.id.0)) => "OOMKilled",
            _ => "Error",
        };
        let exit = Exit {
            code,
            signal,
            reason: reason.into(),
            message: String::new(),
            started_at,
            finished_at: jiff::Timestamp::now(),
        };
        self.state = ContainerState::Exited(exit.clone());
        self.outputs.clear();
        self.stdin = None;
        self.terminal = None;
        self.log = None;
        self.save(pod);
        exit
    }

    /// Releases cgroups and mounts of an ended container.
    pub fn release(&mut self, pod: &PodDir<'_>) {
        self.outputs.clear();
        let oci = pod.oci().join(&self.record.id.0);
        if oci.exists() {
            let deleted = OciContainer::load(oci.clone()).and_then(|mut container| container.delete(true));
            if let Err(error) = deleted {
                tracing::warn!(id = %self.record.id, %error, "deleting a container");
                let _ = fs::remove_dir_all(oci);
            }
        }
        rootfs::unmount_below(&pod.container(&self.record.id));
    }

    fn save(&self, pod: &PodDir<'_>) {
        let path = pod.container(&self.record.id).join("state.json");
        let text = serde_json::to_vec(&self.state).unwrap_or_default();
        if let Err(error) = write_atomic(&path, &text) {
            tracing::error!(path = %path.display(), %error, "cannot save a container's state");
        }
    }
}

impl Output {
    fn new(stream: Stream, fd: OwnedFd) -> Result<Self, Failure> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(Failure::new)?;
        Ok(Self { stream, fd, listeners: Vec::new(), lines: Lines::default() })
    }
}

/// A socket on which libcontainer hands over a terminal.
pub struct Console {
    /// Where libcontainer connects.
    pub path: PathBuf,
    /// Where the terminal arrives.
    pub listener: UnixListener,
}

impl Console {
    /// Listens beside the shim's own socket.
    pub fn listen(sandbox: &SandboxRecord) -> Result<Self, Failure> {
        let path = sandbox.socket.with_extension("tty");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        Ok(Self { path, listener })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn build(builder: ContainerBuilder, dir: &Path) -> Result<OciContainer, Failure> {
    builder.as_init(dir).with_systemd(false).with_detach(true).build().map_err(describe)
}

/// Who a container runs as and what it can be given.
pub fn facts(record: &ContainerRecord, root: &Path) -> Result<Facts, Failure> {
    let passwd = rootfs::read_inside(root, "/etc/passwd");
    let group = rootfs::read_inside(root, "/etc/group");
    let identity =
        user::resolve(&record.image.user, &record.spec.security, &passwd, &group).map_err(Failure::new)?;
    Ok(Facts { identity, available: setup::available_capabilities(), pid_namespace: None })
}

/// The PID namespace of another container of the pod.
fn pid_namespace(pod: &PodDir<'_>, of: &ContainerId) -> Result<PathBuf, Failure> {
    let state = fs::read(pod.container(of).join("state.json")).ok();
    match state.and_then(|text| serde_json::from_slice(&text).ok()) {
        Some(ContainerState::Running { pid, .. }) => Ok(PathBuf::from(format!("/proc/{pid}/ns/pid"))),
        _ => Err(Failure::new("the container whose processes it is to see does not run")),
    }
}

/// Waits until the program has taken over or says why it can't.
pub fn reported(report: OwnedFd) -> Result<(), Failure> {
    let mut text = String::new();
    fs::File::from(report).read_to_string(&mut text).map_err(Failure::new)?;
    match text.split_once(' ') {
        None => Ok(()),
        Some((code, message)) => {
            Err(Failure { message: message.to_owned(), code: code.parse().unwrap_or(128) })
        }
    }
}

/// An error of libcontainer with its causes.
pub fn describe(error: impl std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    Failure::new(text)
}

/// Ends a process that never became the container's program.
pub fn kill_and_reap(pid: i32) {
    let pid = Pid::from_raw(pid);
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    let _ = nix::sys::wait::waitpid(pid, None);
}

fn termination_log(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::File::create(path)?.flush()?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

/// Whether the kernel killed something in this cgroup for want of memory.
fn out_of_memory(cgroup: &Path) -> bool {
    let relative = cgroup.strip_prefix("/").unwrap_or(cgroup);
    let files = [
        Path::new("/sys/fs/cgroup/memory").join(relative).join("memory.oom_control"),
        Path::new("/sys/fs/cgroup").join(relative).join("memory.events"),
    ];
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).any(|text| {
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count > 0)
    })
}

/// A duplicate for handing over.
pub fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Failure> {
    fd.as_fd().try_clone_to_owned().map_err(Failure::new)
}
