//! When which address is announced. The time is a parameter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// The pauses after the first announcements of an address taken over: the first frames may be lost while
/// a switch learns.
const TAKE_OVER: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(900), Duration::from_secs(1), Duration::from_secs(3)];
/// The announcements before this one do not look for duplicates: the former announcer may still answer.
const FIRST_PROBE: usize = 2;
/// An address is defended against another's claim at most this often (RFC 5227).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// One announcement to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    pub ip: Ipv4Addr,
    /// Whether to ask for other hosts with this address as well.
    pub probe: bool,
}

/// The announcements of all owned addresses.
#[derive(Debug)]
pub struct Schedule {
    /// The pause between announcements once an address is settled.
    period: Duration,
    addresses: BTreeMap<Ipv4Addr, State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    next: Instant,
    sent: usize,
    last: Option<Instant>,
}

impl Schedule {
    pub fn new(period: Duration) -> Self {
        Self { period, addresses: BTreeMap::new() }
    }

    /// Addresses that are new are announced at once; those that are left out never again.
    pub fn set(&mut self, owned: &BTreeSet<Ipv4Addr>, now: Instant) {
        self.addresses.retain(|ip, _| owned.contains(ip));
        for ip in owned {
            self.addresses.entry(*ip).or_insert(State { next: now, sent: 0, last: None });
        }
    }

    /// When something is to be sent next.
    pub fn next(&self) -> Option<Instant> {
        self.addresses.values().map(|state| state.next).min()
    }

    /// What is to be sent by now, each once.
    pub fn due(&mut self, now: Instant) -> Vec<Announcement> {
        let mut due = Vec::new();
        for (ip, state) in self.addresses.iter_mut().filter(|(_, state)| state.next <= now) {
            due.push(Announcement { ip: *ip, probe: state.sent >= FIRST_PROBE });
            state.next = now + TAKE_OVER.get(state.sent).copied().unwrap_or(self.period);
            state.last = Some(now);
            state.sent += 1;
        }
        due
    }

    /// Somebody else claimed the address: announce it again, unless that was done just now.
    pub fn defend(&mut self, ip: Ipv4Addr, now: Instant) {
        if let Some(state) = self.addresses.get_mut(&ip)
            && state.last.is_none_or(|last| now.saturating_duration_since(last) >= DEFEND_INTERVAL)
        {
            state.next = now;
        }
    }
}

#[cfg(test)]
mod tests;
