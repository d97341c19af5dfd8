//! What survives the process: tables, links, and nothing after removal. And what a full map means.

mod common;

use std::time::Instant;

use common::{Pins, entry, ip, key, put_frontend, service};
use daymark_dataplane::{DataPlane, Sizes};
use daymark_model::Protocol::{Tcp, Udp};
use daymark_plan::tables::FrontendKind::{ClusterIp, ExternalIp, LoadBalancerIp, NodePort};
use daymark_plan::tables::{Frontend, Op, ServiceEntry, Tables};

/// What tables should be after the operations, by their meaning.
fn apply_to(tables: &mut Tables, ops: &[Op]) {
    for op in ops.iter().cloned() {
        match op {
            Op::PutService { id, entry } => drop(tables.services.insert(id, entry)),
            Op::PutSourceRanges { id, ranges } => drop(tables.source_ranges.insert(id, ranges)),
            Op::PutFrontend { key, frontend } => drop(tables.frontends.insert(key, frontend)),
            Op::PutClusterIp { ip } => drop(tables.cluster_ips.insert(ip)),
            Op::DeleteFrontend { key } => drop(tables.frontends.remove(&key)),
            Op::DeleteClusterIp { ip } => drop(tables.cluster_ips.remove(&ip)),
            Op::DeleteSourceRanges { id } => drop(tables.source_ranges.remove(&id)),
            Op::DeleteService { id } => drop(tables.services.remove(&id)),
        }
    }
}

fn varied_ops() -> Vec<Op> {
    let mut ops = service(
        1,
        &[(ClusterIp, Tcp, "10.96.0.7:80"), (NodePort, Udp, "192.0.2.11:30008")],
        &["+10.244.1.2:8080", "10.244.2.2:8080"],
    );
    ops.extend(service(2, &[(ClusterIp, Tcp, "[fd00:96::7]:443")], &["[fd00:244::2]:8443"]));
    ops.extend(service(3, &[(ExternalIp, Tcp, "203.0.113.5:80")], &[]));
    let entry = ServiceEntry {
        affinity_seconds: 10_800,
        elsewhere: true,
        cluster_from: 1,
        ..entry(9, &["+10.244.1.2:1", "10.244.2.2:2", "10.244.2.3:3"])
    };
    ops.push(Op::PutService { id: 4, entry });
    let frontend = Frontend { service: 4, kind: LoadBalancerIp, local_only: true, source_checked: true };
    ops.push(Op::PutFrontend { key: key(Tcp, "192.0.2.200:80"), frontend });
    let ranges = vec!["192.0.2.0/28".parse().expect("CIDR"), "fd00::/8".parse().expect("CIDR")];
    ops.push(Op::PutSourceRanges { id: 4, ranges });
    ops.push(Op::PutClusterIp { ip: ip("10.96.0.7") });
    ops.push(Op::PutClusterIp { ip: ip("fd00:96::7") });
    ops
}

fn restored(pins: &Pins) -> Tables {
    let mut tables = DataPlane::open(pins.config()).expect("opens").1;
    tables.source_ranges.values_mut().for_each(|ranges| ranges.sort());
    tables
}

#[test]
fn successor_reads_back_exactly_what_was_applied() {
    let pins = Pins::new();
    let mut want = Tables::default();
    let (mut plane, before) = DataPlane::open(pins.config()).expect("opens");
    assert_eq!(before, Tables::default());
    plane.apply(&varied_ops()).expect("applies");
    apply_to(&mut want, &varied_ops());
    drop(plane);
    assert_eq!(restored(&pins), want);

    // Longer and shorter lists, generations that skip, deletions: nothing stale comes back.
    let mut plane = pins.open();
    let mut ops: Vec<Op> = [(2, 5), (3, 1), (4, 3), (8, 0), (9, 2), (11, 1)]
        .into_iter()
        .map(|(generation, n)| {
            let backends: Vec<String> = (0..n).map(|i| format!("10.244.2.{}:80", i + 10)).collect();
            let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
            Op::PutService { id: 1, entry: entry(generation, &backends) }
        })
        .collect();
    ops.push(Op::DeleteFrontend { key: key(Tcp, "192.0.2.200:80") });
    ops.push(Op::DeleteFrontend { key: key(Tcp, "192.0.2.222:80") });
    ops.push(Op::DeleteSourceRanges { id: 4 });
    ops.push(Op::DeleteClusterIp { ip: ip("fd00:96::7") });
    ops.push(Op::DeleteService { id: 4 });
    plane.apply(&ops).expect("applies");
    apply_to(&mut want, &ops);
    drop(plane);
    assert_eq!(restored(&pins), want);
}

#[test]
fn full_map_is_named_and_what_was_live_stays() {
    let pins = Pins::new();
    let mut config = pins.config();
    config.sizes = Sizes { slots: 8, frontends: 3, ..Sizes::default() };
    let (mut plane, _) = DataPlane::open(config.clone()).expect("opens");
    let first = service(1, &[(ClusterIp, Tcp, "10.96.0.7:80")], &["10.244.1.2:80", "10.244.1.3:80"]);
    plane.apply(&first).expect("fits");
    let many: Vec<String> = (0..30).map(|i| format!("10.244.1.{i}:80")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let op = Op::PutService { id: 1, entry: entry(2, &many) };
    let error = plane.apply(&[op]).expect_err("cannot fit");
    assert_eq!(error.index, 0);
    assert!(error.to_string().contains("slots[") && error.to_string().contains("full"), "{error}");

    let frontends: Vec<Op> =
        (1..9).map(|port| put_frontend(1, ClusterIp, Tcp, &format!("10.96.0.7:{port}"))).collect();
    let error = plane.apply(&frontends).expect_err("cannot fit");
    assert_eq!(error.source.map, "frontends");
    assert!(error.index < 3, "{error}");
    drop(plane);
    let tables = restored(&pins);
    assert_eq!(tables.services[&1], entry(1, &["10.244.1.2:80", "10.244.1.3:80"]));
    assert!(tables.frontends.contains_key(&key(Tcp, "10.96.0.7:80")));

    // And room that was wasted by the failure is found again.
    let (mut plane, _) = DataPlane::open(config).expect("opens");
    for generation in 2..6 {
        plane.apply(&[Op::PutService { id: 1, entry: entry(generation, &many[..18]) }]).expect("fits");
    }
}

#[test]
fn hundred_thousand_entries_load_quickly() {
    let pins = Pins::new();
    let mut config = pins.config();
    config.sizes = Sizes { slots: 1 << 20, frontends: 1 << 17, services: 1 << 17, ..Sizes::default() };
    let (mut plane, _) = DataPlane::open(config).expect("opens");
    let backends: Vec<String> = (2..19).map(|n| format!("10.244.1.{n}:80")).collect();
    let entry = entry(1, &backends.iter().map(String::as_str).collect::<Vec<_>>());
    let mut ops: Vec<Op> = (1..=20_000).map(|id| Op::PutService { id, entry: entry.clone() }).collect();
    ops.extend((1..=20_000).map(|id| {
        let address = format!("10.96.{}.{}:80", id / 250, id % 250);
        put_frontend(id, ClusterIp, Tcp, &address)
    }));
    let start = Instant::now();
    plane.apply(&ops).expect("applies");
    eprintln!("100k entries in {:?}", start.elapsed());
    assert!(start.elapsed().as_secs() < 5);
    drop(plane);
    let tables = restored(&pins);
    assert_eq!((tables.services.len(), tables.frontends.len()), (20_000, 20_000));
}

#[test]
fn removal_leaves_nothing() {
    let pins = Pins::new();
    drop(pins.open());
    daymark_dataplane::remove(&pins.path()).expect("removes");
    assert!(!pins.path().exists());
    let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
    assert!(!mounts.contains(pins.path().to_str().expect("UTF-8")));
    daymark_dataplane::remove(&pins.path()).expect("nothing to remove is no error");
}

#[test]
fn impossible_configuration_is_refused_with_the_reason() {
    let pins = Pins::new();
    let mut config = pins.config();
    config.node_ips.clear();
    let error = DataPlane::open(config).expect_err("no address");
    assert!(error.to_string().contains("no address"), "{error}");
    let mut config = pins.config();
    config.snat_ports = 80..=90;
    assert!(DataPlane::open(config).expect_err("ports").to_string().contains("snat_ports"));
    let plane = pins.open();
    let error = plane.attach_cgroup("/proc".as_ref()).expect_err("not a cgroup");
    assert!(error.to_string().contains("/proc"), "{error}");
    let error = plane.attach_pod(999_999).expect_err("no such interface");
    assert!(error.to_string().contains("999999"), "{error}");
}

#[test]
fn this_kernel_has_what_is_needed() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
    daymark_dataplane::probe().expect("Linux 6.6 or newer");
}

/// `KERNEL PROGRAM INSTRUCTIONS` a line; kernels differ, so each has lines of its own.
const RECORDED: &str = include_str!("verifier.txt");

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel");
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

#[test]
fn verifier_cost_grows_only_on_purpose() {
    let pins = Pins::new();
    let cost = pins.open().verifier_cost().expect("the kernel tells");
    let kernel = kernel();
    let lines: String = cost.iter().map(|(program, count)| format!("{kernel} {program} {count}\n")).collect();
    if !RECORDED.lines().any(|line| line.starts_with(&format!("{kernel} "))) {
        eprintln!("SKIPPED: tests/verifier.txt says nothing of kernel {kernel}; it could say\n{lines}");
        return;
    }
    for (program, count) in cost {
        let recorded = RECORDED.lines().find_map(|line| line.strip_prefix(&format!("{kernel} {program} ")));
        let recorded: u32 = recorded.and_then(|number| number.parse().ok()).unwrap_or(0);
        assert!(
            f64::from(count) <= f64::from(recorded) * 1.1,
            "{program} takes the verifier {count} instructions, {recorded} are recorded; if that is on purpose, put \
             this into tests/verifier.txt:\n{lines}"
        );
    }
}
