//! Tables to the bytes of the maps, and back. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use daymark_model::Protocol;
use daymark_plan::tables::{Frontend, FrontendKey, FrontendKind, ServiceEntry, ServiceId, Slot};

use crate::{abi, maglev};

pub(crate) fn frontend_key(key: &FrontendKey) -> abi::FrontendKey {
    abi::FrontendKey {
        ip: abi::ip_words(key.ip),
        port: key.port.to_be(),
        protocol: key.protocol.number(),
        pad: 0,
    }
}

/// `None` for what no version of ours has written.
pub(crate) fn read_frontend_key(key: &abi::FrontendKey) -> Option<FrontendKey> {
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|protocol| protocol.number() == key.protocol)?;
    Some(FrontendKey { ip: abi::ip_from_words(key.ip), port: u16::from_be(key.port), protocol })
}

pub(crate) fn kind(kind: FrontendKind) -> u32 {
    match kind {
        FrontendKind::ClusterIp => abi::KIND_CLUSTER_IP,
        FrontendKind::NodePort => abi::KIND_NODE_PORT,
        FrontendKind::LoadBalancerIp => abi::KIND_LOAD_BALANCER_IP,
        FrontendKind::ExternalIp => abi::KIND_EXTERNAL_IP,
        FrontendKind::HostPort => abi::KIND_HOST_PORT,
    }
}

fn read_kind(number: u8) -> Option<FrontendKind> {
    use FrontendKind::{ClusterIp, ExternalIp, HostPort, LoadBalancerIp, NodePort};
    [ClusterIp, NodePort, LoadBalancerIp, ExternalIp, HostPort]
        .into_iter()
        .find(|k| kind(*k) == u32::from(number))
}

fn flag(set: bool, flag: u32) -> u32 {
    if set { flag } else { 0 }
}

pub(crate) fn frontend(frontend: &Frontend) -> abi::Frontend {
    let flags = flag(frontend.local_only, abi::FRONTEND_LOCAL_ONLY)
        | flag(frontend.source_checked, abi::FRONTEND_SOURCE_CHECKED);
    abi::Frontend { service: frontend.service, kind: kind(frontend.kind) as u8, flags: flags as u8, pad: 0 }
}

pub(crate) fn read_frontend(value: &abi::Frontend) -> Option<Frontend> {
    let flags = u32::from(value.flags);
    Some(Frontend {
        service: value.service,
        kind: read_kind(value.kind)?,
        local_only: flags & abi::FRONTEND_LOCAL_ONLY != 0,
        source_checked: flags & abi::FRONTEND_SOURCE_CHECKED != 0,
    })
}

/// How the first slots are spelled in their Service's own entry, as a flag.
fn nearness(entry: &ServiceEntry) -> u32 {
    let of_ipv4 = members(entry).take(abi::NEAR_IPV4_SLOTS as usize).all(|(_, slot)| slot.ip.is_ipv4());
    if of_ipv4 { abi::SERVICE_NEAR_IPV4 } else { abi::SERVICE_NEAR }
}

fn near_slots(flags: u32) -> u32 {
    if flags & abi::SERVICE_NEAR_IPV4 != 0 {
        abi::NEAR_IPV4_SLOTS
    } else if flags & abi::SERVICE_NEAR != 0 {
        abi::NEAR_SLOTS
    } else {
        0
    }
}

/// The numbers of the slots that are stored apart from the Service's own entry.
pub(crate) fn apart(value: &abi::Service) -> Range<u32> {
    let near = near_slots(value.flags);
    near..value.members.max(value.slots).max(near)
}

/// How many slots of an entry will be stored apart.
pub(crate) fn count_apart(entry: &ServiceEntry) -> usize {
    (entry.slots.len() + entry.draining.len()).saturating_sub(near_slots(nearness(entry)) as usize)
}

/// `generation` is the kernel's own, see [`crate::control`].
pub(crate) fn service(id: ServiceId, entry: &ServiceEntry, generation: u32) -> abi::Service {
    let slots = entry.slots.len() as u32;
    let flags = flag(entry.elsewhere, abi::SERVICE_ELSEWHERE)
        | flag(entry.maglev, abi::SERVICE_MAGLEV)
        | nearness(entry);
    abi::Service {
        generation,
        plan_generation: entry.generation,
        slots,
        local_slots: entry.n_local.min(slots),
        cluster_from: entry.cluster_from.min(slots),
        affinity_seconds: entry.affinity_seconds,
        flags,
        members: slots + entry.draining.len() as u32,
        maglev_size: maglev::size(entry),
        id,
        ..near(entry, flags)
    }
}

/// All slots that are stored, with their numbers.
pub(crate) fn members(entry: &ServiceEntry) -> impl Iterator<Item = (usize, &Slot)> {
    entry.slots.iter().chain(&entry.draining).enumerate()
}

fn near(entry: &ServiceEntry, flags: u32) -> abi::Service {
    let mut value = abi::Service::default();
    for (index, slot) in members(entry).take(near_slots(flags) as usize) {
        let abi::Slot { ip, port, flags: of_slot, .. } = self::slot(slot, 0, 0);
        let ([a, b], [c, d]) = (port.to_ne_bytes(), of_slot.to_ne_bytes());
        let port_and_flags = u32::from_ne_bytes([a, b, c, d]);
        if flags & abi::SERVICE_NEAR_IPV4 != 0 {
            value.near_ips[2 * index..][..2].copy_from_slice(&[ip[3], port_and_flags]);
        } else {
            value.near_ips[4 * index..][..4].copy_from_slice(&ip);
            value.near_ports[index] = port_and_flags;
        }
    }
    value
}

/// The slots that are in a Service's own entry.
pub(crate) fn read_near(value: &abi::Service) -> Vec<Slot> {
    let read = |ip: IpAddr, port_and_flags: &u32| {
        let [a, b, c, d] = port_and_flags.to_ne_bytes();
        let flags = u32::from(u16::from_ne_bytes([c, d]));
        Slot { ip, port: u16::from_be_bytes([a, b]), local: flags & abi::SLOT_LOCAL != 0 }
    };
    let count = near_slots(value.flags).min(value.members) as usize;
    if value.flags & abi::SERVICE_NEAR_IPV4 != 0 {
        let words = value.near_ips.as_chunks::<2>().0.iter().take(count);
        return words.map(|[ip, port]| read(Ipv4Addr::from(ip.to_ne_bytes()).into(), port)).collect();
    }
    let ips = value.near_ips.as_chunks::<4>().0.iter().map(|ip| abi::ip_from_words(*ip));
    ips.zip(&value.near_ports).take(count).map(|(ip, port)| read(ip, port)).collect()
}

/// `slots` are all that are stored, in order.
pub(crate) fn read_service(value: &abi::Service, mut slots: Vec<Slot>) -> ServiceEntry {
    let draining = slots.split_off(slots.len().min(value.slots as usize));
    ServiceEntry {
        generation: value.plan_generation,
        slots,
        draining,
        n_local: value.local_slots,
        cluster_from: value.cluster_from,
        elsewhere: value.flags & abi::SERVICE_ELSEWHERE != 0,
        affinity_seconds: value.affinity_seconds,
        maglev: value.flags & abi::SERVICE_MAGLEV != 0,
    }
}

pub(crate) fn slot_key(service: ServiceId, generation: u32, index: usize) -> abi::SlotKey {
    abi::SlotKey { service, parity: generation & 1, index: index as u32 }
}

pub(crate) fn slot(slot: &Slot, service: ServiceId, generation: u32) -> abi::Slot {
    abi::Slot {
        ip: abi::ip_words(slot.ip),
        port: slot.port.to_be(),
        flags: flag(slot.local, abi::SLOT_LOCAL) as u16,
        service,
        generation,
    }
}

pub(crate) fn read_slot(value: &abi::Slot) -> Slot {
    Slot {
        ip: abi::ip_from_words(value.ip),
        port: u16::from_be(value.port),
        local: u32::from(value.flags) & abi::SLOT_LOCAL != 0,
    }
}
