//! The shim's loop: one thread that waits for requests, output and ended processes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::container::Container;
use super::exec::{self, Handover};
use super::protocol::{
    ContainerRecord, Failure, PodDir, Request, Response, SandboxRecord, send, take_message,
};
use crate::runtime::{ContainerId, ContainerState};

/// How much output of one container is taken before others get their turn, in bytes.
const TURN: usize = 64 << 10;

/// A pod's shim.
pub struct Server {
    record: SandboxRecord,
    dir: PathBuf,
    listener: UnixListener,
    signals: SignalFd,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    containers: BTreeMap<ContainerId, Container>,
    closing: bool,
}

struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
    role: Role,
}

/// What a connection is for, once it has asked.
#[derive(Clone, Debug, PartialEq)]
enum Role {
    Asking,
    Subscriber,
    /// The process that an exec started: it ends with its client.
    Exec(i32),
    /// An attached client waits for the container's end.
    Attached(ContainerId),
}

enum Token {
    Signal,
    Listener,
    Client(u64),
    Output(ContainerId, usize),
}

impl Server {
    /// Listens on the record's socket. Signals must be blocked already.
    pub fn new(record: SandboxRecord, dir: PathBuf, mask: &SigSet) -> std::io::Result<Self> {
        let _ = fs::remove_file(&record.socket);
        let listener = UnixListener::bind(&record.socket)?;
        listener.set_nonblocking(true)?;
        let signals = SignalFd::with_flags(mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let (clients, containers) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { record, dir, listener, signals, clients, next_client: 0, containers, closing: false })
    }

    /// Serves until told to shut down.
    pub fn run(mut self) {
        while !self.closing {
            for token in self.wait() {
                match token {
                    Token::Signal => self.signal(),
                    Token::Listener => self.accept(),
                    Token::Client(id) => self.client(id),
                    Token::Output(id, index) => self.output(&id, index),
                }
            }
        }
        self.close();
    }

    fn wait(&self) -> Vec<Token> {
        let mut tokens = vec![Token::Signal, Token::Listener];
        let readable = PollFlags::POLLIN;
        let mut fds =
            vec![PollFd::new(self.signals.as_fd(), readable), PollFd::new(self.listener.as_fd(), readable)];
        for (id, client) in &self.clients {
            tokens.push(Token::Client(*id));
            fds.push(PollFd::new(client.stream.as_fd(), readable));
        }
        for (id, container) in &self.containers {
            for (index, output) in container.outputs.iter().enumerate() {
                tokens.push(Token::Output(id.clone(), index));
                fds.push(PollFd::new(output.fd.as_fd(), readable));
            }
        }
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            return Vec::new();
        }
        let ready = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect::<Vec<_>>();
        // Streams that ended are taken out of their list, so later ones go first.
        let mut ready =
            tokens.into_iter().zip(ready).filter_map(|(token, yes)| yes.then_some(token)).collect::<Vec<_>>();
        ready.reverse();
        ready
    }

    fn signal(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                self.closing = true;
            }
        }
        self.reap();
    }

    fn reap(&mut self) {
        loop {
            let (pid, code, signal) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32, Some(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            self.process_ended(pid.as_raw(), code, signal);
        }
    }

    fn process_ended(&mut self, pid: i32, code: i32, signal: Option<i32>) {
        let running = |container: &Container| matches!(container.state, ContainerState::Running { pid: p, .. } if p == pid);
        let found =
            self.containers.iter().find(|(_, container)| running(container)).map(|(id, _)| id.clone());
        if let Some(id) = found {
            let pod = PodDir(&self.dir);
            let Some(container) = self.containers.get_mut(&id) else { return };
            let exit = container.ended(&self.record, &pod, code, signal);
            let event = Response::Exited { id: id.clone(), exit };
            self.clients.retain(|_, client| match &client.role {
                Role::Subscriber => send(&client.stream, &event, &[]).is_ok(),
                Role::Attached(attached) if *attached == id => {
                    let _ = send(&client.stream, &Response::Ended { code }, &[]);
                    false
                }
                _ => true,
            });
            return;
        }
        self.clients.retain(|_, client| {
            if client.role != Role::Exec(pid) {
                return true;
            }
            let _ = send(&client.stream, &Response::Ended { code }, &[]);
            false
        });
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            // Reads happen only when there is something; a client that doesn't read is given up.
            let _ = stream.set_write_timeout(Some(Duration::from_secs(2)));
            self.clients.insert(self.next_client, Client { stream, buffer: Vec::new(), role: Role::Asking });
            self.next_client += 1;
        }
    }

    fn client(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let mut chunk = [0; 8 << 10];
        let count = client.stream.read(&mut chunk).unwrap_or(0);
        client.buffer.extend_from_slice(&chunk[..count]);
        if count == 0 {
            if let Role::Exec(pid) = client.role {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            self.clients.remove(&id);
            return;
        }
        match take_message(&mut client.buffer) {
            Ok(Some(message)) => {
                let kept = match serde_json::from_slice(&message) {
                    Ok(request) => self.handle(id, request),
                    Err(error) => self.answer(id, &Response::Failed(Failure::new(error))),
                };
                if !kept {
                    self.clients.remove(&id);
                }
            }
            Ok(None) => {}
            Err(_) => drop(self.clients.remove(&id)),
        }
    }

    /// Answers a request; returns whether the connection is kept.
    fn handle(&mut self, client: u64, request: Request) -> bool {
        let done = |result: Result<(), Failure>| match result {
            Ok(()) => Response::Done,
            Err(failure) => Response::Failed(failure),
        };
        match request {
            Request::Subscribe => {
                self.role(client, Role::Subscriber);
                let states = self.containers.iter().map(|(id, c)| (id.clone(), c.state.clone())).collect();
                self.answer(client, &Response::States(states))
            }
            Request::Start { id } => {
                let result = self.start(&id);
                self.answer(client, &done(result))
            }
            Request::Kill { id, signal } => {
                let result = self.kill(&id, signal);
                self.answer(client, &done(result))
            }
            Request::Remove { id } => {
                self.remove(&id);
                self.answer(client, &Response::Done)
            }
            Request::Exec { .. } if self.has_left(client) => false,
            Request::Exec { id, spec } => {
                let pod = PodDir(&self.dir);
                let container = self.containers.get(&id).ok_or_else(|| unknown(&id));
                match container.and_then(|container| exec::exec(&self.record, &pod, container, &spec)) {
                    Ok((pid, handover)) => {
                        self.role(client, Role::Exec(pid));
                        let kept = self.hand_over(client, &handover);
                        if !kept {
                            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                        }
                        kept
                    }
                    Err(failure) => self.answer(client, &Response::Failed(failure)),
                }
            }
            Request::Attach { id, stdin } => {
                let container = self.containers.get_mut(&id).ok_or_else(|| unknown(&id));
                match container.and_then(|container| exec::attach(container, stdin)) {
                    Ok(handover) => {
                        self.role(client, Role::Attached(id));
                        self.hand_over(client, &handover)
                    }
                    Err(failure) => self.answer(client, &Response::Failed(failure)),
                }
            }
            Request::Shutdown => {
                self.close();
                self.closing = true;
                self.answer(client, &Response::Done)
            }
        }
    }

    /// Whether the client has gone since it asked.
    fn has_left(&self, client: u64) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let peek = |client: &Client| recv(client.stream.as_raw_fd(), &mut [0], flags);
        self.clients.get(&client).is_none_or(|client| peek(client) == Ok(0))
    }

    fn role(&mut self, client: u64, role: Role) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.role = role;
        }
    }

    fn answer(&self, client: u64, response: &Response) -> bool {
        self.clients.get(&client).is_some_and(|client| send(&client.stream, response, &[]).is_ok())
    }

    fn hand_over(&self, client: u64, handover: &Handover) -> bool {
        self.clients
            .get(&client)
            .is_some_and(|client| send(&client.stream, &handover.answer(), &handover.fds()).is_ok())
    }

    fn start(&mut self, id: &ContainerId) -> Result<(), Failure> {
        if self.containers.contains_key(id) {
            return Err(Failure::new(format!("container {id} was started before")));
        }
        let pod = PodDir(&self.dir);
        let path = pod.container(id).join("container.json");
        let text = fs::read(&path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        let record: ContainerRecord = serde_json::from_slice(&text)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        let (container, result) = Container::start(&self.record, &pod, record);
        self.containers.insert(id.clone(), container);
        result
    }

    fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), Failure> {
        let container = self.containers.get(id).ok_or_else(|| unknown(id))?;
        let ContainerState::Running { pid, .. } = container.state else { return Ok(()) };
        let signal =
            Signal::try_from(signal).map_err(|_| Failure::new(format!("there is no signal {signal}")))?;
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(Failure::new(error)),
        }
    }

    fn remove(&mut self, id: &ContainerId) {
        self.finish(id);
        if let Some(mut container) = self.containers.remove(id) {
            container.release(&PodDir(&self.dir));
        }
    }

    /// Kills a container and takes note of its end.
    fn finish(&mut self, id: &ContainerId) {
        let Some(ContainerState::Running { pid, .. }) = self.containers.get(id).map(|c| c.state.clone())
        else {
            return;
        };
        let process = Pid::from_raw(pid);
        let _ = kill(process, Signal::SIGKILL);
        let (code, signal) = match waitpid(process, None) {
            Ok(WaitStatus::Exited(_, code)) => (code, None),
            Ok(WaitStatus::Signaled(_, signal, _)) => (128 + signal as i32, Some(signal as i32)),
            _ => (137, Some(9)),
        };
        self.process_ended(pid, code, signal);
    }

    fn output(&mut self, id: &ContainerId, index: usize) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if index < container.outputs.len() && !container.pump(index, TURN) {
            container.outputs.remove(index);
        }
    }

    fn close(&mut self) {
        for id in self.containers.keys().cloned().collect::<Vec<_>>() {
            self.remove(&id);
        }
        let _ = fs::remove_file(&self.record.socket);
    }
}

fn unknown(id: &ContainerId) -> Failure {
    Failure::new(format!("container {id} does not run in this pod"))
}
