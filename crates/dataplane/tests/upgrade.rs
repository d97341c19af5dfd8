//! A new version of the agent takes over from one whose maps are laid out differently, and maps that became too small
//! are replaced, both under connections that stay.

mod common;

use std::fs;

use common::bench::{Bench, node_port, node_port_in};
use common::frames::tcp;
use common::{Pins, service};
use daymark_dataplane::PacketProgram::{Pod, Uplink};
use daymark_dataplane::{DataPlane, Sizes};
use daymark_model::Protocol::Tcp;
use daymark_plan::tables::FrontendKind::ClusterIp;
use daymark_plan::tables::Op;

fn folders(bench: &Bench) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(bench.pins.path())
        .expect("pins")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
        .filter(|name| name.starts_with("maps-"))
        .collect();
    names.sort();
    names
}

/// Makes the maps look like those of version 1, whose programs are attached.
fn age(bench: &Bench) -> String {
    let current = folders(bench).pop().expect("maps");
    fs::rename(bench.pins.path().join(&current), bench.pins.path().join("maps-v1")).expect("renames");
    current
}

#[test]
fn tables_and_connections_outlive_a_change_of_layout() {
    let mut bench = Bench::new(&node_port(&["+10.244.1.2:8080", "10.244.2.2:8080"]));
    let syn = tcp("192.0.2.1:4000", "192.0.2.11:30008", "S", b"");
    let there = bench.translated(Uplink, &syn);
    let from_pod = tcp("10.244.1.5:4000", "192.0.2.11:30008", "S", b"");
    let to_pod = bench.translated(Pod, &from_pod);
    let served = DataPlane::open(bench.pins.config()).expect("opens").1;
    let current = age(&bench);
    let (plane, tables) = DataPlane::open(bench.pins.config()).expect("opens");
    bench.plane = plane;
    assert_eq!(tables, served);
    assert_eq!(folders(&bench), ["maps-v1", &current]);
    let data = tcp("192.0.2.1:4000", "192.0.2.11:30008", "A", b"data");
    assert_eq!(bench.translated(Uplink, &data), there.replace(" S", " A"));
    let answer = if there.contains("10.244.1.2") {
        bench.translated(Pod, &tcp("10.244.1.2:8080", "192.0.2.1:4000", "SA", b""))
    } else {
        let port = node_port_in(&there);
        bench.translated(Uplink, &tcp("10.244.2.2:8080", &format!("192.0.2.11:{port}"), "SA", b""))
    };
    assert_eq!(answer, "tcp 192.0.2.11:30008 > 192.0.2.1:4000 SA");
    let backend = to_pod.split(" > ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a backend");
    let answer = tcp(backend, "10.244.1.5:4000", "SA", b"");
    assert_eq!(bench.translated(Uplink, &answer), "tcp 192.0.2.11:30008 > 10.244.1.5:4000 SA");
}

#[test]
fn what_an_interrupted_upgrade_left_is_no_obstacle() {
    let bench = Bench::new(&node_port(&["+10.244.1.2:8080"]));
    let served = DataPlane::open(bench.pins.config()).expect("opens").1;
    let current = age(&bench);
    fs::create_dir(bench.pins.path().join(format!("{current}-new"))).expect("half a stage");
    let (_, tables) = DataPlane::open(bench.pins.config()).expect("opens");
    assert_eq!(tables, served);
}

#[test]
fn maps_that_are_too_small_grow_under_running_connections() {
    let pins = Pins::new();
    let mut config = pins.config();
    config.sizes = Sizes { services: 4, frontends: 4, slots: 4, backends: 4, ..config.sizes };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
    let (plane, _) = DataPlane::open(config.clone()).expect("opens");
    let mut bench = Bench { plane, pins };
    let nine: Vec<String> = (1..10).map(|n| format!("+10.244.1.{n}:8080")).collect();
    let nine: Vec<&str> = nine.iter().map(String::as_str).collect();
    bench.plane.apply(&node_port(&nine)).expect("applies");
    let syn = tcp("192.0.2.1:4000", "192.0.2.11:30008", "S", b"");
    let there = bench.translated(Uplink, &syn);
    let counted = bench.plane.meters().backend_stats().expect("reads");
    let ten = |ids: std::ops::RangeInclusive<u32>| -> Vec<Op> {
        ids.flat_map(|id| {
            let address = format!("10.96.1.{id}:80");
            service(id, &[(ClusterIp, Tcp, &address)], &["10.244.2.2:80"])
        })
        .collect()
    };
    let error = bench.plane.apply(&ten(2..=11)).expect_err("cannot fit");
    assert!(error.source.is_full(), "{error}");

    let before = bench.plane.reload().expect("reads");
    config.sizes = Sizes { services: 64, frontends: 64, slots: 64, backends: 64, ..config.sizes };
    let (plane, tables) = DataPlane::open(config.clone()).expect("opens");
    bench.plane = plane;
    assert_eq!(tables, before);
    assert_eq!(bench.plane.sizes(), config.sizes);
    assert_eq!(folders(&bench).len(), 1, "nothing is left of the smaller ones");
    assert_eq!(bench.plane.meters().backend_stats().expect("reads"), counted);
    let data = tcp("192.0.2.1:4000", "192.0.2.11:30008", "A", b"data");
    assert_eq!(bench.translated(Uplink, &data), there.replace(" S", " A"));
    bench.plane.apply(&ten(2..=11)).expect("fits");

    config.sizes = Sizes { services: 4, frontends: 4, slots: 4, backends: 4, ..config.sizes };
    let (plane, tables) = DataPlane::open(config).expect("opens");
    assert_eq!((plane.sizes().services, tables.services.len()), (64, 11), "nothing shrinks");
}
