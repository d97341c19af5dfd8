//! ARP frames: which to answer, which betray a duplicate address, which announce one. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, NetSlice, SlicedPacket};

/// An Ethernet address.
pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const UNKNOWN: Mac = [0; 6];

/// Somebody else claims an address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    pub ip: Ipv4Addr,
    pub mac: Mac,
}

/// The answer to an ARP request for one of the `owned` addresses, probes (RFC 5227) included; `None` for
/// all other frames, whatever their bytes.
pub fn answer_arp(frame: &[u8], owned: &BTreeSet<Ipv4Addr>, mac: Mac) -> Option<Vec<u8>> {
    let (destination, arp) = parse(frame)?;
    let ours = owned.contains(&arp.target_ipv4_addr()) && arp.sender_mac != mac;
    // A request whose sender is its target announces an address; nobody asked.
    let asks = arp.operation == ArpOperation::REQUEST && arp.sender_ipv4 != arp.target_ipv4;
    if !ours || !asks || (destination != BROADCAST && destination != mac) {
        return None;
    }
    Some(build(
        arp.sender_mac,
        ArpEthIpv4Packet {
            operation: ArpOperation::REPLY,
            sender_mac: mac,
            sender_ipv4: arp.target_ipv4,
            target_mac: arp.sender_mac,
            target_ipv4: arp.sender_ipv4,
        },
    ))
}

/// The claim of another host to one of the `owned` addresses.
pub fn conflict(frame: &[u8], owned: &BTreeSet<Ipv4Addr>, mac: Mac) -> Option<Conflict> {
    let (_, arp) = parse(frame)?;
    let ip = arp.sender_ipv4_addr();
    (owned.contains(&ip) && arp.sender_mac != mac).then_some(Conflict { ip, mac: arp.sender_mac })
}

/// The frames that tell everybody on the link that `ip` is at `mac`: a request and a reply, since some
/// hosts heed only one of them.
pub fn announcements(ip: Ipv4Addr, mac: Mac) -> [Vec<u8>; 2] {
    let announcement = |operation, target_mac| {
        let (sender_ipv4, target_ipv4) = (ip.octets(), ip.octets());
        build(
            BROADCAST,
            ArpEthIpv4Packet { operation, sender_mac: mac, sender_ipv4, target_mac, target_ipv4 },
        )
    };
    [announcement(ArpOperation::REQUEST, UNKNOWN), announcement(ArpOperation::REPLY, BROADCAST)]
}

/// The frame that makes another host with this address answer (an ARP probe, RFC 5227).
pub fn probe(ip: Ipv4Addr, mac: Mac) -> Vec<u8> {
    build(
        BROADCAST,
        ArpEthIpv4Packet {
            operation: ArpOperation::REQUEST,
            sender_mac: mac,
            sender_ipv4: [0; 4],
            target_mac: UNKNOWN,
            target_ipv4: ip.octets(),
        },
    )
}

fn parse(frame: &[u8]) -> Option<(Mac, ArpEthIpv4Packet)> {
    let destination: Mac = frame.get(..6)?.try_into().ok()?;
    match SlicedPacket::from_ethernet(frame).ok()?.net? {
        NetSlice::Arp(arp) => Some((destination, arp.to_packet().try_eth_ipv4().ok()?)),
        _ => None,
    }
}

fn build(destination: Mac, arp: ArpEthIpv4Packet) -> Vec<u8> {
    let header = Ethernet2Header { source: arp.sender_mac, destination, ether_type: EtherType::ARP };
    let mut frame = header.to_bytes().to_vec();
    frame.extend(arp.to_bytes());
    frame
}

#[cfg(test)]
mod tests;
