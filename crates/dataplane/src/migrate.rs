//! Carrying maps over from an earlier version of the layout: keys keep their size for ever and values only
//! grow at their end, so each entry is copied with zeroes behind it. Programs of the earlier version work
//! with their own maps until their links are given the new programs.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use crate::error::MapError;
use crate::sys::raw::{self, RawMap};

/// Everything but what lasts for moments (fragments) and what the kernel alone can walk (socket storage).
const CARRIED: [&str; 19] = [
    "frontends",
    "services",
    "slots",
    "maglev",
    "service_ips",
    "networks",
    "source_ranges",
    "settings",
    "pod_links",
    "flows",
    "udp_flows",
    "udp_replies",
    "udp_connected",
    "affinity",
    "cells",
    "counters",
    "ports_given",
    "service_stats",
    "backend_stats",
];

/// What programs write: it may have changed since it was copied first.
const STATE: [&str; 6] = ["flows", "udp_flows", "udp_replies", "udp_connected", "affinity", "cells"];

/// More than there are entries in the largest map.
const MOST_STEPS: usize = 1 << 22;

/// Copies every map of `old` into its namesake in `new`.
///
/// # Errors
/// When a map cannot be read or written. The old maps stay as they are.
pub(crate) fn carry_over(old: &Path, new: &Path) -> Result<(), MapError> {
    CARRIED.iter().try_for_each(|name| copy(old, new, name, raw::ANY))
}

/// Copies what came since, now that no program writes to `old` any more; what is in `new` is newer.
pub(crate) fn catch_up(old: &Path, new: &Path) -> Result<(), MapError> {
    STATE.iter().try_for_each(|name| copy(old, new, name, raw::NO_EXIST))
}

/// How many entries a map can hold; `None` if there is no such map.
pub(crate) fn capacity(maps: &Path, name: &'static str) -> Result<Option<u32>, MapError> {
    match RawMap::open(&maps.join(name)) {
        Ok(map) => Ok(Some(map.capacity)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(source) => Err(MapError { map: name, action: "open", key: String::new(), source }),
    }
}

/// Copies one map of `old` into its namesake in `new`.
pub(crate) fn copy(old: &Path, new: &Path, name: &'static str, flags: u64) -> Result<(), MapError> {
    let failed = |action| move |source| MapError { map: name, action, key: "all".into(), source };
    let from = match RawMap::open(&old.join(name)) {
        // The earlier version had no such map.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        opened => opened.map_err(failed("open the earlier"))?,
    };
    let to = RawMap::open(&new.join(name)).map_err(failed("open"))?;
    copy_entries(&from, &to, flags).map_err(failed("carry over"))
}

fn copy_entries(from: &RawMap, to: &RawMap, flags: u64) -> io::Result<()> {
    if from.key_size != to.key_size || from.value_size > to.value_size {
        return Err(io::Error::other(format!(
            "its keys and values of {} and {} bytes do not fit into {} and {}",
            from.key_size, from.value_size, to.key_size, to.value_size
        )));
    }
    // The kernel's arrays have every entry already.
    let flags = if to.is_array() { raw::ANY } else { flags };
    let mut last: Option<Vec<u8>> = None;
    // Where programs delete the key that we stand on, the walk begins anew: some time it must end.
    for _ in 0..MOST_STEPS {
        let Some(key) = raw::next_key(from.fd.as_fd(), last.as_deref(), from.key_size)? else { break };
        if let Some(value) = from.get(&key)? {
            match to.put(&key, &from.widen(&value, to), flags) {
                // Newer, or no room in a smaller array.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::E2BIG)) => {}
                done => done?,
            }
        }
        last = Some(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{MapShape, create_map};

    fn map(map_type: u32, value_size: u32) -> RawMap {
        let shape = MapShape {
            name: "test",
            map_type,
            key_size: 4,
            value_size,
            max_entries: 8,
            flags: 0,
            type_ids: None,
        };
        RawMap::of(create_map(&shape).expect("tests run as root")).expect("info")
    }

    #[test]
    fn a_value_that_grew_gets_zeroes_behind_it() {
        let (old, new) = (map(raw::HASH, 4), map(raw::HASH, 12));
        old.put(&[1, 0, 0, 0], &[9, 8, 7, 6], raw::ANY).expect("writes");
        copy_entries(&old, &new, raw::ANY).expect("copies");
        let copied = new.get(&[1, 0, 0, 0]).expect("reads").expect("is there");
        assert_eq!(copied, [9, 8, 7, 6, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_newer_stays() {
        let (old, new) = (map(raw::HASH, 4), map(raw::HASH, 4));
        old.put(&[1; 4], &[1; 4], raw::ANY).expect("writes");
        old.put(&[2; 4], &[1; 4], raw::ANY).expect("writes");
        new.put(&[2; 4], &[2; 4], raw::ANY).expect("writes");
        copy_entries(&old, &new, raw::NO_EXIST).expect("copies");
        assert_eq!(new.get(&[1; 4]).expect("reads"), Some(vec![1; 4]));
        assert_eq!(new.get(&[2; 4]).expect("reads"), Some(vec![2; 4]));
    }

    #[test]
    fn values_of_each_processor_are_widened_one_by_one() {
        let (old, new) = (map(raw::PER_CPU_HASH, 8), map(raw::PER_CPU_HASH, 16));
        let cpus = old.get(&[1; 4]).map(|_| crate::stats::possible_cpus().expect("cpus")).expect("reads");
        let values: Vec<u8> = (0..cpus).flat_map(|cpu| [cpu as u8 + 1; 8]).collect();
        old.put(&[1; 4], &values, raw::ANY).expect("writes");
        copy_entries(&old, &new, raw::ANY).expect("copies");
        let copied = new.get(&[1; 4]).expect("reads").expect("is there");
        for (cpu, value) in copied.chunks(16).enumerate() {
            assert_eq!((&value[..8], &value[8..]), (&[cpu as u8 + 1; 8][..], &[0; 8][..]));
        }
    }

    #[test]
    fn a_value_that_shrank_is_refused() {
        let error = copy_entries(&map(raw::HASH, 8), &map(raw::HASH, 4), raw::ANY).expect_err("too large");
        assert!(error.to_string().contains("do not fit"), "{error}");
    }
}
