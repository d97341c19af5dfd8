//! Header blocks: name and value pairs, compressed by one zlib stream per direction that lives as long as the
//! connection.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;
use super::dictionary::dictionary;

/// Names in lower case, and values.
pub type Headers = Vec<(String, String)>;

/// Longest header block, uncompressed, in bytes: streams of ours have a handful of short headers.
const LONGEST: usize = 64 << 10;

/// Reads header blocks, in the order they came.
pub struct Inflater(Decompress);

impl Inflater {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub fn read(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let failed = |e: &dyn std::fmt::Display| SpdyError::Compression(e.to_string());
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let before = self.0.total_in();
            let done = self.0.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            rest = &rest[usize::try_from(self.0.total_in() - before).unwrap_or(rest.len()).min(rest.len())..];
            match done {
                Err(e) if e.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(|e| failed(&e))?;
                    continue;
                }
                Err(e) => return Err(failed(&e)),
                Ok(Status::StreamEnd) => break,
                Ok(Status::BufError | Status::Ok) => {}
            }
            if plain.len() < plain.capacity() {
                break;
            }
            if plain.len() > LONGEST {
                return Err(SpdyError::TooLong(plain.len()));
            }
            plain.reserve(4096);
        }
        parse(&plain)
    }
}

fn parse(plain: &[u8]) -> Result<Headers, SpdyError> {
    let mut at = plain;
    let count = take_number(&mut at)?;
    // Each pair has eight bytes of lengths.
    if count as usize > at.len() / 8 {
        return Err(SpdyError::Malformed("more headers than fit"));
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = take_text(&mut at)?.to_lowercase();
        headers.push((name, take_text(&mut at)?));
    }
    Ok(headers)
}

fn take_number(at: &mut &[u8]) -> Result<u32, SpdyError> {
    let (bytes, rest) =
        at.split_first_chunk::<4>().ok_or(SpdyError::Malformed("a header block is cut off"))?;
    *at = rest;
    Ok(u32::from_be_bytes(*bytes))
}

fn take_text(at: &mut &[u8]) -> Result<String, SpdyError> {
    let length = take_number(at)? as usize;
    let (text, rest) =
        at.split_at_checked(length).ok_or(SpdyError::Malformed("a header block is cut off"))?;
    *at = rest;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Writes header blocks.
pub struct Deflater(Compress);

impl Deflater {
    pub fn new() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        // Fails only after the first bytes.
        let _ = compress.set_dictionary(&dictionary());
        Self(compress)
    }

    pub fn write(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let mut rest = plain.as_slice();
        loop {
            let before = self.0.total_in();
            let done = self.0.compress_vec(rest, &mut block, FlushCompress::Sync);
            rest = &rest[usize::try_from(self.0.total_in() - before).unwrap_or(rest.len()).min(rest.len())..];
            if done.is_err() || (rest.is_empty() && block.len() < block.capacity()) {
                return block;
            }
            block.reserve(256);
        }
    }
}
