//! IPv6, one packet in, one packet out: what differs from IPv4, which is headers, checksums and neighbours.

mod common;

use common::bench::{Bench, SENT, TO_STACK};
use common::frames::{IP, describe, echo, icmp_error, tcp, udp, unreachable};
use common::{ip, put_frontend, service};
use daymark_dataplane::PacketProgram::{Pod, Uplink};
use daymark_model::Protocol::{Tcp, Udp};
use daymark_plan::tables::FrontendKind::{ClusterIp, NodePort};
use daymark_plan::tables::Op;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

const CLIENT: &str = "[2001:db8::1]:4000";
const FRONTEND: &str = "[2001:db8::11]:30008";
const HERE: &str = "[fd00:10:244:1::2]:8080";
const THERE: &str = "[fd00:10:244:2::2]:8080";

fn bench(backends: &[&str]) -> Bench {
    let mut ops = service(1, &[(NodePort, Tcp, FRONTEND), (ClusterIp, Tcp, "[fd00:10:96::7]:80")], backends);
    ops.push(put_frontend(1, NodePort, Udp, FRONTEND));
    ops.push(Op::PutClusterIp { ip: ip("fd00:10:96::7") });
    Bench::new(&ops)
}

/// Puts headers of eight bytes each between the IP header and what follows it.
fn with_extensions(frame: &[u8], kinds: &[u8]) -> Vec<u8> {
    let mut extended = frame[..IP + 40].to_vec();
    let mut next = frame[IP + 6];
    let mut headers: Vec<[u8; 8]> = Vec::new();
    for kind in kinds.iter().rev() {
        headers.push([next, 0, 1, 4, 0, 0, 0, 0]);
        next = *kind;
    }
    extended[IP + 6] = next;
    extended.extend(headers.iter().rev().flatten());
    extended.extend(&frame[IP + 40..]);
    let length = u16::try_from(extended.len() - IP - 40).expect("fits");
    extended[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
    extended
}

/// A fragment of a frame's payload: from `at`, so many bytes, with more to come or not.
fn fragment(frame: &[u8], at: usize, length: usize, more: bool) -> Vec<u8> {
    let payload = &frame[IP + 40..][at..at + length];
    let mut cut = frame[..IP + 40].to_vec();
    let bits = (at as u16) | u16::from(more);
    cut.extend([frame[IP + 6], 0, (bits >> 8) as u8, bits as u8, 0, 0, 0, 9]);
    cut[IP + 6] = FRAGMENT;
    cut.extend(payload);
    cut[IP + 4..IP + 6].copy_from_slice(&(8 + length as u16).to_be_bytes());
    cut
}

fn port_of_node(text: &str) -> &str {
    text.split("[2001:db8::11]:").nth(1).and_then(|rest| rest.split(' ').next()).expect("the node's address")
}

#[test]
fn local_backend_sees_the_client_and_answers_as_the_node() {
    let bench = bench(&["+[fd00:10:244:1::2]:8080"]);
    for make in [|f: &str, t: &str| tcp(f, t, "S", b"hello"), |f: &str, t: &str| udp(f, t, b"hello")] {
        let there = bench.translated(Uplink, &make(CLIENT, FRONTEND));
        assert!(there.contains(&format!("{CLIENT} > {HERE}")), "{there}");
        let back = bench.translated(Pod, &make(HERE, CLIENT));
        assert!(back.contains(&format!("{FRONTEND} > {CLIENT}")), "{back}");
    }
}

#[test]
fn backend_of_another_node_is_called_by_the_node() {
    let bench = bench(&[THERE]);
    let there = bench.translated(Uplink, &tcp(CLIENT, FRONTEND, "S", b""));
    let port = port_of_node(&there);
    assert_eq!(there, format!("tcp [2001:db8::11]:{port} > {THERE} S"));
    let answer = tcp(THERE, &format!("[2001:db8::11]:{port}"), "SA", b"");
    assert_eq!(bench.translated(Uplink, &answer), format!("tcp {FRONTEND} > {CLIENT} SA"));
}

#[test]
fn without_endpoints_tcp_is_reset_and_udp_unreachable() {
    let bench = bench(&[]);
    let (action, frame) = bench.run(Uplink, &tcp(CLIENT, FRONTEND, "S", b""));
    assert_eq!((action, describe(&frame)), (SENT, format!("tcp {FRONTEND} > {CLIENT} RA")));
    for size in [0, 900] {
        let (action, frame) = bench.run(Uplink, &udp(CLIENT, FRONTEND, &vec![7; size]));
        let text = format!("error 2001:db8::11 > 2001:db8::1 about {CLIENT} > {FRONTEND}");
        assert_eq!((action, describe(&frame)), (SENT, text));
    }
}

#[test]
fn extension_headers_are_passed_over() {
    let bench = bench(&["+[fd00:10:244:1::2]:8080"]);
    for (number, kinds) in
        [&[HOP_BY_HOP][..], &[ROUTING], &[DESTINATION], &[HOP_BY_HOP, ROUTING, DESTINATION]]
            .iter()
            .enumerate()
    {
        let client = format!("[2001:db8::1]:{}", 5000 + number);
        let plain = udp(&client, FRONTEND, b"question");
        let there = bench.translated(Uplink, &with_extensions(&plain, kinds));
        assert_eq!(there, format!("udp {client} > {HERE}"));
        let back = with_extensions(&udp(HERE, &client, b"answer"), kinds);
        assert_eq!(bench.translated(Pod, &back), format!("udp {FRONTEND} > {client}"));
    }
}

#[test]
fn headers_without_end_or_cut_off_hide_the_protocol_but_no_pod() {
    let bench = bench(&["+[fd00:10:244:1::2]:8080"]);
    let endless = [DESTINATION; 12];
    assert!(bench.is_untouched(Uplink, &with_extensions(&udp(CLIENT, FRONTEND, b"x"), &endless)));
    let pod = with_extensions(&udp(CLIENT, HERE, b"x"), &endless);
    assert!(bench.is_dropped(Uplink, &pod));
    let mut cut = udp(CLIENT, HERE, b"");
    cut[IP + 6] = DESTINATION;
    cut[IP + 41] = 200;
    assert!(bench.is_dropped(Uplink, &cut));
}

#[test]
fn fragments_follow_the_first_even_behind_other_headers() {
    let bench = bench(&["+[fd00:10:244:1::2]:8080"]);
    let whole = udp(CLIENT, FRONTEND, &[7; 1000]);
    let (action, first) = bench.run(Uplink, &fragment(&whole, 0, 504, true));
    assert_eq!(action, TO_STACK);
    let (_, later) = bench.run(Uplink, &fragment(&whole, 504, 504, false));
    // Put together again they are what the whole would have become.
    let mut joined = first[..IP + 40].to_vec();
    joined[IP + 6] = 17;
    joined.extend(&first[IP + 48..]);
    joined.extend(&later[IP + 48..]);
    let length = u16::try_from(joined.len() - IP - 40).expect("fits");
    joined[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
    assert_eq!(describe(&joined), format!("udp {CLIENT} > {HERE}"));
    assert_eq!(later[IP + 8..IP + 40], first[IP + 8..IP + 40], "the same addresses");
}

#[test]
fn later_fragment_of_an_unknown_datagram_is_left_alone() {
    let bench = bench(&["+[fd00:10:244:1::2]:8080"]);
    let whole = udp(CLIENT, FRONTEND, &[7; 1000]);
    assert!(bench.is_untouched(Uplink, &fragment(&whole, 504, 504, false)));
}

#[test]
fn errors_reach_the_client_in_its_own_terms() {
    let bench = bench(&["+[fd00:10:244:1::2]:8080"]);
    bench.translated(Uplink, &udp(CLIENT, FRONTEND, b"x"));
    let about = udp(CLIENT, HERE, b"x");
    let text = format!("about {CLIENT} > {FRONTEND}");
    let from_pod = unreachable("fd00:10:244:1::2", "2001:db8::1", &about);
    assert_eq!(bench.translated(Pod, &from_pod), format!("error 2001:db8::11 > 2001:db8::1 {text}"));
    // Too big, time exceeded, parameter problem, from a router on the way, which keeps its address.
    for kind in [(2, 0), (3, 0), (4, 1)] {
        let router = icmp_error("2001:db8::99", "2001:db8::1", kind, [0, 0, 5, 0], &about[IP..]);
        assert_eq!(bench.translated(Pod, &router), format!("error 2001:db8::99 > 2001:db8::1 {text}"));
    }
}

#[test]
fn pods_reach_the_outside_as_the_node_with_pings_too() {
    let bench = bench(&[]);
    let out = bench.translated(Pod, &tcp("[fd00:10:244:1::2]:4000", "[2001:db8:113::1]:443", "S", b""));
    let port = port_of_node(&out).to_owned();
    let back = tcp("[2001:db8:113::1]:443", &format!("[2001:db8::11]:{port}"), "SA", b"");
    let text = "tcp [2001:db8:113::1]:443 > [fd00:10:244:1::2]:4000 SA";
    assert_eq!(bench.translated(Uplink, &back), text);

    let out = bench.translated(Pod, &echo("fd00:10:244:1::2", "2001:db8:113::1", 7, false));
    let id = out.rsplit(' ').next().and_then(|id| id.parse().ok()).expect("an identifier");
    assert_eq!(out, format!("echo 2001:db8::11 > 2001:db8:113::1 id {id}"));
    let back = bench.translated(Uplink, &echo("2001:db8:113::1", "2001:db8::11", id, true));
    assert_eq!(back, "echo reply 2001:db8:113::1 > fd00:10:244:1::2 id 7");
}

#[test]
fn neighbours_are_discovered_undisturbed() {
    let bench = bench(&["+[fd00:10:244:1::2]:8080"]);
    // Router and neighbour solicitations and advertisements, to a group, a link-local address and the node.
    for kind in 133..=136 {
        for to in ["ff02::1:ff00:11", "fe80::1", "2001:db8::11"] {
            for from in ["fe80::5", "fd00:10:244:1::2"] {
                let frame = icmp_error(from, to, (kind, 0), [0; 4], &[0; 16]);
                assert!(bench.is_untouched(Pod, &frame), "{kind} to {to}");
            }
            let frame = icmp_error("fe80::5", to, (kind, 0), [0; 4], &[0; 16]);
            assert!(bench.is_untouched(Uplink, &frame), "{kind} to {to}");
        }
    }
}

#[test]
fn cluster_ips_and_pods_are_not_for_the_lan() {
    let bench = bench(&["+[fd00:10:244:1::2]:8080"]);
    assert!(bench.is_dropped(Uplink, &tcp(CLIENT, "[fd00:10:96::7]:80", "S", b"")));
    assert!(bench.is_dropped(Uplink, &tcp(CLIENT, HERE, "S", b"")));
    assert!(bench.is_dropped(Uplink, &tcp(CLIENT, "[fd00:10:96::99]:80", "S", b"")));
    assert!(
        bench.is_untouched(Uplink, &tcp("[2001:db8::12]:4000", HERE, "S", b"")),
        "other nodes are inside"
    );
}

#[test]
fn every_truncation_of_a_packet_does_no_harm() {
    let bench = bench(&["+[fd00:10:244:1::2]:8080"]);
    let frames = [
        tcp(CLIENT, FRONTEND, "S", b"payload"),
        with_extensions(&udp(CLIENT, FRONTEND, b"payload"), &[HOP_BY_HOP, DESTINATION]),
        fragment(&udp(CLIENT, FRONTEND, &[7; 64]), 0, 48, true),
        unreachable("fd00:10:244:1::2", "2001:db8::1", &udp(CLIENT, HERE, b"x")),
    ];
    for frame in frames {
        // The kernel runs nothing on less than an IP header.
        for length in IP + 40..frame.len() {
            // Shorter than its header says: for the stack to throw away.
            assert!(bench.is_untouched(Uplink, &frame[..length]), "{length} of {}", frame.len());
            // And as if it had been sent so.
            let mut honest = frame[..length].to_vec();
            let payload = (length - IP - 40) as u16;
            honest[IP + 4..IP + 6].copy_from_slice(&payload.to_be_bytes());
            let verdict = bench.run(Uplink, &honest);
            assert!(verdict.1.len() >= 14, "{length} of {}", frame.len());
        }
    }
}
