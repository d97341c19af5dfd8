//! What the programs count, summed over processors.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use daymark_plan::tables::ServiceId;

use crate::abi;
use crate::error::{Error, MapError};
use crate::map::Map;

/// What the programs counted since their maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sockets connected to a backend.
    pub socket_translated: u64,
    /// Connects and sends refused at the socket.
    pub socket_refused: u64,
    /// Connections translated in packets.
    pub packet_new: u64,
    /// Connections of pods to the outside, masqueraded.
    pub packet_masqueraded: u64,
    /// Packets answered by a TCP reset or an ICMP error.
    pub packet_refused: u64,
    /// Packets from outside the cluster for a pod's address.
    pub drop_isolation: u64,
    /// Policy Local, and only other nodes have backends.
    pub drop_policy: u64,
    /// Clients outside `loadBalancerSourceRanges`.
    pub drop_source_range: u64,
    /// Packets for a port that a Service's address does not serve.
    pub drop_no_port: u64,
    /// Packets of pods to the outside that cannot be masqueraded.
    pub drop_untranslatable: u64,
    /// No free port, or no room, for a new connection.
    pub drop_flow_full: u64,
    /// Entries that the full table had evicted and the other direction restored.
    pub flow_restored: u64,
    /// ICMP errors translated.
    pub icmp_translated: u64,
    /// Entries of the flow table that made room for newer ones.
    pub flow_evicted: u64,
    /// What was not counted for a Service or backend, because the table of statistics is full.
    pub uncounted: u64,
}

impl Stats {
    /// Each counter with its name, for those who show all.
    pub fn by_name(&self) -> [(&'static str, u64); 15] {
        [
            ("socket_translated", self.socket_translated),
            ("socket_refused", self.socket_refused),
            ("packet_new", self.packet_new),
            ("packet_masqueraded", self.packet_masqueraded),
            ("packet_refused", self.packet_refused),
            ("drop_isolation", self.drop_isolation),
            ("drop_policy", self.drop_policy),
            ("drop_source_range", self.drop_source_range),
            ("drop_no_port", self.drop_no_port),
            ("drop_untranslatable", self.drop_untranslatable),
            ("drop_flow_full", self.drop_flow_full),
            ("flow_restored", self.flow_restored),
            ("icmp_translated", self.icmp_translated),
            ("flow_evicted", self.flow_evicted),
            ("uncounted", self.uncounted),
        ]
    }
}

/// Of a Service entry or of one of its backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceStats {
    /// Connections, and conversations over UDP, that got a backend.
    pub connections: u64,
    /// Those that were refused for want of one.
    pub refusals: u64,
    /// Bytes from clients: of IP packets where those are translated, and those that TCP connections carried which were
    /// translated at the socket, once they are closed.
    pub bytes_in: u64,
    /// The same towards clients.
    pub bytes_out: u64,
}

impl ServiceStats {
    fn sum(values: &[abi::ServiceStats]) -> Self {
        values.iter().fold(Self::default(), |sum, value| {
            let abi::ServiceStats { connections, refusals, bytes_in, bytes_out } = *value;
            sum.plus(Self { connections, refusals, bytes_in, bytes_out })
        })
    }

    /// The sum of two.
    pub fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            refusals: self.refusals + other.refusals,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
        }
    }
}

/// The node's own counters.
#[derive(Debug)]
pub(crate) struct Counters {
    map: Map<u32, u64>,
    cpus: usize,
}

impl Counters {
    pub fn open(maps: &Path, cpus: usize) -> Result<Self, MapError> {
        Ok(Self { map: Map::open(maps, "counters")?, cpus })
    }

    fn sum(&self, counter: u32) -> Result<u64, MapError> {
        Ok(self.map.get_per_cpu(&counter, self.cpus)?.iter().sum())
    }

    /// `flows` is how many entries the flow table has at present.
    pub fn read(&self, flows: usize) -> Result<Stats, MapError> {
        let gone = self.sum(abi::COUNT_FLOW_DELETED)? + self.sum(abi::COUNT_FLOW_SWEPT)? + flows as u64;
        Ok(Stats {
            socket_translated: self.sum(abi::COUNT_SOCKET_TRANSLATED)?,
            socket_refused: self.sum(abi::COUNT_SOCKET_REFUSED)?,
            packet_new: self.sum(abi::COUNT_PACKET_NEW)?,
            packet_masqueraded: self.sum(abi::COUNT_PACKET_MASQUERADED)?,
            packet_refused: self.sum(abi::COUNT_PACKET_REFUSED)?,
            drop_isolation: self.sum(abi::COUNT_DROP_ISOLATION)?,
            drop_policy: self.sum(abi::COUNT_DROP_POLICY)?,
            drop_source_range: self.sum(abi::COUNT_DROP_SOURCE_RANGE)?,
            drop_no_port: self.sum(abi::COUNT_DROP_NO_PORT)?,
            drop_untranslatable: self.sum(abi::COUNT_DROP_UNTRANSLATABLE)?,
            drop_flow_full: self.sum(abi::COUNT_DROP_FLOW_FULL)?,
            flow_restored: self.sum(abi::COUNT_FLOW_RESTORED)?,
            icmp_translated: self.sum(abi::COUNT_ICMP_TRANSLATED)?,
            uncounted: self.sum(abi::COUNT_UNCOUNTED)?,
            flow_evicted: self.sum(abi::COUNT_FLOW_MADE)?.saturating_sub(gone),
        })
    }

    /// Counts entries that we deleted from the flow table ourselves.
    pub fn add_swept(&self, flows: u64) -> Result<(), MapError> {
        if flows == 0 {
            return Ok(());
        }
        let mut values = vec![0; self.cpus];
        values[0] = self.sum(abi::COUNT_FLOW_SWEPT)? + flows;
        self.map.put_per_cpu(&abi::COUNT_FLOW_SWEPT, &values)
    }
}

/// What is counted by Service entry and by backend.
#[derive(Debug)]
pub(crate) struct Statistics {
    services: Map<u32, abi::ServiceStats>,
    backends: Map<abi::BackendKey, abi::ServiceStats>,
    cpus: usize,
}

impl Statistics {
    pub fn open(maps: &Path, cpus: usize) -> Result<Self, MapError> {
        Ok(Self {
            services: Map::open(maps, "service_stats")?,
            backends: Map::open(maps, "backend_stats")?,
            cpus,
        })
    }

    /// Programs count refusals under the Service and everything else under the backend alone.
    pub fn services(&self) -> Result<BTreeMap<ServiceId, ServiceStats>, MapError> {
        let mut found = BTreeMap::new();
        for id in self.services.keys()? {
            found.insert(id, ServiceStats::sum(&self.services.get_per_cpu(&id, self.cpus)?));
        }
        for ((id, _), stats) in self.backends()? {
            let total: &mut ServiceStats = found.entry(id).or_default();
            *total = total.plus(stats);
        }
        Ok(found)
    }

    pub fn backends(&self) -> Result<BTreeMap<(ServiceId, SocketAddr), ServiceStats>, MapError> {
        let mut found = BTreeMap::new();
        for key in self.backends.keys()? {
            let sum = ServiceStats::sum(&self.backends.get_per_cpu(&key, self.cpus)?);
            found.insert((key.service, address(&key)), sum);
        }
        Ok(found)
    }

    /// Forgets Services that are not live, and backends that are none any more: a living Service keeps their
    /// sum.
    pub fn retain(
        &self,
        is_live: impl Fn(ServiceId) -> bool,
        is_backend: impl Fn(ServiceId, SocketAddr) -> bool,
    ) -> Result<(), MapError> {
        for key in self.backends.keys()? {
            if is_backend(key.service, address(&key)) {
                continue;
            }
            if is_live(key.service) {
                let gone = ServiceStats::sum(&self.backends.get_per_cpu(&key, self.cpus)?);
                self.add_to_service(key.service, gone)?;
            }
            self.backends.delete(&key)?;
        }
        let services: Vec<u32> = self.services.keys()?.into_iter().filter(|id| !is_live(*id)).collect();
        self.services.delete_all(&services)
    }

    fn add_to_service(&self, id: ServiceId, more: ServiceStats) -> Result<(), MapError> {
        let mut values = self.services.get_per_cpu(&id, self.cpus)?;
        if let Some(first) = values.first_mut() {
            first.connections += more.connections;
            first.refusals += more.refusals;
            first.bytes_in += more.bytes_in;
            first.bytes_out += more.bytes_out;
        }
        self.services.put_per_cpu(&id, &values)
    }
}

fn address(key: &abi::BackendKey) -> SocketAddr {
    SocketAddr::new(abi::ip_from_words(key.ip), u16::from_be(key.port))
}

/// The number of processors that the kernel keeps per-CPU values for.
pub(crate) fn possible_cpus() -> Result<usize, Error> {
    let path = "/sys/devices/system/cpu/possible";
    let failed = |source| Error::Pins { action: "count the processors in", path: path.into(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let last = text.trim().rsplit([',', '-']).next().and_then(|number| number.parse::<usize>().ok());
    last.map(|last| last + 1).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}
