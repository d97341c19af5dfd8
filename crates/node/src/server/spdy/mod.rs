//! SPDY/3.1 as Kubernetes' streaming clients speak it: frames, header compression, streams over one connection.
//! No crate speaks it any more; this is the server's half, without push, settings and flow control, none of which
//! those clients use.

mod connection;
mod dictionary;
pub mod frame;
mod headers;

pub use connection::{Connection, Stream};

/// What a peer did that ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    #[error("a frame is malformed: {0}")]
    Malformed(&'static str),
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("the header block cannot be decompressed: {0}")]
    Compression(String),
}
