//! Where the running kernel keeps what programs read of a socket, from the type information that it gives of itself.
//!
//! The crates that read it make an object of each of its 160,000 types, which takes tens of milliseconds and megabytes;
//! this passes over all but two.

use std::sync::OnceLock;

use crate::abi;

/// Where kernels tell of their types.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;

/// Those of the running kernel, or zeroes.
pub(crate) fn of_this_kernel() -> &'static abi::SocketFields {
    static FOUND: OnceLock<abi::SocketFields> = OnceLock::new();
    FOUND.get_or_init(|| {
        let found = std::fs::read(KERNEL_TYPES).ok().and_then(|types| find(&types));
        found.unwrap_or_else(|| {
            tracing::warn!("{KERNEL_TYPES} does not tell where bytes of connections are counted");
            abi::SocketFields::default()
        })
    })
}

/// As the program has them.
pub(crate) fn bytes(fields: &abi::SocketFields) -> Vec<u8> {
    let abi::SocketFields { cookie, bytes_received, bytes_acked, write_seq, snd_una } = *fields;
    [cookie, bytes_received, bytes_acked, write_seq, snd_una].map(u32::to_ne_bytes).concat()
}

/// Offsets of the fields that `bpf/carried.h` reads; `None` if the kernel does not tell.
fn find(types: &[u8]) -> Option<abi::SocketFields> {
    let types = Types::read(types)?;
    // What all sockets begin with.
    let (common, tcp) = (types.fields_of(b"sock_common")?, types.fields_of(b"tcp_sock")?);
    let offset = |fields: &[(&[u8], u32)], name: &[u8]| {
        fields.iter().find(|(field, _)| *field == name).map(|(_, offset)| *offset)
    };
    Some(abi::SocketFields {
        cookie: offset(&common, b"skc_cookie")?,
        bytes_received: offset(&tcp, b"bytes_received")?,
        bytes_acked: offset(&tcp, b"bytes_acked")?,
        write_seq: offset(&tcp, b"write_seq")?,
        snd_una: offset(&tcp, b"snd_una")?,
    })
}

/// The two sections of type information: types, and their names.
struct Types<'a> {
    types: &'a [u8],
    names: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl<'a> Types<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        let section = |at: usize| {
            let (from, length) = (word(bytes, at)? as usize, word(bytes, at + 4)? as usize);
            bytes.get(header..)?.get(from..)?.get(..length)
        };
        Some(Self { types: section(8)?, names: section(16)? })
    }

    fn name(&self, at: u32) -> Option<&'a [u8]> {
        self.names.get(at as usize..)?.split(|byte| *byte == 0).next()
    }

    /// The fields of a struct with their offsets in bytes.
    fn fields_of(&self, wanted: &[u8]) -> Option<Vec<(&'a [u8], u32)>> {
        let mut at = 0;
        loop {
            let (name, info) = (word(self.types, at)?, word(self.types, at + 4)?);
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let begin = at + 12;
            at = begin + rest_of(kind, count)?;
            if kind == STRUCT && self.name(name)? == wanted {
                let field = |field: &[u8]| {
                    // With bit fields among them, the upper byte is the width of such.
                    let bits = word(field, 8)? & if info >> 31 == 1 { 0xff_ffff } else { u32::MAX };
                    Some((self.name(word(field, 0)?)?, bits / 8))
                };
                return self.types.get(begin..at)?.chunks(12).map(field).collect();
            }
        }
    }
}

/// How many bytes follow the three words that every type begins with.
fn rest_of(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Integers, variables, tags.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Structs, unions, sections, wide enumerations.
        4 | 5 | 15 | 19 => 12 * count,
        // Enumerations, and signatures of functions.
        6 | 13 => 8 * count,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_tells_and_what_is_cut_tells_nothing() {
        let types = std::fs::read(KERNEL_TYPES).expect("a kernel with type information");
        let found = find(&types).expect("told");
        let all = [found.cookie, found.bytes_received, found.bytes_acked, found.write_seq, found.snd_una];
        assert!(all.iter().all(|offset| (1..8192).contains(offset)), "{found:?}");
        assert_ne!(found.bytes_received, found.bytes_acked);
        for length in [0, 1, 2, 24, 100, 4096, types.len() / 2] {
            assert_eq!(find(&types[..length]), None, "cut to {length} bytes");
        }
        let mut odd = types.clone();
        odd[24 + 4 + 3] = 0xff;
        assert_eq!(find(&odd), None, "of an unknown kind");
    }

    #[test]
    fn bytes_are_those_of_the_program() {
        let fields =
            abi::SocketFields { cookie: 5, bytes_received: 1, bytes_acked: 2, write_seq: 3, snd_una: 4 };
        let words: Vec<u32> =
            bytes(&fields).as_chunks::<4>().0.iter().map(|b| u32::from_ne_bytes(*b)).collect();
        assert_eq!(words, [5, 1, 2, 3, 4]);
    }
}
