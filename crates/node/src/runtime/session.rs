//! Streams between a caller and a program in a container.

use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use super::RuntimeError;

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

/// The part of a session that is not a stream.
pub struct SessionControl {}

impl SessionControl {
    /// Tells the terminal its size; does nothing without one.
    pub fn resize(&self, _columns: u16, _rows: u16) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unavailable { what: "sessions".into() })
    }

    /// Waits for the program to end: its exit code, 128 + signal if a signal ended it.
    /// For attach this is the container's end. Cancel safe.
    pub async fn wait(&mut self) -> Result<i32, RuntimeError> {
        Err(RuntimeError::Unavailable { what: "sessions".into() })
    }
}
