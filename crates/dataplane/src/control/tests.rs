//! Slots as version 3 had them, all apart from their Service's entry, are read, served, and cleared away.

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

#[test]
fn slots_apart_from_their_service_serve_on_and_go_with_its_changes() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
    let folder = tempfile::tempdir().expect("a folder");
    let bpf = folder.path().join("bpf");
    let _removed = Removed(&bpf);
    let mut config = Config::new(&bpf);
    config.node_ips = vec![[192, 0, 2, 11].into()];
    config.pod_cidrs = vec!["10.244.0.0/16".parse().expect("CIDR")];
    let (mut plane, _) = DataPlane::open(config.clone()).expect("opens");
    let node_port: SocketAddr = "192.0.2.11:30008".parse().expect("an address");
    let key = FrontendKey { ip: node_port.ip(), port: node_port.port(), protocol: Protocol::Tcp };
    let frontend =
        Frontend { service: 1, kind: FrontendKind::NodePort, local_only: false, source_checked: false };
    plane.apply(&[put(9, 1), Op::PutFrontend { key, frontend }]).expect("applies");
    let maps = plane.meters().pins.maps();
    assert_eq!(stored(&maps), [(1, 7), (1, 8)], "the others are in the entry");

    let services: Map<u32, abi::Service> = Map::open(&maps, "services").expect("opens");
    let slots: Map<abi::SlotKey, abi::Slot> = Map::open(&maps, "slots").expect("opens");
    let near = services.get(&1).expect("reads").expect("is there");
    for (index, slot) in encode::members(&entry(1, 9)) {
        let key = encode::slot_key(1, near.generation, index);
        slots.put(&key, &encode::slot(slot, 1, near.generation)).expect("writes");
    }
    let apart = abi::Service {
        flags: near.flags & !abi::SERVICE_NEAR,
        id: 0,
        near_ips: Default::default(),
        near_ports: Default::default(),
        ..near
    };
    services.put(&1, &apart).expect("writes");
    drop(plane);

    let (mut plane, tables) = DataPlane::open(config).expect("opens");
    assert_eq!(tables.services[&1], entry(1, 9));
    let met: BTreeSet<[u8; 4]> = (4000..4200).map(|port| backend(&plane, port)).collect();
    assert_eq!(met.len(), 9, "{met:?}");
    plane.apply(&[put(8, 2), put(8, 3)]).expect("applies");
    assert_eq!(stored(&maps), [(0, 7), (1, 7)], "what version 3 wrote is gone");
    let met: BTreeSet<[u8; 4]> = (5000..5200).map(|port| backend(&plane, port)).collect();
    assert_eq!(met.len(), 8, "{met:?}");
    plane.apply(&[Op::DeleteFrontend { key }, Op::DeleteService { id: 1 }]).expect("applies");
    assert_eq!(stored(&maps), []);
}
