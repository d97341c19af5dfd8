//! One packet in, one packet out: each test says what happens to a packet, and why it must. Here
//! the life of translated connections.

mod common;

use std::time::Duration;

use common::bench::{Bench, TO_STACK, node_port, node_port_in};
use common::frames::{describe, echo, fix_ip_checksum, tcp, udp, unreachable};
use common::{Pins, entry, put_frontend};
use daymark_dataplane::PacketProgram::{Pod, Uplink};
use daymark_dataplane::{DataPlane, monotonic_now};
use daymark_model::Protocol::Tcp;
use daymark_plan::tables::FrontendKind::NodePort;
use daymark_plan::tables::Op;

#[test]
fn local_backend_sees_the_client_and_answers_as_the_node() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:8080"]));
    let syn = tcp("192.0.2.1:4000", "192.0.2.11:30008", "S", b"");
    assert_eq!(bench.translated(Uplink, &syn), "tcp 192.0.2.1:4000 > 10.244.1.2:8080 S");
    let answer = tcp("10.244.1.2:8080", "192.0.2.1:4000", "SA", b"");
    assert_eq!(bench.translated(Pod, &answer), "tcp 192.0.2.11:30008 > 192.0.2.1:4000 SA");
    let data = tcp("192.0.2.1:4000", "192.0.2.11:30008", "A", b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(bench.translated(Uplink, &data), "tcp 192.0.2.1:4000 > 10.244.1.2:8080 A");
}

#[test]
fn backend_of_another_node_is_called_by_the_node_so_that_it_answers_the_node() {
    let bench = Bench::new(&node_port(&["10.244.2.2:8080"]));
    let syn = tcp("192.0.2.1:4000", "192.0.2.11:30008", "S", b"");
    let there = bench.translated(Uplink, &syn);
    let port = node_port_in(&there);
    assert_eq!(there, format!("tcp 192.0.2.11:{port} > 10.244.2.2:8080 S"));
    assert!((10_000..30_000).contains(&port));
    let answer = tcp("10.244.2.2:8080", &format!("192.0.2.11:{port}"), "SA", b"");
    assert_eq!(bench.translated(Uplink, &answer), "tcp 192.0.2.11:30008 > 192.0.2.1:4000 SA");
}

#[test]
fn a_pod_reaches_a_pod_of_another_node_through_a_node_port_and_is_answered_by_it() {
    let bench = Bench::new(&node_port(&["10.244.2.2:8080"]));
    let answer = tcp("10.244.2.2:8080", "10.244.1.5:4000", "SA", b"");
    assert!(bench.is_untouched(Uplink, &answer), "nobody has asked yet");
    let syn = tcp("10.244.1.5:4000", "192.0.2.11:30008", "S", b"");
    assert_eq!(bench.translated(Pod, &syn), "tcp 10.244.1.5:4000 > 10.244.2.2:8080 S");
    assert_eq!(bench.translated(Uplink, &answer), "tcp 192.0.2.11:30008 > 10.244.1.5:4000 SA");
}

#[test]
fn udp_is_translated_both_ways_and_a_missing_checksum_stays_missing() {
    let bench = Bench::new(&node_port(&["10.244.2.2:53"]));
    let question = udp("192.0.2.1:4000", "192.0.2.11:30008", b"question");
    let there = bench.translated(Uplink, &question);
    let port = node_port_in(&there);
    assert_eq!(there, format!("udp 192.0.2.11:{port} > 10.244.2.2:53"));
    let answer = udp("10.244.2.2:53", &format!("192.0.2.11:{port}"), b"answer");
    assert_eq!(bench.translated(Uplink, &answer), "udp 192.0.2.11:30008 > 192.0.2.1:4000");
    let mut unsummed = question;
    unsummed[40..42].fill(0);
    assert_eq!(bench.run(Uplink, &unsummed).1[40..42], [0, 0]);
}

#[test]
fn every_backend_gets_its_share() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:80", "+10.244.1.3:80", "+10.244.1.4:80"]));
    let mut counts = [0; 3];
    for port in 0..300 {
        let syn = tcp(&format!("192.0.2.1:{}", 4000 + port), "192.0.2.11:30008", "S", b"");
        let text = bench.translated(Uplink, &syn);
        let backend = (0..3).find(|i| text.contains(&format!("10.244.1.{}:80", i + 2))).expect("a backend");
        counts[backend] += 1;
    }
    // 100 each with a standard deviation of 8: five of them.
    assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
}

#[test]
fn retransmitted_syn_keeps_its_backend() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:80", "+10.244.1.3:80", "10.244.2.4:80"]));
    let syn = tcp("192.0.2.1:4000", "192.0.2.11:30008", "S", b"");
    let first = bench.translated(Uplink, &syn);
    for _ in 0..20 {
        assert_eq!(bench.translated(Uplink, &syn), first);
    }
}

#[test]
fn retransmitted_syn_leaves_a_backend_that_is_gone_but_an_established_connection_stays() {
    let mut bench = Bench::new(&node_port(&["+10.244.1.2:80"]));
    let waiting = tcp("192.0.2.1:4000", "192.0.2.11:30008", "S", b"");
    let established = tcp("192.0.2.1:4001", "192.0.2.11:30008", "S", b"");
    bench.translated(Uplink, &waiting);
    bench.translated(Uplink, &established);
    bench.translated(Pod, &tcp("10.244.1.2:80", "192.0.2.1:4001", "SA", b""));
    bench.plane.apply(&[Op::PutService { id: 1, entry: entry(2, &["+10.244.1.9:80"]) }]).expect("applies");
    assert_eq!(bench.translated(Uplink, &waiting), "tcp 192.0.2.1:4000 > 10.244.1.9:80 S");
    let data = tcp("192.0.2.1:4001", "192.0.2.11:30008", "A", b"data");
    assert_eq!(bench.translated(Uplink, &data), "tcp 192.0.2.1:4001 > 10.244.1.2:80 A");
}

#[test]
fn udp_flow_leaves_a_backend_that_is_gone() {
    let mut bench = Bench::new(&node_port(&["+10.244.1.2:80"]));
    let datagram = udp("192.0.2.1:4000", "192.0.2.11:30008", b"x");
    assert_eq!(bench.translated(Uplink, &datagram), "udp 192.0.2.1:4000 > 10.244.1.2:80");
    bench.plane.apply(&[Op::PutService { id: 1, entry: entry(2, &["+10.244.1.9:80"]) }]).expect("applies");
    assert_eq!(bench.translated(Uplink, &datagram), "udp 192.0.2.1:4000 > 10.244.1.9:80");
}

#[test]
fn reused_client_port_starts_anew_when_the_connection_was_closed() {
    let mut bench = Bench::new(&node_port(&["+10.244.1.2:80"]));
    let client = "192.0.2.1:4000";
    let syn = tcp(client, "192.0.2.11:30008", "S", b"");
    bench.translated(Uplink, &syn);
    bench.translated(Pod, &tcp("10.244.1.2:80", client, "SA", b""));
    bench.translated(Uplink, &tcp(client, "192.0.2.11:30008", "FA", b""));
    bench.translated(Pod, &tcp("10.244.1.2:80", client, "FA", b""));
    bench.plane.apply(&[Op::PutService { id: 1, entry: entry(2, &["+10.244.1.9:80"]) }]).expect("applies");
    assert_eq!(bench.translated(Uplink, &syn), "tcp 192.0.2.1:4000 > 10.244.1.9:80 S");
}

#[test]
fn direct_connection_is_not_mistaken_for_a_finished_translated_one() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:80"]));
    let client = "192.0.2.12:4000";
    bench.translated(Uplink, &tcp(client, "192.0.2.11:30008", "S", b""));
    bench.translated(Uplink, &tcp(client, "192.0.2.11:30008", "R", b""));
    let direct = tcp(client, "10.244.1.2:80", "S", b"");
    assert!(bench.is_untouched(Uplink, &direct));
    assert!(bench.is_untouched(Pod, &tcp("10.244.1.2:80", client, "SA", b"")));
}

#[test]
fn clashing_replies_get_another_port() {
    let mut ops = node_port(&["+10.244.1.2:80"]);
    ops.push(put_frontend(1, NodePort, Tcp, "192.0.2.11:30009"));
    let bench = Bench::new(&ops);
    let client = "192.0.2.1:4000";
    bench.translated(Uplink, &tcp(client, "192.0.2.11:30008", "S", b""));
    let second = bench.translated(Uplink, &tcp(client, "192.0.2.11:30009", "S", b""));
    let port: u16 = second.split([':', ' ']).nth(2).expect("port").parse().expect("number");
    assert!((10_000..30_000).contains(&port), "{second}");
    let answer = tcp("10.244.1.2:80", &format!("192.0.2.1:{port}"), "SA", b"");
    assert_eq!(bench.translated(Pod, &answer), "tcp 192.0.2.11:30009 > 192.0.2.1:4000 SA");
    let first = tcp("10.244.1.2:80", client, "SA", b"");
    assert_eq!(bench.translated(Pod, &first), "tcp 192.0.2.11:30008 > 192.0.2.1:4000 SA");
}

#[test]
fn pods_reach_the_outside_as_the_node() {
    let bench = Bench::new(&[]);
    let out = bench.translated(Pod, &tcp("10.244.1.2:4000", "192.0.2.1:6443", "S", b""));
    let port = node_port_in(&out);
    assert_eq!(out, format!("tcp 192.0.2.11:{port} > 192.0.2.1:6443 S"));
    let back = tcp("192.0.2.1:6443", &format!("192.0.2.11:{port}"), "SA", b"");
    assert_eq!(bench.translated(Uplink, &back), "tcp 192.0.2.1:6443 > 10.244.1.2:4000 SA");

    let out = bench.translated(Pod, &udp("10.244.1.2:4000", "192.0.2.1:53", b"q"));
    let back = udp("192.0.2.1:53", &format!("192.0.2.11:{}", node_port_in(&out)), b"a");
    assert_eq!(bench.translated(Uplink, &back), "udp 192.0.2.1:53 > 10.244.1.2:4000");

    let out = bench.translated(Pod, &echo("10.244.1.2", "192.0.2.1", 77, false));
    let id = out.rsplit(' ').next().expect("id").parse().expect("number");
    assert_eq!(out, format!("echo 192.0.2.11 > 192.0.2.1 id {id}"));
    let back = echo("192.0.2.1", "192.0.2.11", id, true);
    assert_eq!(bench.translated(Uplink, &back), "echo reply 192.0.2.1 > 10.244.1.2 id 77");
}

#[test]
fn icmp_errors_reach_the_client_in_its_own_terms() {
    let bench = Bench::new(&node_port(&["10.244.2.2:53", "10.244.2.2:53"]));
    let question = udp("192.0.2.1:4000", "192.0.2.11:30008", b"question");
    let (_, sent) = bench.run(Uplink, &question);
    // From the backend itself, and from a router on the way.
    let error = unreachable("10.244.2.2", "192.0.2.11", &sent);
    assert_eq!(
        bench.translated(Uplink, &error),
        "error 192.0.2.11 > 192.0.2.1 about 192.0.2.1:4000 > 192.0.2.11:30008"
    );
    let error = unreachable("192.0.2.77", "192.0.2.11", &sent);
    assert_eq!(
        bench.translated(Uplink, &error),
        "error 192.0.2.77 > 192.0.2.1 about 192.0.2.1:4000 > 192.0.2.11:30008"
    );
}

#[test]
fn icmp_errors_reach_a_masqueraded_pod() {
    let bench = Bench::new(&[]);
    let (_, sent) = bench.run(Pod, &udp("10.244.1.2:4000", "192.0.2.1:53", b"q"));
    let error = unreachable("192.0.2.1", "192.0.2.11", &sent);
    assert_eq!(
        bench.translated(Uplink, &error),
        "error 192.0.2.1 > 10.244.1.2 about 10.244.1.2:4000 > 192.0.2.1:53"
    );
}

#[test]
fn fragments_follow_the_first() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:53"]));
    let mut first = udp("192.0.2.1:4000", "192.0.2.11:30008", &[1; 64]);
    first[18..20].copy_from_slice(&77u16.to_be_bytes());
    first[20..22].copy_from_slice(&0x2000u16.to_be_bytes());
    fix_ip_checksum(&mut first);
    let mut later = first.clone();
    later[20..22].copy_from_slice(&9u16.to_be_bytes());
    fix_ip_checksum(&mut later);
    assert!(bench.is_untouched(Uplink, &later), "unknown datagram");
    bench.run(Uplink, &first);
    let (action, frame) = bench.run(Uplink, &later);
    assert_eq!(action, TO_STACK);
    assert_eq!(frame[30..34], [10, 244, 1, 2], "to the backend of the first");
    assert_eq!(frame[34..], later[34..], "payload is not taken for a header");
}

#[test]
fn expired_state_is_collected_and_live_state_is_not() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:80"]));
    let client = "192.0.2.1:4000";
    bench.translated(Uplink, &tcp(client, "192.0.2.11:30008", "S", b""));
    bench.translated(Pod, &tcp("10.244.1.2:80", client, "SA", b""));
    bench.translated(Uplink, &udp(client, "192.0.2.11:30008", b"x"));
    let closed = "192.0.2.1:4001";
    bench.translated(Uplink, &tcp(closed, "192.0.2.11:30008", "S", b""));
    bench.translated(Uplink, &tcp(closed, "192.0.2.11:30008", "R", b""));
    let now = monotonic_now();
    assert_eq!(bench.plane.gc(now).expect("gc"), 0);
    assert_eq!(bench.plane.gc(now + Duration::from_secs(15)).expect("gc"), 2, "the closed connection");
    assert_eq!(bench.plane.gc(now + Duration::from_secs(40)).expect("gc"), 2, "the silent datagram");
    assert_eq!(bench.plane.gc(now + Duration::from_secs(3600)).expect("gc"), 0);
    assert_eq!(bench.plane.meters().flow_entries().expect("flows"), 2);
    assert_eq!(bench.plane.gc(now + Duration::from_secs(100_000)).expect("gc"), 2);
}

#[test]
fn ports_of_closed_connections_are_taken_again_before_they_expire() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
    let pins = Pins::new();
    let mut config = pins.config();
    config.snat_ports = 10_000..=10_001;
    let (plane, _) = DataPlane::open(config).expect("opens");
    let bench = Bench { plane, pins };
    for port in 4000..4050 {
        let pod = format!("10.244.1.2:{port}");
        let (action, out) = bench.run(Pod, &tcp(&pod, "192.0.2.1:80", "S", b""));
        assert_eq!(action, TO_STACK, "connection from port {port}");
        let node = format!("192.0.2.11:{}", node_port_in(&describe(&out)));
        bench.translated(Uplink, &tcp("192.0.2.1:80", &node, "RA", b""));
    }
    // Both ports in use by live connections: the third is dropped, and counted.
    let open = |port: u16| bench.run(Pod, &tcp(&format!("10.244.1.3:{port}"), "192.0.2.1:80", "S", b"")).0;
    let outcomes: Vec<i32> = (5000..5020).map(open).collect();
    assert_eq!(outcomes.iter().filter(|action| **action == TO_STACK).count(), 2, "{outcomes:?}");
    assert_eq!(bench.plane.meters().stats().expect("stats").drop_flow_full, 18);
}

#[test]
fn the_data_plane_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<DataPlane>();
}
