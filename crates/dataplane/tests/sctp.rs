//! SCTP, whose checksum covers everything and which no kernel helper updates.

mod common;

use common::bench::{Bench, TO_STACK};
use common::frames::describe;
use common::{ip, service};
use daymark_dataplane::PacketProgram::{Pod, Uplink};
use daymark_model::Protocol::Sctp;
use daymark_plan::tables::FrontendKind::{ClusterIp, NodePort};
use daymark_plan::tables::Op;
use etherparse::{IpNumber, PacketBuilder};

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

fn sctp(from: &str, to: &str, chunk: u8, payload: usize) -> Vec<u8> {
    let parse = |text: &str| text.parse::<std::net::SocketAddrV4>().expect("IPv4 address:port");
    let (from, to) = (parse(from), parse(to));
    let mut body = Vec::new();
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    body.extend(0x0102_0304_u32.to_be_bytes());
    body.extend([0; 4]);
    body.extend([chunk, 0, 0, 4]);
    body.extend((0..payload).map(|index| index as u8));
    let sum = crc32c(&body).to_le_bytes();
    body[8..12].copy_from_slice(&sum);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0; 6])
        .ipv4(from.ip().octets(), to.ip().octets(), 64)
        .write(&mut frame, IpNumber::SCTP, &body)
        .expect("fits");
    frame
}

/// `192.0.2.1:4000 > 10.0.0.1:80`, after both checksums were found right.
fn tuple(frame: &[u8]) -> String {
    assert!(describe(frame).starts_with("protocol 132"), "{}", describe(frame));
    let mut body = frame[34..].to_vec();
    let sum = body[8..12].to_vec();
    body[8..12].fill(0);
    assert_eq!(sum, crc32c(&body).to_le_bytes(), "checksum of SCTP");
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let ip = |at: usize| frame[at..at + 4].iter().map(u8::to_string).collect::<Vec<_>>().join(".");
    format!("{}:{} > {}:{}", ip(26), port(0), ip(30), port(2))
}

fn bench(backends: &[&str]) -> Bench {
    let mut ops =
        service(1, &[(NodePort, Sctp, "192.0.2.11:30008"), (ClusterIp, Sctp, "10.96.0.7:80")], backends);
    ops.push(Op::PutClusterIp { ip: ip("10.96.0.7") });
    Bench::new(&ops)
}

fn translated(bench: &Bench, program: daymark_dataplane::PacketProgram, frame: &[u8]) -> String {
    let (action, frame) = bench.run(program, frame);
    assert_eq!(action, TO_STACK);
    tuple(&frame)
}

#[test]
fn checksum_is_right_after_translation_whatever_the_length() {
    let bench = bench(&["+10.244.1.2:8080"]);
    for payload in [0, 4, 100, 1400] {
        let client = format!("192.0.2.1:{}", 4000 + payload);
        let there = translated(&bench, Uplink, &sctp(&client, "192.0.2.11:30008", INIT, payload));
        assert_eq!(there, format!("{client} > 10.244.1.2:8080"));
        let back = translated(&bench, Pod, &sctp("10.244.1.2:8080", &client, INIT_ACK, payload));
        assert_eq!(back, format!("192.0.2.11:30008 > {client}"));
    }
}

#[test]
fn association_stays_when_its_backend_leaves_and_a_new_one_goes_elsewhere() {
    let mut bench = bench(&["+10.244.1.2:8080"]);
    let client = "192.0.2.1:4000";
    translated(&bench, Uplink, &sctp(client, "192.0.2.11:30008", INIT, 8));
    translated(&bench, Pod, &sctp("10.244.1.2:8080", client, INIT_ACK, 8));
    let moved = Op::PutService { id: 1, entry: common::entry(2, &["+10.244.1.9:8080"]) };
    bench.plane.apply(&[moved]).expect("applies");
    let data = translated(&bench, Uplink, &sctp(client, "192.0.2.11:30008", 0, 8));
    assert_eq!(data, "192.0.2.1:4000 > 10.244.1.2:8080");
    translated(&bench, Uplink, &sctp(client, "192.0.2.11:30008", ABORT, 8));
    let again = translated(&bench, Uplink, &sctp(client, "192.0.2.11:30008", INIT, 8));
    assert_eq!(again, "192.0.2.1:4000 > 10.244.1.9:8080");
}

#[test]
fn pod_reaches_the_cluster_ip_by_packets_and_keeps_its_address() {
    let bench = bench(&["10.244.2.2:8080"]);
    let there = translated(&bench, Pod, &sctp("10.244.1.3:4000", "10.96.0.7:80", INIT, 8));
    assert_eq!(there, "10.244.1.3:4000 > 10.244.2.2:8080");
    let back = translated(&bench, Uplink, &sctp("10.244.2.2:8080", "10.244.1.3:4000", INIT_ACK, 8));
    assert_eq!(back, "10.96.0.7:80 > 10.244.1.3:4000");
}

#[test]
fn cluster_ip_is_not_served_to_the_lan() {
    let bench = bench(&["+10.244.1.2:8080"]);
    assert!(bench.is_dropped(Uplink, &sctp("192.0.2.1:4000", "10.96.0.7:80", INIT, 8)));
}

#[test]
fn without_backends_an_icmp_error_refuses() {
    let bench = bench(&[]);
    let (_, frame) = bench.run(Uplink, &sctp("192.0.2.1:4000", "192.0.2.11:30008", INIT, 8));
    assert_eq!(describe(&frame), "error 192.0.2.11 > 192.0.2.1 about 192.0.2.1:4000 > 192.0.2.11:30008");
}
