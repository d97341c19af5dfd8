//! Frames of either family in a few words, and what is in them, checksums verified.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::{
    Ethernet2Header, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, IpHeaders, IpNumber, Ipv4HeaderSlice,
    Ipv6HeaderSlice, PacketBuilder, PacketBuilderStep, TcpHeaderSlice, UdpHeaderSlice,
};

/// Ethernet source and target: the target is the loopback interface's, on which test runs arrive.
const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [0; 6]);
/// Where the IP header begins.
pub const IP: usize = 14;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("address:port")
}

fn plain(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn ethernet() -> PacketBuilderStep<Ethernet2Header> {
    PacketBuilder::ethernet2(MACS.0, MACS.1)
}

fn headers(from: IpAddr, to: IpAddr, ttl: u8) -> PacketBuilderStep<IpHeaders> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet().ipv4(from.octets(), to.octets(), ttl),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet().ipv6(from.octets(), to.octets(), ttl),
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// A TCP segment; `flags` of "SFRA".
pub fn tcp(from: &str, to: &str, flags: &str, payload: &[u8]) -> Vec<u8> {
    tcp_between(address(from), address(to), flags, payload)
}

pub fn tcp_between(from: SocketAddr, to: SocketAddr, flags: &str, payload: &[u8]) -> Vec<u8> {
    let mut builder = headers(from.ip(), to.ip(), 64).tcp(from.port(), to.port(), 1000, 64240);
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'F' => builder.fin(),
            'R' => builder.rst(),
            'A' => builder.ack(5000),
            other => panic!("flag {other}"),
        };
    }
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).expect("fits");
    frame
}

pub fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    udp_between(address(from), address(to), payload)
}

pub fn udp_between(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    headers(from.ip(), to.ip(), 64).udp(from.port(), to.port()).write(&mut frame, payload).expect("fits");
    frame
}

pub fn echo(from: &str, to: &str, id: u16, reply: bool) -> Vec<u8> {
    let (from, to) = (plain(from), plain(to));
    let builder = headers(from, to, 64);
    let mut frame = Vec::new();
    match (from, reply) {
        (IpAddr::V4(_), true) => builder.icmpv4_echo_reply(id, 7).write(&mut frame, b"ping"),
        (IpAddr::V4(_), false) => builder.icmpv4_echo_request(id, 7).write(&mut frame, b"ping"),
        (IpAddr::V6(_), true) => builder.icmpv6_echo_reply(id, 7).write(&mut frame, b"ping"),
        (IpAddr::V6(_), false) => builder.icmpv6_echo_request(id, 7).write(&mut frame, b"ping"),
    }
    .expect("fits");
    frame
}

/// A port-unreachable error from a host about a frame, quoting its first 28 bytes of IP (v6: 48).
pub fn unreachable(from: &str, to: &str, about: &[u8]) -> Vec<u8> {
    let quoted = if plain(from).is_ipv4() { 28 } else { 48 };
    let (kind, code) = if plain(from).is_ipv4() { (3, 3) } else { (1, 4) };
    icmp_error(from, to, (kind, code), [0; 4], &about[IP..IP + quoted])
}

/// An ICMP message of any type and code, with the four bytes behind its checksum.
pub fn icmp_error(from: &str, to: &str, (kind, code): (u8, u8), rest: [u8; 4], quoted: &[u8]) -> Vec<u8> {
    let (from, to) = (plain(from), plain(to));
    let builder = headers(from, to, 64);
    let mut frame = Vec::new();
    match from {
        IpAddr::V4(_) => builder.icmpv4_raw(kind, code, rest).write(&mut frame, quoted),
        IpAddr::V6(_) => builder.icmpv6_raw(kind, code, rest).write(&mut frame, quoted),
    }
    .expect("fits");
    frame
}

/// Recomputes the checksum of the IP header after a test changed it.
pub fn fix_ip_checksum(frame: &mut [u8]) {
    let header = Ipv4HeaderSlice::from_slice(&frame[IP..]).expect("IPv4 header").to_header();
    let sum = header.calc_header_checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// `tcp 192.0.2.1:4000 > 10.0.0.1:80 SA`, after every checksum was found right.
pub fn describe(frame: &[u8]) -> String {
    match frame[IP] >> 4 {
        4 => describe_ipv4(frame),
        6 => describe_ipv6(frame),
        other => panic!("IP version {other}"),
    }
}

fn flags(tcp: &TcpHeaderSlice<'_>) -> String {
    [(tcp.syn(), 'S'), (tcp.fin(), 'F'), (tcp.rst(), 'R'), (tcp.ack(), 'A')]
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, flag)| *flag)
        .collect()
}

fn describe_tcp(from: IpAddr, to: IpAddr, rest: &[u8]) -> String {
    let tcp = TcpHeaderSlice::from_slice(rest).expect("TCP header");
    let payload = &rest[tcp.slice().len()..];
    let sum = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            tcp.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload).expect("fits")
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            tcp.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload).expect("fits")
        }
        _ => panic!("two families"),
    };
    assert_eq!(sum, tcp.checksum(), "checksum of TCP");
    let (from, to) = (SocketAddr::new(from, tcp.source_port()), SocketAddr::new(to, tcp.destination_port()));
    format!("tcp {from} > {to} {}", flags(&tcp))
}

fn describe_udp(from: IpAddr, to: IpAddr, rest: &[u8]) -> String {
    let udp = UdpHeaderSlice::from_slice(rest).expect("UDP header");
    let header = udp.to_header();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let sum = header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &rest[8..]).expect("fits");
            assert!(udp.checksum() == 0 || sum == udp.checksum(), "checksum of UDP");
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let sum = header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &rest[8..]).expect("fits");
            assert_eq!(sum, udp.checksum(), "checksum of UDP, which IPv6 demands");
        }
        _ => panic!("two families"),
    }
    let (from, to) = (SocketAddr::new(from, udp.source_port()), SocketAddr::new(to, udp.destination_port()));
    format!("udp {from} > {to}")
}

fn describe_ipv4(frame: &[u8]) -> String {
    let ip = Ipv4HeaderSlice::from_slice(&frame[IP..]).expect("IPv4 header");
    assert_eq!(ip.to_header().calc_header_checksum(), ip.header_checksum(), "checksum of the IP header");
    let rest = &frame[IP + ip.slice().len()..IP + usize::from(ip.total_len())];
    let (from, to) = (ip.source_addr(), ip.destination_addr());
    match ip.protocol() {
        IpNumber::TCP => describe_tcp(from.into(), to.into(), rest),
        IpNumber::UDP => describe_udp(from.into(), to.into(), rest),
        IpNumber::ICMP => {
            let icmp = Icmpv4Slice::from_slice(rest).expect("ICMP header");
            let sum = icmp.icmp_type().calc_checksum(icmp.payload());
            assert_eq!(sum, icmp.checksum(), "checksum of ICMP");
            match icmp.icmp_type() {
                Icmpv4Type::EchoRequest(echo) => format!("echo {from} > {to} id {}", echo.id),
                Icmpv4Type::EchoReply(echo) => format!("echo reply {from} > {to} id {}", echo.id),
                _ => format!("error {from} > {to} about {}", quoted(icmp.payload())),
            }
        }
        other => format!("protocol {} {from} > {to}", other.0),
    }
}

fn describe_ipv6(frame: &[u8]) -> String {
    let ip = Ipv6HeaderSlice::from_slice(&frame[IP..]).expect("IPv6 header");
    let end = IP + 40 + usize::from(ip.payload_length());
    let (number, start) = transport_of_ipv6(frame);
    let rest = &frame[start..end];
    let (from, to) = (ip.source_addr(), ip.destination_addr());
    match IpNumber(number) {
        IpNumber::TCP => describe_tcp(from.into(), to.into(), rest),
        IpNumber::UDP => describe_udp(from.into(), to.into(), rest),
        IpNumber::IPV6_ICMP => {
            let icmp = Icmpv6Slice::from_slice(rest).expect("ICMPv6 header");
            assert!(icmp.is_checksum_valid(from.octets(), to.octets()), "checksum of ICMPv6");
            match icmp.icmp_type() {
                Icmpv6Type::EchoRequest(echo) => format!("echo {from} > {to} id {}", echo.id),
                Icmpv6Type::EchoReply(echo) => format!("echo reply {from} > {to} id {}", echo.id),
                _ => format!("error {from} > {to} about {}", quoted(icmp.payload())),
            }
        }
        other => format!("protocol {} {from} > {to}", other.0),
    }
}

/// Protocol and offset of what follows the extension headers of a whole IPv6 packet.
pub fn transport_of_ipv6(frame: &[u8]) -> (u8, usize) {
    let (mut number, mut at) = (frame[IP + 6], IP + 40);
    loop {
        let length = match number {
            0 | 43 | 60 => 8 * (1 + usize::from(frame[at + 1])),
            44 => 8,
            _ => return (number, at),
        };
        number = frame[at];
        at += length;
    }
}

/// What an ICMP error quotes, its own checksum verified.
fn quoted(bytes: &[u8]) -> String {
    let (from, to, ports): (IpAddr, IpAddr, &[u8]) = if bytes[0] >> 4 == 4 {
        let ip = Ipv4HeaderSlice::from_slice(bytes).expect("quoted IPv4 header");
        let sum = ip.to_header().calc_header_checksum();
        assert_eq!(sum, ip.header_checksum(), "checksum of the quoted header");
        (ip.source_addr().into(), ip.destination_addr().into(), &bytes[ip.slice().len()..])
    } else {
        let ip = Ipv6HeaderSlice::from_slice(bytes).expect("quoted IPv6 header");
        (ip.source_addr().into(), ip.destination_addr().into(), &bytes[40..])
    };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    format!("{} > {}", SocketAddr::new(from, port(0)), SocketAddr::new(to, port(2)))
}

/// Addresses of a whole IPv4 frame.
pub fn ipv4_addresses(frame: &[u8]) -> (Ipv4Addr, Ipv4Addr) {
    let ip = Ipv4HeaderSlice::from_slice(&frame[IP..]).expect("IPv4 header");
    (ip.source_addr(), ip.destination_addr())
}
