//! What the programs count, and where Maglev sends clients.

mod common;

use std::collections::BTreeSet;

use common::bench::{Bench, node_port};
use common::frames::{tcp, udp};
use common::{Pins, entry};
use daymark_dataplane::PacketProgram::{Pod, Uplink};
use daymark_dataplane::{DataPlane, ServiceStats, Sizes, monotonic_now};
use daymark_plan::apply_ops;
use daymark_plan::tables::{Op, Tables};

const FRONTEND: &str = "192.0.2.11:30008";

fn maglev(generation: u32, backends: &[&str]) -> Op {
    let mut entry = entry(generation, backends);
    entry.maglev = true;
    Op::PutService { id: 1, entry }
}

/// Which backend each of many clients gets.
fn choices(bench: &Bench) -> Vec<String> {
    let backend = |port: u16| {
        let client = format!("192.0.2.1:{port}");
        let there = bench.translated(Uplink, &udp(&client, FRONTEND, b"x"));
        there.rsplit(' ').next().expect("a target").to_owned()
    };
    (4000..4200).map(backend).collect()
}

#[test]
fn maglev_gives_a_client_the_same_backend_on_every_node() {
    let backends = ["10.244.1.2:80", "10.244.1.3:80", "10.244.2.2:80", "10.244.2.3:80"];
    let mut all = Vec::new();
    // The nodes' own backends come first in their slots.
    for here in ["10.244.1.", "10.244.2.", "none"] {
        let mark = |b: &&str| format!("{}{b}", if b.starts_with(here) { "+" } else { "" });
        let marked: Vec<String> = backends.iter().map(mark).collect();
        let marked: Vec<&str> = marked.iter().map(String::as_str).collect();
        let mut bench = Bench::new(&node_port(&[]));
        bench.plane.apply(&[maglev(2, &marked)]).expect("applies");
        all.push(choices(&bench));
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
    assert_eq!(all[0].iter().collect::<BTreeSet<_>>().len(), 4, "every backend has clients");
}

#[test]
fn maglev_moves_few_clients_when_a_backend_goes() {
    let backends: Vec<String> = (2..12).map(|i| format!("10.244.2.{i}:80")).collect();
    let names: Vec<&str> = backends.iter().map(String::as_str).collect();
    let with = |names: &[&str]| {
        let mut bench = Bench::new(&node_port(&[]));
        bench.plane.apply(&[maglev(2, names)]).expect("applies");
        choices(&bench)
    };
    let (before, after) = (with(&names), with(&names[1..]));
    let moved = before.iter().zip(&after).filter(|(b, a)| b != a && *b != names[0]).count();
    let orphans = before.iter().filter(|backend| *backend == names[0]).count();
    assert!(orphans > 0 && moved <= 20, "{moved} of 200 moved, beside {orphans} that had to");
}

#[test]
fn a_wrong_maglev_table_is_found() {
    let ops = [maglev(2, &["10.244.2.2:80", "10.244.2.3:80"])];
    let mut bench = Bench::new(&node_port(&[]));
    bench.plane.apply(&ops).expect("applies");
    let mut tables = Tables::default();
    apply_ops(&mut tables, &node_port(&[]));
    apply_ops(&mut tables, &ops);
    assert_eq!(bench.plane.wrong_maglev_tables(&tables).expect("reads"), Vec::<u32>::new());
    apply_ops(&mut tables, &[maglev(2, &["10.244.2.2:80", "10.244.2.4:80"])]);
    assert_eq!(bench.plane.wrong_maglev_tables(&tables).expect("reads"), [1]);
}

#[test]
fn connections_bytes_and_refusals_are_counted() {
    let mut bench = Bench::new(&node_port(&["+10.244.1.2:8080"]));
    let client = "192.0.2.1:4000";
    let (syn, answer) = (tcp(client, FRONTEND, "S", b""), tcp("10.244.1.2:8080", client, "SA", b""));
    let (reset, data) =
        (tcp("10.244.1.2:8080", client, "R", b""), tcp("10.244.1.2:8080", client, "A", &[7; 500]));
    bench.translated(Uplink, &syn);
    bench.translated(Pod, &answer);
    bench.translated(Pod, &data);
    bench.translated(Pod, &reset);
    bench.translated(Uplink, &tcp(client, FRONTEND, "A", b""));
    let ip_bytes = |frames: &[&Vec<u8>]| frames.iter().map(|frame| frame.len() as u64 - 14).sum::<u64>();
    let stats = bench.plane.meters().service_stats().expect("reads")[&1];
    assert_eq!((stats.connections, stats.refusals), (1, 0));
    assert_eq!(stats.bytes_in, ip_bytes(&[&syn, &syn]), "SYN and last segment are of one length");
    assert_eq!(stats.bytes_out, ip_bytes(&[&answer, &data, &reset]));
    let by_backend = bench.plane.meters().backend_stats().expect("reads");
    assert_eq!(by_backend[&(1, "10.244.1.2:8080".parse().expect("address"))], stats);

    bench.plane.apply(&[Op::PutService { id: 1, entry: entry(2, &[]) }]).expect("applies");
    bench.run(Uplink, &tcp("192.0.2.1:4001", FRONTEND, "S", b""));
    let refused = bench.plane.meters().service_stats().expect("reads")[&1];
    assert_eq!(refused, ServiceStats { refusals: 1, ..stats });
}

#[test]
fn bytes_of_flows_that_fell_silent_are_counted() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:8080"]));
    let (question, answer) =
        (udp("192.0.2.1:4000", FRONTEND, &[7; 100]), udp("10.244.1.2:8080", "192.0.2.1:4000", &[7; 300]));
    for _ in 0..5 {
        bench.translated(Uplink, &question);
        bench.translated(Pod, &answer);
    }
    for _ in 0..2 {
        bench.plane.gc(monotonic_now()).expect("sweeps");
        let stats = bench
            .plane
            .meters()
            .service_stats()
            .expect("reads")
            .into_values()
            .fold(ServiceStats::default(), ServiceStats::plus);
        assert_eq!((stats.bytes_in, stats.bytes_out), (5 * 128, 5 * 328), "each once");
    }
}

#[test]
fn a_service_keeps_the_sum_of_backends_that_are_gone_and_is_forgotten_itself() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:8080"]));
    for port in 4000..4005 {
        bench.translated(Uplink, &tcp(&format!("192.0.2.1:{port}"), FRONTEND, "S", b""));
    }
    let mut tables = Tables::default();
    apply_ops(&mut tables, &node_port(&["+10.244.1.9:8080"]));
    bench.plane.retain_stats(&tables).expect("sweeps");
    assert!(bench.plane.meters().backend_stats().expect("reads").is_empty());
    assert_eq!(bench.plane.meters().service_stats().expect("reads")[&1].connections, 5);
    bench.plane.retain_stats(&Tables::default()).expect("sweeps");
    assert!(bench.plane.meters().service_stats().expect("reads").is_empty());
}

#[test]
fn a_flood_evicts_the_oldest_counts_it_and_leaves_frontends_and_busy_flows_alone() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
    let pins = Pins::new();
    let mut config = pins.config();
    config.sizes = Sizes { flows: 1024, ..config.sizes };
    let mut bench = Bench { plane: DataPlane::open(config).expect("opens").0, pins };
    bench.plane.apply(&node_port(&["+10.244.1.2:8080"])).expect("applies");
    assert_eq!(bench.plane.meters().stats().expect("reads").flow_evicted, 0);
    let busy = tcp("192.0.2.1:4000", FRONTEND, "A", b"data");
    bench.translated(Uplink, &tcp("192.0.2.1:4000", FRONTEND, "S", b""));
    bench.translated(Pod, &tcp("10.244.1.2:8080", "192.0.2.1:4000", "SA", b""));
    for number in 0..20_000_u32 {
        let client = format!("192.0.{}.{}:{}", 3 + number % 50, 1 + number / 50 % 200, 1024 + number);
        bench.run(Uplink, &tcp(&client, FRONTEND, "S", b""));
        if number % 100 == 0 {
            assert_eq!(bench.translated(Uplink, &busy), "tcp 192.0.2.1:4000 > 10.244.1.2:8080 A");
        }
    }
    let stats = bench.plane.meters().stats().expect("reads");
    let flows = bench.plane.meters().flow_entries().expect("reads") as u64;
    assert!(flows <= 1024 + 256, "{flows} entries");
    // Each of 20,001 connections made two entries, and none was deleted.
    assert_eq!(stats.flow_evicted + flows, 2 * 20_001 + stats.flow_restored);
    // Swept entries are no evictions.
    let later = monotonic_now() + std::time::Duration::from_secs(100_000);
    bench.plane.gc(later).expect("sweeps");
    assert_eq!(bench.plane.meters().stats().expect("reads").flow_evicted, stats.flow_evicted);
}
