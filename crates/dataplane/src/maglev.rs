//! Maglev tables in the kernel: pieces of a Service's table, under the parity of the slots that they name.

use std::net::IpAddr;
use std::path::Path;

use daymark_plan::maglev;
use daymark_plan::tables::{ServiceEntry, ServiceId};

use crate::abi;
use crate::error::MapError;
use crate::map::Map;

/// How many entries an entry's Maglev table has; 0 without one.
pub(crate) fn size(entry: &ServiceEntry) -> u32 {
    if entry.maglev { maglev::table_size(offered(entry).len()) } else { 0 }
}

fn offered(entry: &ServiceEntry) -> Vec<(IpAddr, u16)> {
    entry.slots.iter().skip(entry.cluster_from as usize).map(|slot| (slot.ip, slot.port)).collect()
}

/// How many pieces a table of so many entries has.
pub(crate) fn chunks_of(size: u32) -> u32 {
    size.div_ceil(abi::MAGLEV_CHUNK)
}

/// The pieces of an entry's table.
pub(crate) fn chunks(entry: &ServiceEntry) -> Vec<abi::MaglevChunk> {
    let entries = maglev::table(&offered(entry), size(entry));
    let pieces = entries.chunks(abi::MAGLEV_CHUNK as usize).map(|piece| {
        let mut chunk = abi::MaglevChunk::default();
        for (pair, two) in chunk.pairs.iter_mut().zip(piece.chunks(2)) {
            let [first, second] = [two[0], two.get(1).copied().unwrap_or(0)].map(u16::to_ne_bytes);
            *pair = u32::from_ne_bytes([first[0], first[1], second[0], second[1]]);
        }
        chunk
    });
    pieces.collect()
}

fn key(service: ServiceId, generation: u32, chunk: u32) -> abi::MaglevKey {
    abi::MaglevKey { service, parity: generation & 1, chunk }
}

/// The map of all tables.
#[derive(Debug)]
pub(crate) struct MaglevTables {
    map: Map<abi::MaglevKey, abi::MaglevChunk>,
}

impl MaglevTables {
    pub fn open(maps: &Path) -> Result<Self, MapError> {
        Ok(Self { map: Map::open(maps, "maglev")? })
    }

    /// Writes an entry's table under a generation's parity, and returns its number of pieces.
    pub fn put(&self, id: ServiceId, entry: &ServiceEntry, generation: u32) -> Result<u32, MapError> {
        let chunks = if entry.maglev { chunks(entry) } else { Vec::new() };
        let keys: Vec<_> = (0..chunks.len() as u32).map(|chunk| key(id, generation, chunk)).collect();
        self.map.put_all(&keys, &chunks).map_err(|(_, error)| error)?;
        Ok(keys.len() as u32)
    }

    /// Deletes pieces of one parity.
    pub fn delete(
        &self,
        id: ServiceId,
        generation: u32,
        chunks: std::ops::Range<u32>,
    ) -> Result<(), MapError> {
        let keys: Vec<_> = chunks.map(|chunk| key(id, generation, chunk)).collect();
        self.map.delete_all(&keys)
    }

    /// Visits the key of every piece.
    pub fn for_each_key(&self, mut visit: impl FnMut(abi::MaglevKey)) -> Result<(), MapError> {
        self.map.for_each(|key, _| visit(key))
    }

    /// Whether the live table of an entry is the one that its slots lead to.
    pub fn is_right(&self, id: ServiceId, entry: &ServiceEntry, generation: u32) -> Result<bool, MapError> {
        for (chunk, want) in (0..).zip(chunks(entry)) {
            if self.map.get(&key(id, generation, chunk))? != Some(want) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use daymark_plan::tables::Slot;

    use super::*;

    #[test]
    fn pieces_hold_the_table_entry_by_entry() {
        let slot = |last: u8| Slot { ip: IpAddr::from([10, 0, 0, last]), port: 80, local: false };
        let entry = ServiceEntry { slots: vec![slot(1), slot(2)], maglev: true, ..ServiceEntry::default() };
        let table = maglev::table(&offered(&entry), 251);
        let chunks = chunks(&entry);
        assert_eq!(chunks.len(), 4);
        for (index, wanted) in table.iter().enumerate() {
            let pair = chunks[index / 64].pairs[index % 64 / 2].to_ne_bytes();
            let at = index % 2 * 2;
            assert_eq!(u16::from_ne_bytes([pair[at], pair[at + 1]]), *wanted);
        }
    }

    #[test]
    fn an_entry_without_maglev_or_backends_has_no_table() {
        assert_eq!(size(&ServiceEntry { maglev: true, ..ServiceEntry::default() }), 0);
        let slot = Slot { ip: IpAddr::from([10, 0, 0, 1]), port: 80, local: false };
        assert_eq!(size(&ServiceEntry { slots: vec![slot], ..ServiceEntry::default() }), 0);
    }
}
