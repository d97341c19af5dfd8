//! Frames in a few words, and what is in them, checksums verified.

use std::net::Ipv4Addr;

use etherparse::{
    Icmpv4Slice, Icmpv4Type, IpNumber, Ipv4HeaderSlice, PacketBuilder, TcpHeaderSlice, UdpHeaderSlice,
};

/// Ethernet source and target: the target is the loopback interface's, on which test runs arrive.
const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [0; 6]);

fn address(text: &str) -> ([u8; 4], u16) {
    let address: std::net::SocketAddrV4 = text.parse().expect("IPv4 address:port");
    (address.ip().octets(), address.port())
}

/// A TCP segment; `flags` of "SFRA".
pub fn tcp(from: &str, to: &str, flags: &str, payload: &[u8]) -> Vec<u8> {
    let ((source, source_port), (target, target_port)) = (address(from), address(to));
    let mut builder = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4(source, target, 64).tcp(
        source_port,
        target_port,
        1000,
        64240,
    );
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
    let ((source, source_port), (target, target_port)) = (address(from), address(to));
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv4(source, target, 64)
        .udp(source_port, target_port)
        .write(&mut frame, payload)
        .expect("fits");
    frame
}

pub fn echo(from: &str, to: &str, id: u16, reply: bool) -> Vec<u8> {
    let ip = |text: &str| text.parse::<Ipv4Addr>().expect("IPv4 address").octets();
    let builder = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4(ip(from), ip(to), 64);
    let builder = if reply { builder.icmpv4_echo_reply(id, 7) } else { builder.icmpv4_echo_request(id, 7) };
    let mut frame = Vec::new();
    builder.write(&mut frame, b"ping").expect("fits");
    frame
}

/// A port-unreachable error from a host about a frame, quoting its first 28 bytes of IP.
pub fn unreachable(from: &str, to: &str, about: &[u8]) -> Vec<u8> {
    let ip = |text: &str| text.parse::<Ipv4Addr>().expect("IPv4 address").octets();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv4(ip(from), ip(to), 64)
        .icmpv4(Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port))
        .write(&mut frame, &about[14..42])
        .expect("fits");
    frame
}

/// Recomputes the checksum of the IP header after a test changed it.
pub fn fix_ip_checksum(frame: &mut [u8]) {
    let header = Ipv4HeaderSlice::from_slice(&frame[14..]).expect("IPv4 header").to_header();
    let sum = header.calc_header_checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// `tcp 192.0.2.1:4000 > 10.0.0.1:80 SA`, after every checksum was found right.
pub fn describe(frame: &[u8]) -> String {
    let ip = Ipv4HeaderSlice::from_slice(&frame[14..]).expect("IPv4 header");
    assert_eq!(ip.to_header().calc_header_checksum(), ip.header_checksum(), "checksum of the IP header");
    let rest = &frame[14 + ip.slice().len()..14 + usize::from(ip.total_len())];
    let (from, to) = (ip.source_addr(), ip.destination_addr());
    match ip.protocol() {
        IpNumber::TCP => {
            let tcp = TcpHeaderSlice::from_slice(rest).expect("TCP header");
            let payload = &rest[tcp.slice().len()..];
            let sum = tcp.calc_checksum_ipv4(&ip, payload).expect("fits");
            assert_eq!(sum, tcp.checksum(), "checksum of TCP");
            let flags: String = [(tcp.syn(), 'S'), (tcp.fin(), 'F'), (tcp.rst(), 'R'), (tcp.ack(), 'A')]
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, flag)| *flag)
                .collect();
            format!("tcp {from}:{} > {to}:{} {flags}", tcp.source_port(), tcp.destination_port())
        }
        IpNumber::UDP => {
            let udp = UdpHeaderSlice::from_slice(rest).expect("UDP header");
            let sum = udp.to_header().calc_checksum_ipv4(&ip.to_header(), &rest[8..]).expect("fits");
            assert!(udp.checksum() == 0 || sum == udp.checksum(), "checksum of UDP");
            format!("udp {from}:{} > {to}:{}", udp.source_port(), udp.destination_port())
        }
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

fn quoted(bytes: &[u8]) -> String {
    let ip = Ipv4HeaderSlice::from_slice(bytes).expect("quoted IPv4 header");
    assert_eq!(ip.to_header().calc_header_checksum(), ip.header_checksum(), "checksum of the quoted header");
    let ports = &bytes[20..24];
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    format!("{}:{} > {}:{}", ip.source_addr(), port(0), ip.destination_addr(), port(2))
}
