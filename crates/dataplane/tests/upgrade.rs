//! A new version of the agent takes over from one whose maps are laid out differently.

mod common;

use std::fs;

use common::bench::{Bench, node_port, node_port_in};
use common::frames::tcp;
use daymark_dataplane::DataPlane;
use daymark_dataplane::PacketProgram::{Pod, Uplink};

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
