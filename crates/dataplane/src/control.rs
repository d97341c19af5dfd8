//! Puts operations into the control maps, and reads the tables back from them.
//!
//! The order of writes makes each operation atomic for packets: new slots go under the parity that is
//! not live, then one entry flips. The kernel's generation is our own counter, because the planner may
//! skip generations and a skipped one would have the live parity. A run of operations of one kind is
//! written in batches; the order between runs is kept.

mod addresses;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;

use daymark_plan::tables::{Frontend, FrontendKey, Op, ServiceEntry, ServiceId, Slot, Tables};
use ipnet::IpNet;

use crate::error::{ApplyError, Error, MapError};
use crate::maglev::{self, MaglevTables};
use crate::map::Map;
use crate::{abi, encode};
use addresses::Addresses;
pub(crate) use addresses::is_external;
use runs::{Run, next_run};

/// What must be known of a service to change it.
#[derive(Clone, Debug, Default)]
struct Live {
    generation: u32,
    /// Between which numbers there are slots apart from the service's own entry, under each parity.
    apart: [Range<u32>; 2],
    /// How many pieces of Maglev tables exist under each parity.
    chunks: [u32; 2],
}

impl Live {
    /// Notes slots that are there, or will be.
    fn hold(&mut self, generation: u32, slots: Range<u32>) {
        let held = &mut self.apart[(generation & 1) as usize];
        if held.start == held.end {
            *held = slots;
        } else if slots.start < slots.end {
            *held = held.start.min(slots.start)..held.end.max(slots.end);
        }
    }
}

/// The control maps and what was written to them.
#[derive(Debug)]
pub(crate) struct Control {
    frontends: Map<abi::FrontendKey, abi::Frontend>,
    services: Map<u32, abi::Service>,
    slots: Map<abi::SlotKey, abi::Slot>,
    maglev: MaglevTables,
    service_ips: Map<abi::Address, u32>,
    source_ranges: Map<abi::SourceRangeKey, u32>,
    live: BTreeMap<ServiceId, Live>,
    addresses: Addresses,
    ranges: BTreeMap<ServiceId, Vec<IpNet>>,
}

fn address(ip: IpAddr) -> abi::Address {
    abi::Address { ip: abi::ip_words(ip) }
}

fn source_range_key(service: ServiceId, range: IpNet) -> abi::SourceRangeKey {
    let (bits, ip) = abi::network_words(range);
    abi::SourceRangeKey { prefix_bits: 32 + bits, service, ip }
}

impl Control {
    /// Opens the pinned maps and reads what they hold.
    pub fn open(maps: &Path) -> Result<(Self, Tables), Error> {
        let mut control = Self {
            frontends: Map::open(maps, "frontends")?,
            services: Map::open(maps, "services")?,
            slots: Map::open(maps, "slots")?,
            maglev: MaglevTables::open(maps)?,
            service_ips: Map::open(maps, "service_ips")?,
            source_ranges: Map::open(maps, "source_ranges")?,
            live: BTreeMap::new(),
            addresses: Addresses::default(),
            ranges: BTreeMap::new(),
        };
        let tables = control.read()?;
        Ok((control, tables))
    }

    fn read(&mut self) -> Result<Tables, MapError> {
        let mut tables = Tables::default();
        self.frontends.for_each(|key, value| {
            if let (Some(key), Some(frontend)) =
                (encode::read_frontend_key(&key), encode::read_frontend(&value))
            {
                tables.frontends.insert(key, frontend);
            }
        })?;
        self.service_ips.for_each(|ip, kind| {
            if kind == abi::KIND_CLUSTER_IP {
                tables.cluster_ips.insert(abi::ip_from_words(ip.ip));
            }
        })?;
        self.addresses = Addresses::of(&tables);
        tables.services = self.read_services()?;
        for key in self.source_ranges.keys()? {
            if let Some(range) = abi::network_from_words(key.prefix_bits.saturating_sub(32), key.ip) {
                tables.source_ranges.entry(key.service).or_default().push(range);
            }
        }
        self.ranges = tables.source_ranges.clone();
        Ok(tables)
    }

    /// Also learns how many slots each parity holds, left-overs of an interrupted change included.
    fn read_services(&mut self) -> Result<BTreeMap<ServiceId, ServiceEntry>, MapError> {
        let mut entries = BTreeMap::new();
        self.services.for_each(|id, value| {
            entries.insert(id, value);
        })?;
        let mut slots: BTreeMap<ServiceId, BTreeMap<u32, Slot>> = BTreeMap::new();
        let live = &mut self.live;
        self.slots.for_each(|key, slot| {
            live.entry(key.service).or_default().hold(key.parity, key.index..key.index + 1);
            let current = entries.get(&key.service).filter(|entry| entry.generation & 1 == key.parity);
            if current.is_some_and(|entry| encode::apart(entry).contains(&key.index)) {
                slots.entry(key.service).or_default().insert(key.index, encode::read_slot(&slot));
            }
        })?;
        self.maglev.for_each_key(|key| {
            let chunks = &mut live.entry(key.service).or_default().chunks[(key.parity & 1) as usize];
            *chunks = (*chunks).max(key.chunk + 1);
        })?;
        for (id, entry) in &entries {
            self.live.entry(*id).or_default().generation = entry.generation;
        }
        Ok(entries
            .into_iter()
            .map(|(id, entry)| {
                let mut all = encode::read_near(&entry);
                all.extend(slots.remove(&id).unwrap_or_default().into_values());
                (id, encode::read_service(&entry, all))
            })
            .collect())
    }

    /// The entries whose live Maglev table is not the one that their slots lead to.
    pub fn wrong_maglev_tables(&self, tables: &Tables) -> Result<Vec<ServiceId>, MapError> {
        let mut wrong = Vec::new();
        for (id, entry) in tables.services.iter().filter(|(_, entry)| entry.maglev) {
            let generation = self.live.get(id).map_or(0, |live| live.generation);
            if !self.maglev.is_right(*id, entry, generation)? {
                wrong.push(*id);
            }
        }
        Ok(wrong)
    }

    /// Applies operations in order, and stops at the first that fails.
    pub fn apply(&mut self, ops: &[Op]) -> Result<(), ApplyError> {
        let mut index = 0;
        while index < ops.len() {
            let run = next_run(&ops[index..]);
            self.apply_run(&run).map_err(|(done, source)| ApplyError { index: index + done, source })?;
            index += run.len();
        }
        Ok(())
    }

    fn apply_run(&mut self, run: &Run<'_>) -> Result<(), (usize, MapError)> {
        match run {
            Run::Services(run) => self.put_services(run),
            Run::Frontends(run) => self.put_frontends(run),
            Run::DeletedFrontends(run) => self.delete_frontends(run).map_err(|error| (0, error)),
            Run::ClusterIps(run) => {
                let keys: Vec<_> = run.iter().copied().map(address).collect();
                run.iter().for_each(|ip| self.addresses.add_cluster_ip(*ip));
                self.service_ips.put_all(&keys, &vec![abi::KIND_CLUSTER_IP; keys.len()])
            }
            Run::One(op) => self.apply_one(op).map_err(|error| (0, error)),
        }
    }

    fn apply_one(&mut self, op: &Op) -> Result<(), MapError> {
        match op {
            Op::PutSourceRanges { id, ranges } => self.put_source_ranges(*id, ranges),
            Op::DeleteSourceRanges { id } => self.put_source_ranges(*id, &[]),
            Op::DeleteClusterIp { ip } => {
                self.addresses.remove_cluster_ip(*ip);
                self.mark(*ip)
            }
            Op::DeleteService { id } => self.delete_service(*id),
            // The others come in runs.
            Op::PutService { .. }
            | Op::PutFrontend { .. }
            | Op::DeleteFrontend { .. }
            | Op::PutClusterIp { .. } => Ok(()),
        }
    }

    fn put_services(&mut self, run: &[(ServiceId, &ServiceEntry)]) -> Result<(), (usize, MapError)> {
        let mut keys = Vec::new();
        let mut values = Vec::new();
        let mut flips = Vec::with_capacity(run.len());
        for (id, entry) in run {
            let live = self.live.entry(*id).or_default();
            let flip = encode::service(*id, entry, live.generation.wrapping_add(1));
            let (generation, apart) = (flip.generation, encode::apart(&flip));
            live.hold(generation, apart.clone());
            for (index, slot) in encode::members(entry).skip(apart.start as usize) {
                keys.push(encode::slot_key(*id, generation, index));
                values.push(encode::slot(slot, *id, generation));
            }
            flips.push(flip);
        }
        self.slots.put_all(&keys, &values).map_err(|(_, error)| (0, error))?;
        for ((id, entry), flip) in run.iter().zip(&flips) {
            self.put_maglev(*id, entry, flip.generation).map_err(|error| (0, error))?;
        }
        let ids: Vec<ServiceId> = run.iter().map(|(id, _)| *id).collect();
        let (flipped, result) = match self.services.put_all(&ids, &flips) {
            Ok(()) => (run.len(), Ok(())),
            Err((done, error)) => (done, Err((done, error))),
        };
        for (id, flip) in ids.iter().zip(&flips).take(flipped) {
            self.live.entry(*id).or_default().generation = flip.generation;
        }
        self.trim(&ids[..flipped], &flips).map_err(|error| (flipped, error))?;
        result
    }

    fn put_maglev(&mut self, id: ServiceId, entry: &ServiceEntry, generation: u32) -> Result<(), MapError> {
        let written = self.maglev.put(id, entry, generation)?;
        let chunks = &mut self.live.entry(id).or_default().chunks[(generation & 1) as usize];
        *chunks = (*chunks).max(written);
        Ok(())
    }

    /// Deletes slots and pieces beyond the end of the live parity, left by a longer list two changes ago.
    fn trim(&mut self, ids: &[ServiceId], entries: &[abi::Service]) -> Result<(), MapError> {
        let mut stale = Vec::new();
        for (id, entry) in ids.iter().zip(entries) {
            let Some(live) = self.live.get_mut(id) else { continue };
            let parity = (entry.generation & 1) as usize;
            let kept = encode::apart(entry);
            let held = std::mem::replace(&mut live.apart[parity], kept.clone());
            let stale_slots = held.filter(|index| !kept.contains(index));
            stale.extend(stale_slots.map(|index| encode::slot_key(*id, entry.generation, index as usize)));
            let chunks = &mut live.chunks[parity];
            let wanted = maglev::chunks_of(entry.maglev_size);
            self.maglev.delete(*id, entry.generation, wanted..*chunks)?;
            *chunks = wanted;
        }
        self.slots.delete_all(&stale)
    }

    fn delete_service(&mut self, id: ServiceId) -> Result<(), MapError> {
        self.services.delete(&id)?;
        let live = self.live.remove(&id).unwrap_or_default();
        for (parity, chunks) in (0..).zip(live.chunks) {
            self.maglev.delete(id, parity, 0..chunks)?;
        }
        let slots: Vec<abi::SlotKey> = (0..)
            .zip(live.apart)
            .flat_map(|(parity, held)| held.map(move |i| encode::slot_key(id, parity, i as usize)))
            .collect();
        self.slots.delete_all(&slots)
    }

    fn put_frontends(&mut self, run: &[(&FrontendKey, &Frontend)]) -> Result<(), (usize, MapError)> {
        let keys: Vec<_> = run.iter().map(|(key, _)| encode::frontend_key(key)).collect();
        let values: Vec<_> = run.iter().map(|(_, frontend)| encode::frontend(frontend)).collect();
        let (written, written_all) = match self.frontends.put_all(&keys, &values) {
            Ok(()) => (run.len(), Ok(())),
            Err((done, error)) => (done, Err((done, error))),
        };
        for (index, (key, frontend)) in run.iter().take(written).enumerate() {
            if self.addresses.put(key, frontend.kind) {
                self.mark(key.ip).map_err(|error| (index, error))?;
            }
        }
        written_all
    }

    fn delete_frontends(&mut self, run: &[&FrontendKey]) -> Result<(), MapError> {
        let keys: Vec<_> = run.iter().map(|key| encode::frontend_key(key)).collect();
        self.frontends.delete_all(&keys)?;
        for key in run {
            if self.addresses.delete(key) {
                self.mark(key.ip)?;
            }
        }
        Ok(())
    }

    /// Tells the programs what an address is now.
    fn mark(&mut self, ip: IpAddr) -> Result<(), MapError> {
        match self.addresses.mark(ip) {
            Some(kind) => self.service_ips.put(&address(ip), &encode::kind(kind)),
            None => self.service_ips.delete(&address(ip)),
        }
    }

    /// Adds before it deletes, so that no allowed client is shut out meanwhile.
    fn put_source_ranges(&mut self, id: ServiceId, ranges: &[IpNet]) -> Result<(), MapError> {
        let old = self.ranges.remove(&id).unwrap_or_default();
        let wanted: BTreeSet<_> = ranges.iter().map(|range| source_range_key(id, *range)).collect();
        for key in &wanted {
            self.source_ranges.put(key, &1)?;
        }
        for key in old.iter().map(|range| source_range_key(id, *range)).filter(|key| !wanted.contains(key)) {
            self.source_ranges.delete(&key)?;
        }
        if !ranges.is_empty() {
            self.ranges.insert(id, ranges.to_vec());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
