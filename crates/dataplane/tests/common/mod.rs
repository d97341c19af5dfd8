//! What the tests share: a data plane with pins of its own, and tables in a few words.
#![allow(dead_code)]

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use daymark_dataplane::{Config, DataPlane};
use daymark_model::Protocol;
use daymark_plan::tables::{Frontend, FrontendKey, FrontendKind, Op, ServiceEntry, Slot};

pub mod bench;
pub mod frames;
pub mod net;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A name that no other test of any process has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{}x{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// A place for pins that goes away with the test.
pub struct Pins {
    directory: tempfile::TempDir,
}

impl Pins {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("temporary directory") }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("bpf")
    }

    /// Node 192.0.2.11 and 2001:db8::11 of a cluster with pods in 10.244.0.0/16 and fd00:10:244::/48.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.path());
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("CIDR")).collect();
        config.node_ips = vec![ip("192.0.2.11"), ip("2001:db8::11")];
        config.pod_cidrs = nets(&["10.244.0.0/16", "fd00:10:244::/48"]);
        config.service_cidrs = nets(&["10.96.0.0/16", "fd00:10:96::/112"]);
        config.cluster_sources =
            nets(&["192.0.2.11/32", "192.0.2.12/32", "2001:db8::11/128", "2001:db8::12/128"]);
        config
    }

    pub fn open(&self) -> DataPlane {
        DataPlane::open(self.config()).expect("the data plane opens").0
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        daymark_dataplane::remove(&self.path()).expect("pins can be removed");
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn socket(text: &str) -> (IpAddr, u16) {
    let address: std::net::SocketAddr = text.parse().expect("address:port");
    (address.ip(), address.port())
}

/// Frontends and backends of one Service, `+` marking local backends: `service(1, &[..], &["+10.0.0.1:80"])`.
pub fn service(id: u32, frontends: &[(FrontendKind, Protocol, &str)], backends: &[&str]) -> Vec<Op> {
    let mut ops = vec![Op::PutService { id, entry: entry(1, backends) }];
    ops.extend(frontends.iter().map(|(kind, protocol, address)| put_frontend(id, *kind, *protocol, address)));
    ops
}

pub fn put_frontend(service: u32, kind: FrontendKind, protocol: Protocol, address: &str) -> Op {
    Op::PutFrontend {
        key: key(protocol, address),
        frontend: Frontend { service, kind, local_only: false, source_checked: false },
    }
}

pub fn key(protocol: Protocol, address: &str) -> FrontendKey {
    let (ip, port) = socket(address);
    FrontendKey { ip, port, protocol }
}

pub fn entry(generation: u32, backends: &[&str]) -> ServiceEntry {
    let mut slots: Vec<Slot> = backends
        .iter()
        .map(|text| {
            let (ip, port) = socket(text.trim_start_matches('+'));
            Slot { ip, port, local: text.starts_with('+') }
        })
        .collect();
    slots.sort_by_key(|slot| !slot.local);
    let n_local = slots.iter().filter(|slot| slot.local).count() as u32;
    let elsewhere = n_local == 0 && !slots.is_empty();
    ServiceEntry { generation, slots, n_local, elsewhere, ..ServiceEntry::default() }
}
