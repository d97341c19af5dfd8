//! What a node process and a shim say to each other: JSON behind a four-byte little-endian length.
//!
//! One request per connection, except that `Subscribe` keeps getting events, and that a session's
//! connection later carries its exit code. Descriptors travel with the first byte of an answer.

use std::io::{self, IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::{Deserialize, Serialize};

use crate::image::ImageConfig;
use crate::runtime::{ContainerId, ContainerSpec, ContainerState, ExecSpec, Exit, PodLink, SandboxSpec};

/// Longest message in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Asked of a shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Answered by `States`, then by `Exited` whenever a container ends.
    Subscribe,
    /// Makes and starts the container whose record is on disk.
    Start { id: ContainerId },
    /// Sends a signal.
    Kill { id: ContainerId, signal: i32 },
    /// Kills if needed and releases mounts and cgroups.
    Remove { id: ContainerId },
    /// Runs a program; answered by `Session`, later by `Ended`.
    Exec { id: ContainerId, spec: ExecSpec },
    /// Connects to the container's streams; answered by `Session`, later by `Ended`.
    Attach { id: ContainerId, stdin: bool },
    /// Kills all containers and exits.
    Shutdown,
}

/// Answered by a shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Response {
    /// Done.
    Done,
    /// Not done.
    Failed(Failure),
    /// All containers it knows.
    States(Vec<(ContainerId, ContainerState)>),
    /// A container ended.
    Exited { id: ContainerId, exit: Exit },
    /// Streams; descriptors come along in this order: stdin, stdout, stderr, terminal.
    Session { stdin: bool, stdout: bool, stderr: bool, terminal: bool },
    /// The program of a session ended.
    Ended { code: i32 },
}

/// Why something was not done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// In words.
    pub message: String,
    /// 126 or 127 where a shell would say so, otherwise 128.
    pub code: i32,
}

impl Failure {
    /// A failure without a better code.
    pub fn new(message: impl ToString) -> Self {
        Self { message: message.to_string(), code: 128 }
    }
}

/// `sandbox.json`: everything that a restarted node process needs to adopt a pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// What was asked for.
    pub spec: SandboxSpec,
    /// The pod's addresses.
    #[serde(alias = "ip", with = "crate::runtime::addresses")]
    pub ips: daymark_model::PerFamily<std::net::IpAddr>,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// The node side of the link, once there is one.
    pub link: Option<PodLink>,
    /// Process id of the shim, once there is one.
    pub shim_pid: Option<i32>,
    /// The shim's socket.
    pub socket: PathBuf,
    /// The pod's directory in the cgroup v2 tree, absolute.
    pub cgroup_v2_dir: PathBuf,
    /// The pod's cgroup relative to the root of any hierarchy.
    pub cgroup_path: PathBuf,
}

/// `container.json`: everything that the shim needs to make a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id.
    pub id: ContainerId,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// What was asked for.
    pub spec: ContainerSpec,
    /// What the image says.
    pub image: ImageConfig,
    /// The image's layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Where its output goes.
    pub log_path: PathBuf,
}

/// Where things of a pod are below its directory.
pub struct PodDir<'a>(pub &'a Path);

impl PodDir<'_> {
    /// The pod's record.
    pub fn record(&self) -> PathBuf {
        self.0.join("sandbox.json")
    }
    /// A file that all containers see in `/etc`: `hosts`, `hostname` or `resolv.conf`.
    pub fn etc(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    /// The pod's `/dev/shm`.
    pub fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }
    /// State of libcontainer.
    pub fn oci(&self) -> PathBuf {
        self.0.join("oci")
    }
    /// All containers.
    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }
    /// One container: its OCI bundle, record, state and writable layer.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(&id.0)
    }
}

/// Takes one whole message off the front of `buffer`, if there is one.
pub fn take_message(buffer: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let Some(header) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*header) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let message = buffer[4..4 + length].to_vec();
    buffer.drain(..4 + length);
    Ok(Some(message))
}

/// A message with its length in front.
pub fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let mut framed = (body.len() as u32).to_le_bytes().to_vec();
    framed.extend(body);
    Ok(framed)
}

/// Sends a message with descriptors.
pub fn send(mut stream: &UnixStream, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let framed = frame(message)?;
    if fds.is_empty() {
        return stream.write_all(&framed);
    }
    let raw = fds.iter().map(AsRawFd::as_raw_fd).collect::<Vec<RawFd>>();
    let control = [ControlMessage::ScmRights(&raw)];
    let sent =
        sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&framed)], &control, MsgFlags::MSG_NOSIGNAL, None)?;
    stream.write_all(&framed[sent..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_at_their_length() {
        let mut buffer = frame(&Request::Shutdown).expect("encodes");
        buffer.extend(&frame(&Request::Subscribe).expect("encodes")[..6]);
        let first = take_message(&mut buffer).expect("valid").expect("complete");
        assert!(matches!(serde_json::from_slice(&first), Ok(Request::Shutdown)));
        assert!(take_message(&mut buffer).expect("valid").is_none());
    }

    #[test]
    fn a_huge_length_is_refused() {
        assert!(take_message(&mut vec![0xff; 8]).is_err());
    }
}
