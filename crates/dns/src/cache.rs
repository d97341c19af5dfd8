//! A small cache of upstream answers that obeys their TTLs. The time is a parameter.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;
use domain::base::{Header, Rtype};

use crate::query::Query;
use crate::wire::{self, Layout};

const MAX_TTL: u32 = 300;
const MAX_DENIAL_TTL: u32 = 30;

/// What distinguishes answers to the same question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    labels: Vec<String>,
    rtype: Rtype,
    class: u16,
    checking_disabled: bool,
    /// Whether the query had EDNS, and asked for DNSSEC records.
    edns: Option<bool>,
}

impl From<&Query> for Key {
    fn from(query: &Query) -> Self {
        Self {
            labels: query.labels.clone(),
            rtype: query.rtype,
            class: query.class.to_int(),
            checking_disabled: query.header.cd(),
            edns: query.edns.map(|edns| edns.dnssec_ok),
        }
    }
}

struct Entry {
    message: Vec<u8>,
    layout: Layout,
    stored: Instant,
    expires: Instant,
}

/// Upstream answers, at most `capacity` of them and the oldest forgotten first.
pub struct Cache {
    entries: HashMap<Key, Entry>,
    order: VecDeque<Key>,
    capacity: usize,
}

impl Cache {
    pub fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), capacity }
    }

    /// The answer to `query`, with its id, its case and what is left of the TTLs.
    pub fn get(&mut self, query: &Query, now: Instant) -> Option<Vec<u8>> {
        let key = Key::from(query);
        let entry = self.entries.get(&key)?;
        if now >= entry.expires {
            return None;
        }
        let mut message = entry.message.clone();
        let aged = now.saturating_duration_since(entry.stored).as_secs();
        wire::age(&mut message, &entry.layout, u32::try_from(aged).unwrap_or(u32::MAX));
        readdress(&mut message, query);
        Some(message)
    }

    /// Keeps an answer as long as it may be kept.
    pub fn put(&mut self, query: &Query, message: &[u8], now: Instant) {
        let Some(layout) = wire::layout(message) else { return };
        let header = Header::for_message_slice(message);
        let seconds = match (header.rcode(), layout.answer_ttl) {
            _ if header.tc() => return,
            (Rcode::NOERROR, Some(ttl)) => ttl.min(layout.denial_ttl.unwrap_or(MAX_TTL)).min(MAX_TTL),
            (Rcode::NOERROR | Rcode::NXDOMAIN, _) => layout.denial_ttl.unwrap_or(0).min(MAX_DENIAL_TTL),
            _ => return,
        };
        if seconds == 0 {
            return;
        }
        let expires = now + Duration::from_secs(u64::from(seconds));
        let entry = Entry { message: message.to_vec(), layout, stored: now, expires };
        let key = Key::from(query);
        if self.entries.insert(key.clone(), entry).is_none() {
            self.order.push_back(key);
        }
        while self.entries.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

/// Makes an answer one to `query`: its id, and its name in the case in which it was asked.
pub fn readdress(message: &mut [u8], query: &Query) {
    let name = query.name.as_slice();
    if message.len() >= 12 + name.len() {
        let same = message[12..12 + name.len()].eq_ignore_ascii_case(name);
        Header::for_message_slice_mut(message).set_id(query.header.id());
        if same {
            message[12..12 + name.len()].copy_from_slice(name);
        }
    }
}

#[cfg(test)]
mod tests;
