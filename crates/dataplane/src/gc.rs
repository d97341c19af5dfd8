//! Conntrack garbage collection: entries that no packet will renew.

use std::path::Path;

use crate::abi;
use crate::error::MapError;
use crate::map::Map;

const SECOND: u64 = 1_000_000_000;

/// The maps that the programs write.
#[derive(Debug)]
pub(crate) struct State {
    flows: Map<abi::FlowKey, abi::Flow>,
    udp_flows: Map<abi::UdpKey, abi::Choice>,
    udp_replies: Map<abi::UdpKey, abi::Choice>,
}

/// How long a flow may be silent, in nanoseconds. The same rules as `timeout_of` in bpf/flow.h.
pub(crate) fn timeout(protocol: u8, flags: u32) -> u64 {
    let both = abi::FLOW_CLIENT_FIN | abi::FLOW_BACKEND_FIN;
    let answered = flags & abi::FLOW_ANSWERED != 0;
    let seconds = match i32::from(protocol) {
        libc::IPPROTO_UDP if answered => abi::TIMEOUT_UDP_SECONDS,
        libc::IPPROTO_UDP => abi::TIMEOUT_UDP_OPENING_SECONDS,
        libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => abi::TIMEOUT_ECHO_SECONDS,
        _ if flags & abi::FLOW_RESET != 0 || flags & both == both => abi::TIMEOUT_TCP_CLOSING_SECONDS,
        _ if flags & both != 0 => abi::TIMEOUT_TCP_HALF_CLOSED_SECONDS,
        _ if answered => abi::TIMEOUT_TCP_SECONDS,
        _ => abi::TIMEOUT_TCP_OPENING_SECONDS,
    };
    u64::from(seconds) * SECOND
}

fn is_expired(key: &abi::FlowKey, flow: &abi::Flow, now: u64) -> bool {
    now.saturating_sub(flow.last_seen) > timeout(key.protocol, flow.flags)
}

fn peer_key(key: &abi::FlowKey, flow: &abi::Flow) -> abi::FlowKey {
    abi::FlowKey {
        source: flow.target,
        target: flow.source,
        source_port: flow.target_port,
        target_port: flow.source_port,
        protocol: key.protocol,
        pad: [0; 3],
    }
}

/// How many entries were deleted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Swept {
    pub flows: usize,
    /// Of UDP sockets.
    pub conversations: usize,
}

impl State {
    pub fn open(maps: &Path) -> Result<Self, MapError> {
        Ok(Self {
            flows: Map::open(maps, "flows")?,
            udp_flows: Map::open(maps, "udp_flows")?,
            udp_replies: Map::open(maps, "udp_replies")?,
        })
    }

    /// Deletes what expired before `now`. An entry stays as long as the other direction of its connection
    /// lives.
    pub fn collect(&self, now: u64) -> Result<Swept, MapError> {
        let mut expired = Vec::new();
        self.flows.for_each(|key, flow| {
            if is_expired(&key, &flow, now) {
                expired.push((key, peer_key(&key, &flow)));
            }
        })?;
        // A packet may have renewed it since, or opened another connection in its place.
        let mut flows = 0;
        for (key, peer) in expired {
            let other = self.flows.get(&peer)?;
            if other.is_none_or(|other| is_expired(&peer, &other, now)) {
                flows += usize::from(self.flows.delete_if(&key, |flow| is_expired(&key, flow, now))?);
            }
        }
        let conversations = collect_choices(&self.udp_flows, now)? + collect_choices(&self.udp_replies, now)?;
        Ok(Swept { flows, conversations })
    }

    /// Visits every direction of every connection.
    pub fn for_each_flow(&self, visit: impl FnMut(abi::FlowKey, abi::Flow)) -> Result<(), MapError> {
        self.flows.for_each(visit)
    }

    /// How many directions of translated connections there are.
    pub fn flows(&self) -> Result<usize, MapError> {
        let mut count = 0;
        self.flows.for_each(|_, _| count += 1)?;
        Ok(count)
    }
}

fn collect_choices(map: &Map<abi::UdpKey, abi::Choice>, now: u64) -> Result<usize, MapError> {
    let is_over = |choice: &abi::Choice| {
        now.saturating_sub(choice.last_seen) > u64::from(abi::TIMEOUT_UDP_SECONDS) * SECOND
    };
    let mut expired = Vec::new();
    map.for_each(|key, choice| {
        if is_over(&choice) {
            expired.push(key);
        }
    })?;
    expired.iter().try_fold(0, |count, key| Ok(count + usize::from(map.delete_if(key, is_over)?)))
}
