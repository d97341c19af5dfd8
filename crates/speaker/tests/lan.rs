//! Two hosts on a LAN of their own: the kernel of one learns from the speaker of the other.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use daymark_speaker::{Conflict, Mac, Speaker};
use nix::sched::{CloneFlags, setns};
use tokio::sync::mpsc;

const VIP: Ipv4Addr = Ipv4Addr::new(172, 31, 255, 200);
const NODE: Mac = [2, 0, 0, 0, 0, 1];
const LAPTOP: Mac = [2, 0, 0, 0, 0, 2];

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Two network namespaces joined by a veth pair, `eth0` in each. Removed when dropped.
struct Lan {
    node: String,
    laptop: String,
}

impl Lan {
    fn new() -> Self {
        let id = format!("{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let lan = Self { node: format!("dmspk-{id}-node"), laptop: format!("dmspk-{id}-laptop") };
        let (node, laptop) = (&lan.node, &lan.laptop);
        for line in [
            format!("netns add {node}"),
            format!("netns add {laptop}"),
            format!(
                "-n {node} link add eth0 address 02:00:00:00:00:01 type veth peer name eth0 netns {laptop}"
            ),
            format!("-n {laptop} link set eth0 address 02:00:00:00:00:02"),
            format!("-n {laptop} addr add 172.31.255.1/24 dev eth0"),
            format!("-n {node} link set eth0 up"),
            format!("-n {laptop} link set eth0 up"),
        ] {
            ip(&line);
        }
        lan
    }

    fn neighbour(&self) -> String {
        ip(&format!("-n {} neigh show to {VIP}", self.laptop))
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in [&self.node, &self.laptop] {
            Command::new("ip").args(["netns", "del", name]).status().ok();
        }
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `work` on a thread within a network namespace.
fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let path = format!("/run/netns/{namespace}");
    std::thread::scope(|scope| {
        let enter = || {
            setns(File::open(&path).expect("the namespace exists"), CloneFlags::CLONE_NEWNET).expect("root");
            work()
        };
        scope.spawn(enter).join().expect("the work within the namespace")
    })
}

/// A speaker in a namespace, on a runtime of its own.
struct Running {
    speaker: Option<Speaker>,
    conflicts: mpsc::Receiver<Conflict>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn start(namespace: &str, mac: Mac) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let ifindex = within(namespace, || nix::net::if_::if_nametoindex("eth0").expect("eth0 exists"));
        let (speaker, conflicts) = within(namespace, || {
            let _entered = runtime.enter();
            Speaker::start(ifindex, mac).expect("root may open packet sockets")
        });
        Self { speaker: Some(speaker), conflicts, runtime }
    }

    fn set(&self, addresses: &[Ipv4Addr]) {
        let addresses = addresses.iter().copied().collect::<BTreeSet<_>>();
        self.speaker.as_ref().expect("running").set_addresses(addresses);
    }

    fn conflict(&mut self) -> Option<Conflict> {
        let receive = async { tokio::time::timeout(Duration::from_secs(5), self.conflicts.recv()).await };
        self.runtime.block_on(receive).ok().flatten()
    }
}

fn dial_vip(lan: &Lan) {
    within(&lan.laptop, || {
        let socket = UdpSocket::bind("172.31.255.1:0").expect("the laptop's address");
        socket.send_to(b"hello", (VIP, 9)).ok();
    });
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_kernel_of_another_host_resolves_an_owned_address_and_no_other() {
    let lan = Lan::new();
    let node = Running::start(&lan.node, NODE);
    dial_vip(&lan);
    std::thread::sleep(Duration::from_millis(200));
    assert!(!lan.neighbour().contains("02:00:00:00:00:01"), "nobody owns the address yet");

    node.set(&[VIP]);
    eventually("the laptop learns the node's MAC", || {
        dial_vip(&lan);
        lan.neighbour().contains("02:00:00:00:00:01")
    });
}

#[test]
fn take_over_is_announced_to_hosts_that_know_the_former_owner() {
    let lan = Lan::new();
    ip(&format!("-n {} neigh add {VIP} lladdr 02:00:00:00:00:77 nud stale dev eth0", lan.laptop));
    let node = Running::start(&lan.node, NODE);
    node.set(&[VIP]);
    eventually("the laptop forgets the former owner", || lan.neighbour().contains("02:00:00:00:00:01"));
}

#[test]
fn an_address_that_another_host_has_is_reported() {
    let lan = Lan::new();
    ip(&format!("-n {} addr add {VIP}/32 dev eth0", lan.laptop));
    let mut node = Running::start(&lan.node, NODE);
    node.set(&[VIP]);
    assert_eq!(node.conflict(), Some(Conflict { ip: VIP, mac: LAPTOP }));
}

#[test]
fn two_speakers_of_one_address_both_report_it() {
    let lan = Lan::new();
    let mut first = Running::start(&lan.node, NODE);
    let mut second = Running::start(&lan.laptop, LAPTOP);
    first.set(&[VIP]);
    second.set(&[VIP]);
    assert_eq!(first.conflict(), Some(Conflict { ip: VIP, mac: LAPTOP }));
    assert_eq!(second.conflict(), Some(Conflict { ip: VIP, mac: NODE }));
}

#[test]
fn an_interface_that_does_not_exist_is_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    assert!(Speaker::start(999_999, NODE).is_err());
}
