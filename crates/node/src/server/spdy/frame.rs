//! Frames of SPDY/3.1 as bytes. Pure.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::SpdyError;
use super::headers::{Deflater, Headers, Inflater};

/// Longest payload that is accepted, in bytes.
const LONGEST: usize = 1 << 20;
/// Longest payload of a data frame that is sent.
pub const CHUNK: usize = 32 << 10;
const VERSION: u16 = 3;
const FIN: u8 = 1;

/// What both sides say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    /// Ends a stream at once.
    Reset {
        id: u32,
        status: u32,
    },
    Ping(u32),
    GoAway {
        last: u32,
        status: u32,
    },
    Headers {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    Data {
        id: u32,
        fin: bool,
        bytes: Bytes,
    },
    /// Settings, window updates and what later versions may know: without meaning here.
    Other(u16),
}

/// Reads frames out of bytes as they come.
pub struct Decoder {
    buffer: BytesMut,
    inflater: Inflater,
}

impl Decoder {
    pub fn new() -> Self {
        Self { buffer: BytesMut::new(), inflater: Inflater::new() }
    }

    /// Takes in what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    pub fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        let Some((header, _)) = self.buffer.split_first_chunk::<8>() else { return Ok(None) };
        let [a, b, c, d, flags, length @ ..] = *header;
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        if length > LONGEST {
            return Err(SpdyError::TooLong(length));
        }
        if self.buffer.len() < 8 + length {
            self.buffer.reserve(8 + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(8);
        let payload = self.buffer.split_to(length).freeze();
        let fin = flags & FIN != 0;
        if a & 0x80 == 0 {
            return Ok(Some(Frame::Data { id: number([a, b, c, d])?, fin, bytes: payload }));
        }
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
            return Err(SpdyError::Malformed("it is not of SPDY/3"));
        }
        self.control(u16::from_be_bytes([c, d]), fin, payload).map(Some)
    }

    fn control(&mut self, kind: u16, fin: bool, mut payload: Bytes) -> Result<Frame, SpdyError> {
        Ok(match kind {
            1 => {
                let id = take_id(&mut payload)?;
                // The associated stream, priority and slot.
                if payload.len() < 6 {
                    return Err(SpdyError::Malformed("SYN_STREAM is cut off"));
                }
                payload.advance(6);
                Frame::SynStream { id, fin, headers: self.inflater.read(&payload)? }
            }
            2 => Frame::SynReply { id: take_id(&mut payload)?, fin, headers: self.inflater.read(&payload)? },
            3 => Frame::Reset { id: take_id(&mut payload)?, status: take(&mut payload)? },
            6 => Frame::Ping(take(&mut payload)?),
            7 => Frame::GoAway { last: take(&mut payload)? & 0x7fff_ffff, status: take(&mut payload)? },
            8 => Frame::Headers { id: take_id(&mut payload)?, fin, headers: self.inflater.read(&payload)? },
            other => Frame::Other(other),
        })
    }
}

fn number(bytes: [u8; 4]) -> Result<u32, SpdyError> {
    match u32::from_be_bytes(bytes) & 0x7fff_ffff {
        0 => Err(SpdyError::Malformed("stream 0 does not exist")),
        id => Ok(id),
    }
}

fn take(payload: &mut Bytes) -> Result<u32, SpdyError> {
    payload.try_get_u32().map_err(|_| SpdyError::Malformed("a control frame is cut off"))
}

fn take_id(payload: &mut Bytes) -> Result<u32, SpdyError> {
    number(take(payload)?.to_be_bytes())
}

/// Writes frames; they must be sent in this order, because header blocks build on each other.
pub struct Encoder(Deflater);

impl Encoder {
    pub fn new() -> Self {
        Self(Deflater::new())
    }

    pub fn encode(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        match frame {
            Frame::SynStream { id, fin, headers } => {
                let block = self.0.write(headers);
                control(out, 1, *fin, 10 + block.len());
                out.put_u32(*id);
                out.put_slice(&[0; 6]);
                out.put_slice(&block);
            }
            Frame::SynReply { id, fin, headers } => self.with_headers(out, 2, *id, *fin, headers),
            Frame::Headers { id, fin, headers } => self.with_headers(out, 8, *id, *fin, headers),
            Frame::Reset { id, status } => {
                control(out, 3, false, 8);
                out.put_u32(*id);
                out.put_u32(*status);
            }
            Frame::Ping(id) => {
                control(out, 6, false, 4);
                out.put_u32(*id);
            }
            Frame::GoAway { last, status } => {
                control(out, 7, false, 8);
                out.put_u32(*last);
                out.put_u32(*status);
            }
            Frame::Data { id, fin, bytes } => {
                out.put_u32(*id & 0x7fff_ffff);
                flags_and_length(out, *fin, bytes.len());
                out.put_slice(bytes);
            }
            Frame::Other(kind) => control(out, *kind, false, 0),
        }
    }

    fn with_headers(&mut self, out: &mut Vec<u8>, kind: u16, id: u32, fin: bool, headers: &Headers) {
        let block = self.0.write(headers);
        control(out, kind, fin, 4 + block.len());
        out.put_u32(id);
        out.put_slice(&block);
    }
}

fn control(out: &mut Vec<u8>, kind: u16, fin: bool, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    flags_and_length(out, fin, length);
}

fn flags_and_length(out: &mut Vec<u8>, fin: bool, length: usize) {
    out.put_u32(u32::from(fin) << 24 | length as u32 & 0x00ff_ffff);
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
