//! Streams between a caller and a program in a container.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::RuntimeError;
use super::client::Connection;
use crate::shim::protocol::Response;

/// Bytes towards a container. Dropping it is end of file.
pub type StreamWriter = Pin<Box<dyn AsyncWrite + Send>>;
/// Bytes from a container.
pub type StreamReader = Pin<Box<dyn AsyncRead + Send>>;

/// A running exec or attach. The streams may be taken out and moved to tasks; dropping
/// [`ExecSession::control`] kills an exec'd program that still runs (an attached container lives on).
pub struct ExecSession {
    /// Present if asked for.
    pub stdin: Option<StreamWriter>,
    /// Always present.
    pub stdout: Option<StreamReader>,
    /// Absent with a terminal.
    pub stderr: Option<StreamReader>,
    /// Resize and wait.
    pub control: SessionControl,
}

impl ExecSession {
    /// Takes the descriptors that a shim handed over.
    pub(super) fn new(connection: Connection, answer: &Response, fds: Vec<OwnedFd>) -> io::Result<Self> {
        let Response::Session { stdin, stdout, stderr, terminal } = answer else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a session"));
        };
        let mut fds = fds.into_iter();
        let mut take = |wanted: &bool| match (wanted, wanted.then(|| fds.next()).flatten()) {
            (true, None) => Err(io::Error::new(io::ErrorKind::InvalidData, "a descriptor is missing")),
            (_, fd) => Ok(fd),
        };
        let (mut stdin, mut stdout, stderr, terminal) =
            (take(stdin)?, take(stdout)?, take(stderr)?, take(terminal)?);
        if let Some(terminal) = &terminal {
            // A terminal of one's own carries both directions.
            if stdin.is_none() && stdout.is_none() {
                stdin = Some(terminal.try_clone()?);
            }
            if stdout.is_none() {
                stdout = Some(terminal.try_clone()?);
            }
        }
        let stream = |fd: Option<OwnedFd>| fd.map(Stream::new).transpose();
        Ok(Self {
            stdin: stream(stdin)?.map(|stream| Box::pin(stream) as StreamWriter),
            stdout: stream(stdout)?.map(|stream| Box::pin(stream) as StreamReader),
            stderr: stream(stderr)?.map(|stream| Box::pin(stream) as StreamReader),
            control: SessionControl { connection, terminal, code: None },
        })
    }
}

/// The part of a session that is not a stream.
pub struct SessionControl {
    connection: Connection,
    terminal: Option<OwnedFd>,
    code: Option<i32>,
}

impl SessionControl {
    /// Tells the terminal its size; does nothing without one.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<(), RuntimeError> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the size lives as long as the call.
        let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        if result == 0 {
            return Ok(());
        }
        Err(RuntimeError::Io { what: "resizing a terminal".into(), cause: io::Error::last_os_error() })
    }

    /// Waits for the program to end: its exit code, 128 + signal if a signal ended it.
    /// For attach this is the container's end. Cancel safe; may be called again.
    pub async fn wait(&mut self) -> Result<i32, RuntimeError> {
        if let Some(code) = self.code {
            return Ok(code);
        }
        let what = || "waiting for a program in a container".to_owned();
        match self.connection.next().await {
            Ok(Some(Response::Ended { code })) => {
                self.code = Some(code);
                Ok(code)
            }
            Ok(_) => {
                let cause = io::Error::new(io::ErrorKind::UnexpectedEof, "the pod has gone");
                Err(RuntimeError::Io { what: what(), cause })
            }
            Err(cause) => Err(RuntimeError::Io { what: what(), cause }),
        }
    }
}

/// One descriptor (pipe or terminal) as an asynchronous stream.
struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // SAFETY: the descriptor is owned, never replaced and closed only with the registration.
        Ok(Self(unsafe { AsyncFd::register(fd)? }))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let result = guard.try_io(|fd| {
                let count = nix::unistd::read(fd.get_ref(), buffer.initialize_unfilled());
                Ok(count?)
            });
            match result {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // The other side of a terminal is closed: that is its end.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
