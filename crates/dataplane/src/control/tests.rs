//! Slots as earlier versions had them are read, served, and cleared away: version 3 had all apart from their Service's
//! entry, version 4 all but seven.

use std::net::SocketAddr;

use daymark_model::Protocol;
use daymark_plan::tables::FrontendKind;

use super::*;
use crate::{Config, DataPlane, PacketProgram};
use etherparse::PacketBuilder;

struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        crate::remove(self.0).expect("nothing is left");
    }
}

fn entry(generation: u32, backends: u8) -> ServiceEntry {
    let slot = |n| Slot { ip: [10, 244, 1, n].into(), port: 8080, local: true };
    let slots = (1..=backends).map(slot).collect();
    ServiceEntry { generation, slots, n_local: backends.into(), ..ServiceEntry::default() }
}

fn put(backends: u8, generation: u32) -> Op {
    Op::PutService { id: 1, entry: entry(generation, backends) }
}

fn stored(maps: &Path) -> Vec<(u32, u32)> {
    let slots: Map<abi::SlotKey, abi::Slot> = Map::open(maps, "slots").expect("opens");
    let mut found = Vec::new();
    slots.for_each(|key, _| found.push((key.parity, key.index))).expect("reads");
    found.sort_unstable();
    found
}

/// Where the first packet of a connection to the node port goes.
fn backend(plane: &DataPlane, client_port: u16) -> [u8; 4] {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0; 6])
        .ipv4([192, 0, 2, 1], [192, 0, 2, 11], 64)
        .tcp(client_port, 30008, 1000, 1000)
        .syn()
        .write(&mut frame, &[])
        .expect("fits");
    let verdict = plane.run(PacketProgram::Uplink, &frame, 0).expect("runs");
    assert_eq!(verdict.action, -1, "to the stack");
    verdict.frame[30..34].try_into().expect("an address")
}

/// A data plane of its own, with a node port that leads to Service 1.
fn plane(bpf: &Path) -> (Config, DataPlane, FrontendKey) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
    let mut config = Config::new(bpf);
    config.node_ips = vec![[192, 0, 2, 11].into()];
    config.pod_cidrs = vec!["10.244.0.0/16".parse().expect("CIDR")];
    let (mut plane, _) = DataPlane::open(config.clone()).expect("opens");
    let node_port: SocketAddr = "192.0.2.11:30008".parse().expect("an address");
    let key = FrontendKey { ip: node_port.ip(), port: node_port.port(), protocol: Protocol::Tcp };
    let frontend =
        Frontend { service: 1, kind: FrontendKind::NodePort, local_only: false, source_checked: false };
    plane.apply(&[put(16, 1), Op::PutFrontend { key, frontend }]).expect("applies");
    (config, plane, key)
}

fn met(plane: &DataPlane, ports: std::ops::Range<u16>) -> usize {
    ports.map(|port| backend(plane, port)).collect::<BTreeSet<[u8; 4]>>().len()
}

/// Replaces the entry by one whose first `near` slots alone are in it, seven or none.
fn age(maps: &Path, near: usize) {
    let services: Map<u32, abi::Service> = Map::open(maps, "services").expect("opens");
    let slots: Map<abi::SlotKey, abi::Slot> = Map::open(maps, "slots").expect("opens");
    let now = services.get(&1).expect("reads").expect("is there");
    let others = now.flags & !abi::SERVICE_NEAR_IPV4;
    let mut then = abi::Service { flags: others, id: 0, near_ips: [0; 28], near_ports: [0; 7], ..now };
    for (index, slot) in encode::members(&entry(1, 16)) {
        let value = encode::slot(slot, 1, now.generation);
        if index < near {
            (then.flags, then.id) = (others | abi::SERVICE_NEAR, 1);
            then.near_ips[4 * index..][..4].copy_from_slice(&value.ip);
            then.near_ports[index] = u32::from(value.port) | u32::from(value.flags) << 16;
        } else {
            slots.put(&encode::slot_key(1, now.generation, index), &value).expect("writes");
        }
    }
    services.put(&1, &then).expect("writes");
}

#[test]
fn slots_of_earlier_versions_serve_on_and_go_with_the_changes_of_their_service() {
    for near in [0, 7] {
        let folder = tempfile::tempdir().expect("a folder");
        let bpf = folder.path().join("bpf");
        let _removed = Removed(&bpf);
        let (config, before, key) = plane(&bpf);
        let maps = before.meters().pins.maps();
        assert_eq!(stored(&maps), [(1, 14), (1, 15)], "the others are in the entry");
        age(&maps, near);
        drop(before);

        let (mut plane, tables) = DataPlane::open(config).expect("opens");
        assert_eq!(tables.services[&1], entry(1, 16), "{near} near");
        assert_eq!(met(&plane, 4000..4400), 16, "{near} near");
        plane.apply(&[put(15, 2), put(15, 3)]).expect("applies");
        assert_eq!(stored(&maps), [(0, 14), (1, 14)], "what was apart with {near} near is gone");
        assert_eq!(met(&plane, 5000..5400), 15, "{near} near");
        plane.apply(&[Op::DeleteFrontend { key }, Op::DeleteService { id: 1 }]).expect("applies");
        assert_eq!(stored(&maps), []);
    }
}

#[test]
fn a_service_may_change_between_families() {
    let folder = tempfile::tempdir().expect("a folder");
    let bpf = folder.path().join("bpf");
    let _removed = Removed(&bpf);
    let (config, mut plane, _) = plane(&bpf);
    let maps = plane.meters().pins.maps();
    let mut mixed = entry(2, 16);
    mixed.slots[3].ip = "fd00::3".parse().expect("an address");
    let expected: Vec<(u32, u32)> = (7..16).map(|index| (0, index)).collect();
    plane.apply(&[Op::PutService { id: 1, entry: mixed.clone() }]).expect("applies");
    assert_eq!(stored(&maps)[..9], expected, "seven are near");
    assert_eq!(plane.reload().expect("reads").services[&1], mixed);
    plane.apply(&[put(16, 3), put(16, 4)]).expect("applies");
    assert_eq!(stored(&maps), [(0, 14), (0, 15), (1, 14), (1, 15)]);
    assert_eq!(met(&plane, 4000..4400), 16);
    drop(plane);
    assert_eq!(DataPlane::open(config).expect("opens").1.services[&1], entry(4, 16));
}
