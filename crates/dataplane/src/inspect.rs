//! Looking at what is pinned without touching it: the kernel's truth, whether or not an agent runs.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use daymark_model::Protocol;
use daymark_plan::tables::{ServiceId, Tables};

use crate::config::Config;
use crate::control::Control;
use crate::error::Error;
use crate::gc::State;
use crate::links::{LinkView, Links};
use crate::map::Map;
use crate::networks::Networks;
use crate::pins::Pins;
use crate::stats::{self, Counters, ServiceStats, Statistics, Stats};
use crate::surroundings::{self, Misknown};
use crate::sys::raw::{self, RawMap};
use crate::{abi, monotonic_now};

/// Maps whose fill is of interest, control maps first.
const MEASURED: [&str; 9] =
    ["frontends", "services", "slots", "maglev", "service_ips", "flows", "udp_flows", "affinity", "cells"];

/// A connection that packets are translated for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// As in an IP header.
    pub protocol: u8,
    pub client: SocketAddr,
    /// What the client dialled.
    pub frontend: SocketAddr,
    /// Whom the backend takes for its client.
    pub seen_as: SocketAddr,
    pub backend: SocketAddr,
    /// `None` for a pod's connection to the outside.
    pub service: Option<ServiceId>,
    pub state: FlowState,
    pub idle: Duration,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// Nobody has answered yet.
    Opening,
    Established,
    /// One side has said goodbye, or both.
    Closing,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    pub map: &'static str,
    pub entries: usize,
    pub capacity: u32,
}

/// What the kernel counts, in one directory of pins. Cheap to open: no tables are read.
#[derive(Debug)]
pub struct Meters {
    pub(crate) pins: Pins,
    pub(crate) state: State,
    pub(crate) counters: Counters,
    pub(crate) statistics: Statistics,
}

impl Meters {
    /// # Errors
    /// When nothing of this version is pinned there, or a map cannot be opened.
    pub fn open(bpffs: &Path) -> Result<Self, Error> {
        let pins = Pins::existing(bpffs);
        if !pins.maps().join("frontends").exists() {
            return Err(Error::NothingPinned { path: bpffs.to_owned() });
        }
        Self::of(pins)
    }

    pub(crate) fn of(pins: Pins) -> Result<Self, Error> {
        let maps = pins.maps();
        let cpus = stats::possible_cpus()?;
        Ok(Self {
            state: State::open(&maps)?,
            counters: Counters::open(&maps, cpus)?,
            statistics: Statistics::open(&maps, cpus)?,
            pins,
        })
    }

    /// How many directions of translated connections are remembered. Reads the whole table.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn flow_entries(&self) -> Result<usize, Error> {
        Ok(self.state.flows()?)
    }

    /// Every connection once, busiest first.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn flows(&self) -> Result<Vec<FlowView>, Error> {
        let now = monotonic_now();
        let mut flows = Vec::new();
        self.state.for_each_flow(|key, flow| {
            if flow.flags & abi::FLOW_REPLY == 0 {
                flows.push(view(&key, &flow, now));
            }
        })?;
        flows.sort_by_key(|flow| (flow.idle, flow.client, flow.frontend));
        Ok(flows)
    }

    /// The node's own counters.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(self.counters.read(self.state.flows()?)?)
    }

    /// What was counted for each Service entry since it was made.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn service_stats(&self) -> Result<BTreeMap<ServiceId, ServiceStats>, Error> {
        Ok(self.statistics.services()?)
    }

    /// What was counted for each backend of each Service entry.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn backend_stats(&self) -> Result<BTreeMap<(ServiceId, SocketAddr), ServiceStats>, Error> {
        Ok(self.statistics.backends()?)
    }

    /// How full the maps are.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn fill(&self) -> Result<Vec<Fill>, Error> {
        MEASURED.into_iter().map(|map| Ok(fill(&self.pins.maps(), map)?)).collect()
    }
}

/// Everything that is pinned in one directory.
#[derive(Debug)]
pub struct Inspection {
    pub meters: Meters,
    control: Control,
    tables: Tables,
    networks: Networks,
    settings: Map<u32, abi::Settings>,
}

impl Inspection {
    /// Reads the tables.
    ///
    /// # Errors
    /// When nothing of this version is pinned there, or a map cannot be read.
    pub fn open(bpffs: &Path) -> Result<Self, Error> {
        let meters = Meters::open(bpffs)?;
        let maps = meters.pins.maps();
        let (control, tables) = Control::open(&maps)?;
        let (networks, settings) = (Networks::open(&maps)?, Map::open(&maps, "settings")?);
        Ok(Self { meters, control, tables, networks, settings })
    }

    /// What programs do not know as `config` has it: networks, and the settings of the node.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn misknown(&self, config: &Config) -> Result<Vec<Misknown>, Error> {
        let settings = self.settings.get(&0)?.unwrap_or_default();
        Ok(surroundings::compare(&self.networks.read()?, &settings, config))
    }

    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The entries whose Maglev table is not the one that their backends lead to.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn wrong_maglev_tables(&self) -> Result<Vec<ServiceId>, Error> {
        Ok(self.control.wrong_maglev_tables(&self.tables)?)
    }

    /// Where programs are attached, or were.
    ///
    /// # Errors
    /// When the pins cannot be listed.
    pub fn links(&self) -> Result<Vec<LinkView>, Error> {
        Links::view(&self.meters.pins)
    }
}

/// Where programs are attached, or were; no map is opened.
///
/// # Errors
/// When the pins cannot be listed.
pub fn links(bpffs: &Path) -> Result<Vec<LinkView>, Error> {
    Links::view(&Pins::existing(bpffs))
}

fn address(words: [u32; 4], port: u16) -> SocketAddr {
    SocketAddr::new(abi::ip_from_words(words), u16::from_be(port))
}

fn view(key: &abi::FlowKey, flow: &abi::Flow, now: Duration) -> FlowView {
    let ends = abi::FLOW_CLIENT_FIN | abi::FLOW_BACKEND_FIN | abi::FLOW_RESET;
    FlowView {
        protocol: key.protocol,
        client: address(key.source, key.source_port),
        frontend: address(key.target, key.target_port),
        seen_as: address(flow.source, flow.source_port),
        backend: address(flow.target, flow.target_port),
        service: Some(flow.service).filter(|service| *service != 0),
        state: match flow.flags {
            flags if flags & ends != 0 => FlowState::Closing,
            flags if flags & abi::FLOW_ANSWERED != 0 => FlowState::Established,
            _ => FlowState::Opening,
        },
        idle: now.saturating_sub(Duration::from_nanos(flow.last_seen)),
    }
}

fn fill(maps: &Path, map: &'static str) -> Result<Fill, crate::error::MapError> {
    let count = || -> io::Result<Fill> {
        let opened = RawMap::open(&maps.join(map))?;
        let mut entries = 0;
        if opened.is_array() {
            // Free cells begin with a cookie of 0.
            for index in 0..opened.capacity {
                let value = opened.get(&index.to_ne_bytes())?.unwrap_or_default();
                entries += usize::from(value.iter().take(8).any(|byte| *byte != 0));
            }
        } else {
            let mut last: Option<Vec<u8>> = None;
            while entries <= opened.capacity as usize
                && let Some(key) = raw::next_key(opened.fd.as_fd(), last.as_deref(), opened.key_size)?
            {
                entries += 1;
                last = Some(key);
            }
        }
        Ok(Fill { map, entries, capacity: opened.capacity })
    };
    count().map_err(|source| crate::error::MapError { map, action: "count", key: "all".into(), source })
}

/// `TCP`, `UDP`, `SCTP`, `ICMP`, or the number.
pub fn protocol_name(number: u8) -> String {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.number() == number);
    match (known, number) {
        (Some(protocol), _) => protocol.to_string(),
        (None, 1 | 58) => "ICMP".into(),
        (None, other) => other.to_string(),
    }
}
