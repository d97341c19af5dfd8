//! Talks to shims.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::shim::protocol::{Request, Response, frame, take_message};

/// A connection to a shim that has asked its one question.
pub struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects and asks.
    pub async fn ask(socket: &Path, request: &Request) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(&frame(request)?).await?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The next answer; `None` when the shim has closed the connection. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Option<Response>> {
        loop {
            if let Some(message) = take_message(&mut self.buffer)? {
                return Ok(Some(serde_json::from_slice(&message)?));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next answer with the descriptors that came along.
    pub async fn next_with_fds(&mut self) -> io::Result<(Option<Response>, Vec<OwnedFd>)> {
        let mut fds = Vec::new();
        loop {
            if let Some(message) = take_message(&mut self.buffer)? {
                return Ok((Some(serde_json::from_slice(&message)?), fds));
            }
            self.stream.readable().await?;
            let raw = self.stream.as_raw_fd();
            let received = self.stream.try_io(Interest::READABLE, || receive(raw));
            match received {
                Ok((bytes, _)) if bytes.is_empty() => return Ok((None, fds)),
                Ok((bytes, mut more)) => {
                    self.buffer.extend(bytes);
                    fds.append(&mut more);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Asks one question and takes one answer.
pub async fn call(socket: &Path, request: &Request) -> io::Result<Response> {
    let mut connection = Connection::ask(socket, request).await?;
    connection.next().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn receive(socket: RawFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(socket, &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for us alone.
            fds.extend(raw.iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }));
        }
    }
    let count = message.bytes;
    Ok((bytes[..count].to_vec(), fds))
}
