//! Maglev tables: nodes that know the same backends choose the same one for the same flow, without a word
//! to each other, and a backend that goes takes along hardly more than its own entries.
//!
//! 1. A backend wants entries in an order of its own, a permutation that its address and port alone decide.
//! 2. Round by round, each backend with room asks for its next entry, and gets it if nobody has it. Two
//!    that ask for the same entry in one round go by hash.
//! 3. A backend has room for the mean and 2 %, and never for less than the mean rounded up.
//!
//! The turns of the original paper, where a backend asks on until it gets an entry, balance to one entry,
//! but tie every turn to all turns before: at 65,537 entries and 100 backends 1.57 % of all entries change
//! when one backend goes. With rounds 1.08 % do, of which 1 % must.

use std::net::IpAddr;

use crate::hash::{fnv1a, mix};

/// Each but the last with the most backends that it is for: about 100 entries per backend.
const SIZES: [(usize, u32); 5] = [(2, 251), (10, 1021), (40, 4093), (160, 16381), (usize::MAX, 65537)];
/// How far above the mean a backend's entries may be, in percent.
const EXCESS: u64 = 2;
const FREE: u16 = u16::MAX;
/// How many backends a table can name.
pub const MOST_BACKENDS: usize = FREE as usize;

/// How many entries the table for so many backends has: a prime, or 0 for no backend.
pub fn table_size(backends: usize) -> u32 {
    match SIZES.iter().find(|(most, _)| backends <= *most) {
        Some((_, size)) if backends > 0 => *size,
        _ => 0,
    }
}

/// A table of `size` entries, each an index into `backends`. Which backend has an entry does not depend on
/// the order of `backends`. Those from the 65,536th on get no entry, as no index could name them. Empty
/// without backends.
pub fn table(backends: &[(IpAddr, u16)], size: u32) -> Vec<u16> {
    let backends = &backends[..backends.len().min(MOST_BACKENDS)];
    if backends.is_empty() || size == 0 {
        return Vec::new();
    }
    let mean_up = size.div_ceil(backends.len() as u32);
    let with_excess = u64::from(size) * (100 + EXCESS) / (100 * backends.len() as u64);
    let room = mean_up.max(with_excess as u32);
    let mut asking: Vec<Asking> =
        (0_u16..).zip(backends).map(|(index, b)| Asking::new(index, b, size, room)).collect();
    asking.sort_unstable_by_key(|backend| (backend.hash, backends[usize::from(backend.index)]));

    let mut entries = vec![FREE; size as usize];
    let mut free = size;
    while free > 0 {
        let mut somebody_full = false;
        for backend in &mut asking {
            let entry = &mut entries[backend.next as usize];
            if *entry == FREE && backend.room > 0 {
                *entry = backend.index;
                backend.room -= 1;
                free -= 1;
                somebody_full |= backend.room == 0;
            }
            backend.advance(size);
        }
        if somebody_full {
            asking.retain(|backend| backend.room > 0);
        }
    }
    entries
}

/// A backend on its way through its permutation of the entries.
struct Asking {
    hash: u64,
    next: u64,
    skip: u64,
    room: u32,
    index: u16,
}

impl Asking {
    fn new(index: u16, (ip, port): &(IpAddr, u16), size: u32, room: u32) -> Self {
        let port = port.to_be_bytes();
        let hash = match ip {
            IpAddr::V4(ip) => fnv1a(ip.octets().into_iter().chain(port)),
            IpAddr::V6(ip) => fnv1a(ip.octets().into_iter().chain(port)),
        };
        let hash = mix(hash);
        let size = u64::from(size);
        let mut skip = 1 + mix(!hash) % (size - 1).max(1);
        while gcd(skip, size) != 1 {
            skip += 1; // Only where `size` is no prime.
        }
        Self { hash, next: hash % size, skip, room, index }
    }

    fn advance(&mut self, size: u32) {
        self.next += self.skip;
        if self.next >= u64::from(size) {
            self.next -= u64::from(size);
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
