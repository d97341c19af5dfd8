//! Reading compressed content while checking its digest.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Passes bytes through and computes their SHA-256.
pub struct HashReader<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> HashReader<R> {
    /// Starts with nothing read.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Reads to the end, whatever it holds, and gives `sha256:…` of everything.
    pub fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(format!("sha256:{}", hex::encode(self.hash.finalize())))
    }
}

impl<R: Read> Read for HashReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// `sha256:…` of bytes in memory.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Decompresses gzip and zstd by their first bytes; anything else passes as it is.
pub fn decompress<'a>(mut stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::with_capacity(6);
    stream.by_ref().take(6).read_to_end(&mut magic)?;
    let compressed = |name: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{name} compression is not supported, use gzip or zstd"),
        )
    };
    let kind = (magic.starts_with(&[0x1f, 0x8b]), magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    if magic.starts_with(b"BZh") {
        return Err(compressed("bzip2"));
    }
    if magic.starts_with(&[0xfd, b'7', b'z', b'X', b'Z']) {
        return Err(compressed("xz"));
    }
    let whole = io::Cursor::new(magic).chain(stream);
    Ok(match kind {
        (true, _) => {
            Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::with_capacity(64 << 10, whole)))
        }
        (_, true) => Box::new(zstd::stream::read::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}
