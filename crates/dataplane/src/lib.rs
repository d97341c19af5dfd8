//! The data plane of one node: programs in the kernel that translate connections to Services, and the
//! maps that tell them how. This crate puts [`Tables`] into those maps and keeps the programs attached;
//! it decides nothing.
//!
//! Everything is pinned: when the process ends, traffic flows on, and the next [`DataPlane::open`] takes
//! over from the pins. Calls block for microseconds to milliseconds. Those that take an interface index
//! must be made inside the node's network namespace.

pub mod abi;
mod config;
mod control;
mod encode;
mod error;
mod gc;
pub mod inspect;
mod links;
mod loader;
mod maglev;
mod map;
mod migrate;
mod networks;
mod pins;
mod probe;
mod programs;
mod socket_fields;
mod stats;
mod stuck;
mod surroundings;
mod sys;
mod takeover;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use daymark_plan::tables::{Op, ServiceEntry, ServiceId, Tables};
use ipnet::IpNet;

pub use config::{Config, Sizes};
pub use error::{ApplyError, Error, MapError};
pub use inspect::{Inspection, Meters};
pub use links::LinkView;
pub use pins::remove;
pub use probe::{MissingFeature, probe, speaks_sctp};
pub use programs::{PacketProgram, Verdict, needed_programs};
pub use stats::{ServiceStats, Stats};
pub use surroundings::Misknown;

use control::Control;
use links::Links;
use map::Map;
use networks::Networks;
use pins::Pins;
use programs::Programs;
use stuck::Connected;
use takeover::Takeover;

/// The node's programs and maps.
#[derive(Debug)]
pub struct DataPlane {
    config: Config,
    programs: Programs,
    links: Links,
    control: Control,
    networks: Networks,
    settings: Map<u32, abi::Settings>,
    pod_links: Map<u32, u32>,
    connected: Connected,
    meters: Meters,
}

impl DataPlane {
    /// Loads the programs and opens the maps: those of an earlier process if there are any, whose content
    /// is returned, else new ones. Maps of an earlier layout, and those that are too small, are carried over into
    /// new ones first. Then links of an earlier process get the new programs at once.
    ///
    /// # Errors
    /// When the configuration is impossible, the BPF file system cannot be used, or the kernel refuses a
    /// program (see [`probe`] for why). Programs of an earlier process serve on.
    pub fn open(mut config: Config) -> Result<(Self, Tables), Error> {
        config.check()?;
        let pins = Pins::prepare(&config.bpffs)?;
        let takeover = Takeover::prepare(&pins, config.sizes)?;
        config.sizes = takeover.sizes;
        let maps = pins.maps();
        let (control, tables) = Control::open(&maps)?;
        takeover.before_links(&pins)?;
        let (links, gone) = Links::adopt(&pins, &takeover.programs, takeover.continued)?;
        takeover.after_links(&pins)?;
        let networks = Networks::open(&maps)?;
        if config.cluster_sources.is_empty() {
            config.cluster_sources = networks.members()?;
        }
        let plane = Self {
            networks,
            settings: Map::open(&maps, "settings")?,
            pod_links: Map::open(&maps, "pod_links")?,
            connected: Connected::open(&maps)?,
            meters: Meters::of(pins)?,
            config,
            programs: takeover.programs,
            links,
            control,
        };
        gone.iter().try_for_each(|ifindex| plane.pod_links.delete(ifindex))?;
        plane.networks.set(&plane.config.networks())?;
        plane.write_settings(None)?;
        Ok((plane, tables))
    }

    /// How many entries the maps can hold.
    pub fn sizes(&self) -> Sizes {
        self.config.sizes
    }

    /// What the kernel counts.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Keeps the uplink and the network namespace's cookie that are there unless they are given.
    fn write_settings(&self, attached: Option<(u32, u64)>) -> Result<(), Error> {
        let earlier = self.settings.get(&0)?.unwrap_or_default();
        let (uplink, netns_cookie) = attached.unwrap_or((earlier.uplink, earlier.netns_cookie));
        let settings = self.config.settings(uplink, netns_cookie);
        Ok(self.settings.put(&0, &settings)?)
    }

    /// Applies operations in order. Each is atomic for new connections.
    ///
    /// # Errors
    /// At the first operation that fails, e.g. because a map is full. What was live stays live; the same
    /// operations may be applied again.
    pub fn apply(&mut self, ops: &[Op]) -> Result<(), ApplyError> {
        self.control.apply(ops)
    }

    /// Reads the tables anew, after operations failed and nobody knows which are in effect.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn reload(&mut self) -> Result<Tables, Error> {
        let (control, tables) = Control::open(&self.meters.pins.maps())?;
        self.control = control;
        Ok(tables)
    }

    /// Puts the socket programs on a cgroup-v2 directory, for every process below it, now and later.
    ///
    /// # Errors
    /// When it is not a cgroup of the v2 hierarchy, or the kernel refuses.
    pub fn attach_cgroup(&self, path: &Path) -> Result<(), Error> {
        self.links.attach_cgroup(&self.programs, path)
    }

    /// Puts the uplink program on the node's interface to the LAN, and reserves the ports of translated
    /// connections in this network namespace.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub fn attach_uplink(&self, ifindex: u32) -> Result<(), Error> {
        let failed =
            |source| Error::Attach { program: "uplink", target: format!("interface {ifindex}"), source };
        self.write_settings(Some((ifindex, netns_cookie().map_err(failed)?)))?;
        reserve_ports(&self.config.snat_ports).map_err(failed)?;
        self.links.attach_interface(&self.programs, PacketProgram::Uplink, ifindex)?;
        self.links.attach_interface(&self.programs, PacketProgram::Out, ifindex)?;
        self.meters.pins.remove_old_maps();
        Ok(())
    }

    /// Puts the pod program on the node's side of a pod's veth.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub fn attach_pod(&self, ifindex: u32) -> Result<(), Error> {
        self.pod_links.put(&ifindex, &1)?;
        self.links.attach_interface(&self.programs, PacketProgram::Pod, ifindex)?;
        self.links.attach_interface(&self.programs, PacketProgram::Out, ifindex)
    }

    /// Forgets a pod's interface, which may be gone already.
    ///
    /// # Errors
    /// When the pins cannot be changed.
    pub fn detach_pod(&self, ifindex: u32) -> Result<(), Error> {
        self.pod_links.delete(&ifindex)?;
        self.links.detach_interface(PacketProgram::Pod, ifindex)?;
        self.links.detach_interface(PacketProgram::Out, ifindex)
    }

    /// Says who belongs to the cluster beside nodes and pods, e.g. when nodes join.
    ///
    /// # Errors
    /// When the table is full.
    pub fn set_cluster_sources(&mut self, sources: Vec<IpNet>) -> Result<(), Error> {
        self.config.cluster_sources = sources;
        Ok(self.networks.set(&self.config.networks())?)
    }

    /// Deletes state that expired before `now` (of the monotonic clock, see [`monotonic_now`]) and returns
    /// how many entries. Wanted every few seconds.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn gc(&self, now: Duration) -> Result<usize, Error> {
        self.settle()?;
        let swept = self.meters.state.collect(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))?;
        self.meters.counters.add_swept(swept.flows as u64)?;
        Ok(swept.flows + swept.conversations)
    }

    /// Adds the bytes that flows counted since to the statistics: otherwise each would when its next packet comes.
    fn settle(&self) -> Result<(), Error> {
        let failed = |error: io::Error| Error::Load { program: programs::SETTLE, cause: error.to_string() };
        programs::run(self.programs.fd(programs::SETTLE), &[0; 64], 0).map(drop).map_err(failed)
    }

    /// Ends the UDP sockets of processes below `cgroup` that are connected to a backend which their Service
    /// does not have in `tables`: their owners find another with their next connect. Wanted after each
    /// change that may have taken backends away. Returns how many were ended.
    ///
    /// # Errors
    /// When a map cannot be read, or sockets cannot be found or ended; they are tried again next time.
    pub fn end_stuck_sockets(&self, cgroup: &Path, tables: &Tables) -> Result<usize, Error> {
        let sockets = self.connected.stuck(tables)?;
        if sockets.is_empty() {
            return Ok(0);
        }
        let ended = stuck::end(cgroup, &sockets).map_err(Error::Sockets)?;
        self.connected.forget(&sockets)?;
        Ok(ended)
    }

    /// Forgets what was counted for entries and backends that are not in the tables any more. Wanted now and
    /// then, since programs cannot tell.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn retain_stats(&self, tables: &Tables) -> Result<(), Error> {
        let has = |entry: &ServiceEntry, address: SocketAddr| {
            entry
                .slots
                .iter()
                .chain(&entry.draining)
                .any(|slot| SocketAddr::new(slot.ip, slot.port) == address)
        };
        Ok(self.meters.statistics.retain(
            |id| tables.services.contains_key(&id),
            |id, address| tables.services.get(&id).is_some_and(|entry| has(entry, address)),
        )?)
    }

    /// The entries of `tables`, which must be those in effect, whose Maglev table in the kernel is a wrong one.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn wrong_maglev_tables(&self, tables: &Tables) -> Result<Vec<ServiceId>, Error> {
        Ok(self.control.wrong_maglev_tables(tables)?)
    }

    /// How many instructions the verifier looked at for each program: what loading costs.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn verifier_cost(&self) -> io::Result<Vec<(&'static str, u32)>> {
        self.programs.verifier_cost()
    }

    /// Runs a program over a frame that would arrive at an interface (0: loopback), without sending it;
    /// flows that it opens are remembered. For tests and diagnosis.
    ///
    /// # Errors
    /// When the kernel cannot run it, e.g. because the frame is shorter than an Ethernet header.
    pub fn run(&self, program: PacketProgram, frame: &[u8], ifindex: u32) -> io::Result<Verdict> {
        programs::run(self.programs.fd(program.name()).as_fd(), frame, ifindex)
    }

    /// As [`DataPlane::run`], `repeat` times over what the time before left: how long one run took on average.
    ///
    /// # Errors
    /// When the kernel cannot run it.
    pub fn time(
        &self,
        program: PacketProgram,
        frame: &[u8],
        ifindex: u32,
        repeat: u32,
    ) -> io::Result<Duration> {
        programs::time(self.programs.fd(program.name()).as_fd(), frame, ifindex, repeat)
    }
}

/// The clock that flows are dated by.
pub fn monotonic_now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the out parameter is valid, and the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Identifies the calling thread's network namespace.
fn netns_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind((IpAddr::from([127, 0, 0, 1]), 0))
        .or_else(|_| std::net::UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0)))?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the out parameters are valid and of the size given.
    let result = unsafe {
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Keeps the node's own sockets off the ports of translated connections.
fn reserve_ports(ports: &std::ops::RangeInclusive<u16>) -> io::Result<()> {
    let path = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    let ours = format!("{}-{}", ports.start(), ports.end());
    let reserved = std::fs::read_to_string(path)?;
    let others = reserved.trim();
    if others.split(',').any(|range| range == ours) {
        return Ok(());
    }
    let all = if others.is_empty() { ours } else { format!("{others},{ours}") };
    std::fs::write(path, all)
}
