//! One packet in, one packet out: each test says what happens to a packet, and why it must. Here
//! who is served, who is refused, and who is dropped.

mod common;

use common::bench::{Bench, DROPPED, SENT, TO_STACK, node_port};
use common::frames::{describe, echo, fix_ip_checksum, tcp, udp};
use common::{entry, ip, key, service};
use daymark_dataplane::DataPlane;
use daymark_dataplane::PacketProgram::{Pod, Uplink};
use daymark_model::Protocol::{Tcp, Udp};
use daymark_plan::tables::FrontendKind::{ClusterIp, ExternalIp, LoadBalancerIp, NodePort};
use daymark_plan::tables::{Frontend, Op, ServiceEntry};

#[test]
fn without_endpoints_tcp_is_reset_and_udp_unreachable() {
    let bench = Bench::new(&node_port(&[]));
    let (action, frame) = bench.run(Uplink, &tcp("192.0.2.1:4000", "192.0.2.11:30008", "S", b""));
    assert_eq!(action, SENT);
    assert_eq!(describe(&frame), "tcp 192.0.2.11:30008 > 192.0.2.1:4000 RA");
    assert_eq!(frame[42..46], 1001u32.to_be_bytes(), "acknowledges the SYN");
    assert_eq!(frame[0..6], [2, 0, 0, 0, 0, 1], "back to the sender");

    let long = udp("192.0.2.1:4000", "192.0.2.11:30008", &[7; 900]);
    for question in [udp("192.0.2.1:4000", "192.0.2.11:30008", b""), long] {
        let (action, frame) = bench.run(Uplink, &question);
        assert_eq!(action, SENT);
        assert_eq!(describe(&frame), "error 192.0.2.11 > 192.0.2.1 about 192.0.2.1:4000 > 192.0.2.11:30008");
    }
    assert!(bench.is_dropped(Uplink, &tcp("192.0.2.1:4000", "192.0.2.11:30008", "R", b"")));
}

#[test]
fn connection_that_no_table_remembers_is_reset() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:80"]));
    let (action, frame) = bench.run(Uplink, &tcp("192.0.2.1:4000", "192.0.2.11:30008", "A", b"data"));
    assert_eq!(action, SENT);
    assert_eq!(describe(&frame), "tcp 192.0.2.11:30008 > 192.0.2.1:4000 R");
    assert_eq!(frame[38..42], 5000u32.to_be_bytes(), "sequence is what the client acknowledged");
}

#[test]
fn policy_local_without_a_local_backend_drops_clients_outside_and_serves_those_inside() {
    let mut ops = vec![Op::PutService { id: 1, entry: entry(1, &["10.244.2.2:80"]) }];
    let frontend = Frontend { service: 1, kind: NodePort, local_only: true, source_checked: false };
    ops.push(Op::PutFrontend { key: key(Tcp, "192.0.2.11:30008"), frontend });
    let bench = Bench::new(&ops);
    assert!(bench.is_dropped(Uplink, &tcp("192.0.2.1:4000", "192.0.2.11:30008", "S", b"")));
    let inside = tcp("192.0.2.12:4000", "192.0.2.11:30008", "S", b"");
    assert!(bench.translated(Uplink, &inside).ends_with("> 10.244.2.2:80 S"));
}

#[test]
fn slots_are_divided_between_policies() {
    let slots = entry(1, &["+10.244.1.2:80", "10.244.2.2:80"]).slots;
    let entry = ServiceEntry { generation: 1, slots, n_local: 1, cluster_from: 1, ..Default::default() };
    let local = Frontend { service: 1, kind: NodePort, local_only: true, source_checked: false };
    let cluster = Frontend { local_only: false, ..local };
    let bench = Bench::new(&[
        Op::PutService { id: 1, entry },
        Op::PutFrontend { key: key(Tcp, "192.0.2.11:30001"), frontend: local },
        Op::PutFrontend { key: key(Tcp, "192.0.2.11:30002"), frontend: cluster },
    ]);
    for port in 4000..4030 {
        let client = format!("192.0.2.1:{port}");
        let text = bench.translated(Uplink, &tcp(&client, "192.0.2.11:30001", "S", b""));
        assert!(text.ends_with("> 10.244.1.2:80 S"), "{text}");
        let text = bench.translated(Uplink, &tcp(&client, "192.0.2.11:30002", "S", b""));
        assert!(text.ends_with("> 10.244.2.2:80 S"), "{text}");
    }
}

#[test]
fn source_ranges_admit_only_their_clients() {
    let frontend = Frontend { service: 1, kind: LoadBalancerIp, local_only: false, source_checked: true };
    let mut bench = Bench::new(&[
        Op::PutService { id: 1, entry: entry(1, &["+10.244.1.2:80"]) },
        Op::PutSourceRanges { id: 1, ranges: vec!["192.0.2.0/30".parse().expect("CIDR")] },
        Op::PutFrontend { key: key(Tcp, "192.0.2.200:80"), frontend },
    ]);
    let near = tcp("192.0.2.1:4000", "192.0.2.200:80", "S", b"");
    let far = tcp("192.0.2.9:4000", "192.0.2.200:80", "S", b"");
    assert_eq!(bench.translated(Uplink, &near), "tcp 192.0.2.1:4000 > 10.244.1.2:80 S");
    assert!(bench.is_dropped(Uplink, &far));
    let ranges = vec!["192.0.2.8/29".parse().expect("CIDR")];
    bench.plane.apply(&[Op::PutSourceRanges { id: 1, ranges }]).expect("applies");
    assert_eq!(bench.translated(Uplink, &far), "tcp 192.0.2.9:4000 > 10.244.1.2:80 S");
    assert!(bench.is_dropped(Uplink, &tcp("192.0.2.1:4001", "192.0.2.200:80", "S", b"")));
    assert_eq!(bench.plane.meters().stats().expect("stats").drop_source_range, 2);
}

#[test]
fn affinity_keeps_a_client_at_its_backend_and_remembers_that_it_is_local() {
    let backends = ["+10.244.1.2:80", "10.244.2.2:80", "10.244.2.3:80", "+10.244.1.3:80"];
    let entry = ServiceEntry { affinity_seconds: 60, ..entry(1, &backends) };
    let mut ops = node_port(&backends);
    ops.push(Op::PutService { id: 1, entry });
    let bench = Bench::new(&ops);
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"] {
        let backend_of = |port: u16| {
            let text =
                bench.translated(Uplink, &tcp(&format!("{client}:{port}"), "192.0.2.11:30008", "S", b""));
            let local = text.contains("> 10.244.1.");
            assert_eq!(
                text.contains(&format!(" {client}:")),
                local,
                "only local backends see the client: {text}"
            );
            text.split("> ").nth(1).expect("target").to_owned()
        };
        let first = backend_of(4000);
        assert!((4001..4010).all(|port| backend_of(port) == first));
    }
}

#[test]
fn pods_and_cluster_ips_are_unreachable_from_outside() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:80"]));
    assert!(bench.is_dropped(Uplink, &tcp("192.0.2.1:4000", "10.244.1.2:80", "S", b"")));
    assert!(bench.is_dropped(Uplink, &echo("192.0.2.1", "10.244.1.2", 1, false)));
    assert!(bench.is_dropped(Uplink, &tcp("192.0.2.1:4000", "10.96.0.7:80", "S", b"")));
    assert!(bench.is_dropped(Uplink, &tcp("192.0.2.1:4000", "10.96.99.99:80", "S", b"")));
    assert!(bench.is_untouched(Uplink, &tcp("192.0.2.12:4000", "10.244.1.2:80", "S", b"")));
    assert!(bench.is_untouched(Uplink, &tcp("10.244.2.2:4000", "10.244.1.2:80", "S", b"")));
    assert_eq!(bench.plane.meters().stats().expect("stats").drop_isolation, 2);
}

#[test]
fn cluster_ip_in_a_packet_of_a_pod_never_leaves_the_node() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:80"]));
    assert!(bench.is_dropped(Pod, &tcp("10.244.1.3:4000", "10.96.0.7:80", "S", b"")));
    assert!(bench.is_dropped(Pod, &tcp("10.244.1.3:4000", "10.96.0.7:81", "S", b"")));
    assert!(bench.is_dropped(Pod, &udp("10.244.1.3:4000", "10.96.0.99:53", b"")));
}

/// Connecting a socket of UDP where nothing answers succeeds, so what it sends comes as packets.
#[test]
fn datagram_of_a_pod_to_a_cluster_ip_is_refused_until_something_answers_there() {
    let mut ops = service(1, &[(ClusterIp, Udp, "10.96.0.7:53")], &[]);
    ops.push(Op::PutClusterIp { ip: ip("10.96.0.7") });
    let mut bench = Bench::new(&ops);
    for port in [53, 54] {
        let (action, frame) = bench.run(Pod, &udp("10.244.1.3:4000", &format!("10.96.0.7:{port}"), b"?"));
        let told = format!("error 10.96.0.7 > 10.244.1.3 about 10.244.1.3:4000 > 10.96.0.7:{port}");
        assert_eq!((action, describe(&frame)), (SENT, told));
    }
    let stats = bench.plane.meters().stats().expect("stats");
    assert_eq!((stats.packet_refused, stats.drop_no_port), (2, 1));
    assert_eq!(bench.plane.meters().service_stats().expect("stats")[&1].refusals, 1);

    bench.plane.apply(&[Op::PutService { id: 1, entry: entry(2, &["10.244.2.2:53"]) }]).expect("applies");
    let there = bench.translated(Pod, &udp("10.244.1.3:4000", "10.96.0.7:53", b"?"));
    assert_eq!(there, "udp 10.244.1.3:4000 > 10.244.2.2:53");
    let back = bench.translated(Uplink, &udp("10.244.2.2:53", "10.244.1.3:4000", b"!"));
    assert_eq!(back, "udp 10.96.0.7:53 > 10.244.1.3:4000");
    assert!(bench.is_dropped(Uplink, &udp("192.0.2.1:4000", "10.96.0.7:53", b"?")), "for pods alone");
    assert!(bench.is_dropped(Uplink, &udp("192.0.2.1:4000", "10.96.0.7:54", b"?")), "for pods alone");
}

#[test]
fn unserved_port_of_a_load_balancer_address_is_refused_until_the_address_is_given_up() {
    let mut bench = Bench::new(&service(1, &[(LoadBalancerIp, Tcp, "192.0.2.200:80")], &["+10.244.1.2:80"]));
    let other = tcp("192.0.2.1:4000", "192.0.2.200:81", "S", b"");
    let (action, frame) = bench.run(Uplink, &other);
    assert_eq!((action, describe(&frame).as_str()), (SENT, "tcp 192.0.2.200:81 > 192.0.2.1:4000 RA"));
    bench.plane.apply(&[Op::DeleteFrontend { key: key(Tcp, "192.0.2.200:80") }]).expect("applies");
    assert!(bench.is_untouched(Uplink, &other));
}

#[test]
fn other_ports_of_a_machine_whose_address_a_service_is_given_are_its_own() {
    let mut bench = Bench::new(&node_port(&["10.244.2.2:8080"]));
    bench.plane.set_cluster_sources(vec!["192.0.2.12/32".parse().expect("CIDR")]).expect("sets");
    for (id, kind) in [(2, ExternalIp), (3, LoadBalancerIp)] {
        let (host, node) = (format!("192.0.2.1:930{id}"), format!("192.0.2.12:930{id}"));
        let frontends = [(kind, Tcp, host.as_str()), (kind, Tcp, node.as_str())];
        bench.plane.apply(&service(id, &frontends, &["+10.244.1.2:80"])).expect("applies");
    }
    // What this node's clients are told by another node's backend, and what a pod answers another node.
    let there = bench.translated(Uplink, &tcp("192.0.2.1:4000", "192.0.2.11:30008", "S", b""));
    assert!(there.ends_with("> 10.244.2.2:8080 S"), "{there}");
    assert!(bench.is_untouched(Pod, &tcp("10.244.1.2:80", "192.0.2.12:10077", "SA", b"")));
    assert!(bench.is_untouched(Pod, &tcp("10.244.1.2:4000", "192.0.2.12:10250", "S", b"")));
    // The API server of the host.
    let out = bench.translated(Pod, &tcp("10.244.1.2:4001", "192.0.2.1:6443", "S", b""));
    assert!(out.ends_with("> 192.0.2.1:6443 S"), "{out}");
    assert!(bench.is_untouched(Uplink, &tcp("192.0.2.1:4000", "192.0.2.12:10250", "S", b"")), "to be routed");
    // And name servers: a conversation is not begun anew with each packet.
    let question = udp("10.244.1.2:4002", "192.0.2.1:53", b"?");
    assert_eq!(bench.translated(Pod, &question), bench.translated(Pod, &question));
}

#[test]
fn a_cluster_ip_stays_one_while_others_claim_it_and_after_them() {
    let mut bench = Bench::new(&service(1, &[(ClusterIp, Tcp, "10.96.0.10:80")], &["+10.244.1.2:80"]));
    let ip = "10.96.0.10".parse().expect("an address");
    bench.plane.apply(&[Op::PutClusterIp { ip }]).expect("applies");
    let is_known = |bench: &mut Bench| bench.plane.reload().expect("reads").cluster_ips.contains(&ip);
    let claim = service(2, &[(ExternalIp, Tcp, "10.96.0.10:8000")], &["+10.244.1.3:80"]);
    bench.plane.apply(&claim).expect("applies");
    assert!(is_known(&mut bench), "while it is claimed");
    bench.plane.apply(&[Op::DeleteFrontend { key: key(Tcp, "10.96.0.10:8000") }]).expect("applies");
    assert!(is_known(&mut bench), "after the claim");

    let other = tcp("192.0.2.1:4000", "10.96.0.10:81", "S", b"");
    bench.plane.apply(&claim).expect("applies");
    let gone = [Op::DeleteFrontend { key: key(Tcp, "10.96.0.10:80") }, Op::DeleteClusterIp { ip }];
    bench.plane.apply(&gone).expect("applies");
    assert!(!is_known(&mut bench));
    let tables = bench.plane.reload().expect("reads");
    assert!(tables.frontends.contains_key(&key(Tcp, "10.96.0.10:8000")), "the claim has the address now");
    assert!(!bench.is_untouched(Uplink, &other), "and what it does not serve is refused");
}

#[test]
fn pods_reach_pods_and_nodes_as_themselves() {
    let bench = Bench::new(&[]);
    for target in ["10.244.1.3:80", "10.244.2.3:80", "192.0.2.11:53", "192.0.2.12:10250"] {
        assert!(bench.is_untouched(Pod, &tcp("10.244.1.2:4000", target, "S", b"")), "{target}");
    }
}

#[test]
fn pod_addresses_never_leak_in_what_cannot_be_translated() {
    let bench = Bench::new(&[]);
    let mut gre = udp("10.244.1.2:1", "192.0.2.1:1", b"12345678");
    gre[23] = 47;
    fix_ip_checksum(&mut gre);
    assert!(bench.is_dropped(Pod, &gre));
    assert_eq!(bench.plane.meters().stats().expect("stats").drop_untranslatable, 1);
}

#[test]
fn malformed_packets_pass_untouched() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:80"]));
    let sound = tcp("192.0.2.1:4000", "192.0.2.11:30008", "S", b"payload");
    // The kernel runs no program on less than an IP header.
    for length in 34..54 {
        let cut = &sound[..length];
        assert!(bench.is_untouched(Uplink, cut), "cut to {length} bytes");
        assert!(bench.is_untouched(Pod, cut), "cut to {length} bytes");
    }
    for (offset, value) in [(14, 0x41), (14, 0x65), (14, 0x4f), (16, 0xff), (17, 0x05), (12, 0x86)] {
        let mut frame = sound.clone();
        frame[offset] = value;
        assert!(bench.is_untouched(Uplink, &frame), "byte {offset} = {value:#x}");
    }
    // Whatever comes: no crash, and a verdict that the kernel knows.
    let mut seed = 1u64;
    for _ in 0..2000 {
        let mut frame = sound.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = 14 + (seed >> 33) as usize % (frame.len() - 14);
            frame[at] = (seed >> 25) as u8;
        }
        for program in [Uplink, Pod] {
            let (action, _) = bench.run(program, &frame);
            assert!([TO_STACK, DROPPED, SENT].contains(&action), "{action}");
        }
    }
}

#[test]
fn cluster_members_come_and_go() {
    let mut bench = Bench::new(&[]);
    let probe = tcp("192.0.2.13:4000", "10.244.1.2:80", "S", b"");
    let out = tcp("10.244.1.2:4000", "192.0.2.13:80", "S", b"");
    assert!(bench.is_dropped(Uplink, &probe));
    assert!(bench.translated(Pod, &out).starts_with("tcp 192.0.2.11:"));
    bench.plane.set_cluster_sources(vec!["192.0.2.13/32".parse().expect("CIDR")]).expect("sets");
    assert!(bench.is_untouched(Uplink, &probe));
    let another = tcp("10.244.1.2:4001", "192.0.2.13:80", "S", b"");
    assert!(bench.is_untouched(Pod, &another));
    bench.plane.set_cluster_sources(Vec::new()).expect("sets");
    assert!(bench.is_dropped(Uplink, &probe));
}

#[test]
fn successor_takes_no_node_for_a_stranger_while_the_api_has_not_told() {
    let mut bench = Bench::new(&[]);
    let probe = tcp("192.0.2.13:4000", "10.244.1.2:80", "S", b"");
    bench.plane.set_cluster_sources(vec!["192.0.2.13/32".parse().expect("CIDR")]).expect("sets");
    let Bench { plane, pins, .. } = bench;
    drop(plane);
    let mut config = pins.config();
    config.cluster_sources.clear();
    let (mut plane, _) = DataPlane::open(config).expect("opens");
    let run = |plane: &DataPlane| plane.run(Uplink, &probe, 0).expect("the program runs").action;
    assert_eq!(run(&plane), TO_STACK);
    plane.set_cluster_sources(Vec::new()).expect("sets");
    assert_eq!(run(&plane), DROPPED);
}

/// The frame with options that do nothing behind its header of IPv4.
fn with_options(frame: &[u8], words: u8) -> Vec<u8> {
    let bytes = usize::from(words) * 4;
    let mut long = [&frame[..34], &vec![1; bytes], &frame[34..]].concat();
    long[14] += words;
    set_length(&mut long);
    long
}

/// Makes the header of IPv4 say how long the frame is.
fn set_length(frame: &mut [u8]) {
    let length = u16::try_from(frame.len() - 14).expect("short");
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    fix_ip_checksum(frame);
}

#[test]
fn options_of_ipv4_change_nothing() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:8080"]));
    for words in 1..=10 {
        let client = format!("192.0.2.1:{}", 4000 + u16::from(words));
        let syn = with_options(&tcp(&client, "192.0.2.11:30008", "S", b""), words);
        assert_eq!(bench.translated(Uplink, &syn), format!("tcp {client} > 10.244.1.2:8080 S"));
        let among_pods = with_options(&tcp("10.244.2.2:80", "10.244.1.2:4000", "A", b"data"), words);
        assert!(bench.is_untouched(Uplink, &among_pods));
    }
}

#[test]
fn every_truncation_of_a_packet_of_ipv4_does_no_harm() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:8080"]));
    let (client, node) = ("192.0.2.1:4000", "192.0.2.11:30008");
    let syn = tcp(client, node, "S", b"");
    let whole = [(syn.clone(), 34, 20), (with_options(&syn, 10), 74, 20), (udp(client, node, b"x"), 34, 8)];
    for (frame, header, transport) in whole {
        // The kernel runs nothing on less than an IP header.
        for length in 34..frame.len() {
            assert!(bench.is_untouched(Uplink, &frame[..length]), "{length} bytes that promise more");
        }
        for length in header..header + transport {
            let mut cut = frame[..length].to_vec();
            set_length(&mut cut);
            assert!(bench.is_untouched(Uplink, &cut), "{length} bytes are no whole transport header");
        }
    }
}
