//! The life of a connection, with real sockets: what keeps its backend, what leaves it, and what survives a
//! flood.

#[path = "matrix/cluster.rs"]
#[allow(dead_code, reason = "the matrix uses all of it")]
mod cluster;
mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use cluster::{V4, V6};
use common::bench::{Bench, SENT, TO_STACK, node_port};
use common::frames::{describe, tcp, tcp_between};
use common::net::{Lan, Space, serve};
use common::{Pins, ip, service};
use daymark_dataplane::PacketProgram::{Pod, Uplink};
use daymark_dataplane::{DataPlane, Sizes};
use daymark_model::Protocol::{Tcp, Udp};
use daymark_model::{AddressFamily, Change, Endpoint, ObjectName, Slice, SlicePort};
use daymark_plan::tables::FrontendKind::NodePort;
use daymark_plan::tables::Tables;
use daymark_plan::{NodeView, Planner};

const PATIENCE: Duration = Duration::from_secs(3);

/// Not a test: the process that [`common::net::Client`] starts.
#[test]
fn client() {
    common::net::client_main();
}

/// One Service on both nodes, by the planner.
struct Cluster {
    lan: Lan,
    planners: Vec<Planner>,
}

const CLUSTER_IP: &str = "10.96.0.10:80";
const NODE_PORT: u16 = 30_100;

impl Cluster {
    fn new() -> Self {
        let lan = Lan::new();
        let planner = |number: usize| {
            let view =
                NodeView::new(format!("node{number}"), vec![ip(&V4.node(number)), ip(&V6.node(number))]);
            let mut planner = Planner::new(view, Tables::default());
            planner.synced();
            planner
        };
        let mut cluster = Self { lan, planners: vec![planner(1), planner(2)] };
        for (node, name) in cluster.lan.nodes.iter().zip(["web1", "web2"]) {
            serve(&node.pods[0], name, 8080);
        }
        cluster.publish();
        cluster
    }

    fn apply(&mut self, change: &Change) {
        for (planner, node) in self.planners.iter_mut().zip(&mut self.lan.nodes) {
            let ops = planner.apply(change.clone());
            node.plane().apply(&ops).expect("applies");
        }
    }

    fn publish(&mut self) {
        self.apply(&Change::Service(cluster::service(0)));
    }

    fn withdraw(&mut self) {
        self.apply(&Change::ServiceGone(ObjectName::new("default", "cluster")));
    }

    /// IPv4 endpoints by the number of their node; `-1` is one that terminates but serves.
    fn endpoints(&mut self, nodes: &[i32]) {
        let endpoint = |node: &i32| Endpoint {
            ready: *node > 0,
            terminating: *node < 0,
            node: Some(format!("node{}", node.abs()).into()),
            ..Endpoint::ready(ip(&V4.pod(node.unsigned_abs() as usize, 2)))
        };
        let ports = [("stream", Tcp), ("datagram", Udp)];
        self.apply(&Change::Slice(Slice {
            name: ObjectName::new("default", "cluster-1"),
            service: "cluster".into(),
            family: AddressFamily::Ipv4,
            ports: ports.map(|(name, protocol)| SlicePort { name: name.into(), protocol, port: 8080 }).into(),
            endpoints: nodes.iter().map(endpoint).collect(),
        }));
    }
}

/// A connection that is held: its backend's name, and whether it still answers.
struct Held {
    stream: TcpStream,
    lines: std::io::Lines<BufReader<TcpStream>>,
    backend: String,
}

fn hold(space: &Space, to: &str) -> Held {
    let to: SocketAddr = to.parse().expect("address");
    let stream = space.run(|| TcpStream::connect_timeout(&to, PATIENCE).expect("connects"));
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut lines = BufReader::new(stream.try_clone().expect("descriptor")).lines();
    let greeting = lines.next().expect("a line").expect("a greeting");
    Held { stream, lines, backend: greeting.split(' ').next().expect("a name").to_owned() }
}

impl Held {
    #[track_caller]
    fn check(&mut self, text: &str) {
        writeln!(self.stream, "{text}").expect("sends");
        assert_eq!(self.lines.next().expect("a line").expect("an echo"), text);
    }
}

#[test]
fn a_terminating_backend_keeps_its_connections_and_gets_no_new_ones() {
    let mut cluster = Cluster::new();
    cluster.endpoints(&[1, 2]);
    let node_port = format!("192.0.2.12:{NODE_PORT}");
    let mut held: Vec<Held> = (0..8).map(|_| hold(&cluster.lan.host, &node_port)).collect();
    let mut inside = cluster.lan.nodes[1].client(3);
    let first = inside.ask(&format!("hold {CLUSTER_IP}"));
    for (step, nodes) in [[1, -2].as_slice(), &[1], &[1, 2], &[-1, 2], &[2], &[-2], &[]].iter().enumerate() {
        cluster.endpoints(nodes);
        let text = format!("step {step}");
        held.iter_mut().for_each(|held| held.check(&text));
        assert_eq!(inside.ask(&format!("say {text}")), text, "of {first}");
        let ready: Vec<i32> = nodes.iter().copied().filter(|node| *node > 0).collect();
        let usable = if ready.is_empty() { nodes.to_vec() } else { ready };
        for _ in 0..6 {
            let answer = inside.ask(&format!("tcp {CLUSTER_IP}"));
            if usable.is_empty() {
                assert_eq!(answer, "ConnectionRefused");
            } else {
                let backend = hold(&cluster.lan.host, &node_port).backend;
                let names: Vec<String> = usable.iter().map(|node| format!("web{}", node.abs())).collect();
                assert!(names.contains(&backend), "{backend} after {nodes:?}");
                assert!(names.iter().any(|name| answer.starts_with(name)), "{answer} after {nodes:?}");
            }
        }
    }
    // Nor does the end of the Service end them: its pods live.
    cluster.withdraw();
    held.iter_mut().for_each(|held| held.check("without the Service"));
    assert_eq!(inside.ask("say still"), "still");
    let names: std::collections::BTreeSet<&String> = held.iter().map(|held| &held.backend).collect();
    assert_eq!(names.len(), 2, "both backends were held");
}

/// One socket, always the same port: what a DNS client or a syslog sender is to conntrack.
struct Sender<'a> {
    socket: UdpSocket,
    to: &'a str,
}

impl<'a> Sender<'a> {
    fn new(space: &Space, to: &'a str) -> Self {
        let socket = space.run(|| UdpSocket::bind("0.0.0.0:0").expect("socket"));
        Self { socket, to }
    }

    /// The name of who answers.
    fn ask(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).expect("timeout");
        self.socket.send_to(b"who", self.to).expect("sends");
        let mut buffer = [0; 200];
        let (length, from) = self.socket.recv_from(&mut buffer).ok()?;
        assert_eq!(from.to_string(), self.to);
        String::from_utf8_lossy(&buffer[..length]).split(' ').next().map(str::to_owned)
    }
}

#[test]
fn no_datagram_follows_a_flow_whose_backend_or_service_is_gone() {
    let mut cluster = Cluster::new();
    let to = [format!("192.0.2.11:{NODE_PORT}"), format!("192.0.2.12:{NODE_PORT}")];
    cluster.endpoints(&[]);
    let senders = [Sender::new(&cluster.lan.host, &to[0]), Sender::new(&cluster.lan.host, &to[1])];
    let mut inside = cluster.lan.nodes[0].client(3);
    let silence = Duration::from_millis(100);
    let mut check = |cluster: &mut Cluster, expected: Option<&str>| {
        let patience = if expected.is_some() { PATIENCE } else { silence };
        for sender in &senders {
            assert_eq!(sender.ask(patience).as_deref(), expected, "{}", sender.to);
        }
        let answer = inside.ask(&format!("udp {CLUSTER_IP}"));
        match expected {
            Some(name) => assert!(answer.starts_with(name), "{answer}"),
            None => assert!(!answer.starts_with("web"), "{answer}"),
        }
        // Nothing of it depends on the sweeping agent.
        for node in &mut cluster.lan.nodes {
            node.plane().gc(daymark_dataplane::monotonic_now()).expect("sweeps");
        }
    };
    check(&mut cluster, None);
    cluster.endpoints(&[1]);
    check(&mut cluster, Some("web1"));
    cluster.endpoints(&[2]);
    check(&mut cluster, Some("web2"));
    // Terminating, but the only one: it serves on.
    cluster.endpoints(&[-2]);
    check(&mut cluster, Some("web2"));
    cluster.withdraw();
    check(&mut cluster, None);
    cluster.endpoints(&[1]);
    cluster.publish();
    check(&mut cluster, Some("web1"));
    cluster.endpoints(&[]);
    check(&mut cluster, None);
    cluster.endpoints(&[2]);
    check(&mut cluster, Some("web2"));
}

#[test]
fn large_datagrams_pass_in_fragments_both_ways_in_both_families() {
    let mut cluster = Cluster::new();
    let echo = |space: &Space, any: &'static str| {
        let socket = space.run(|| UdpSocket::bind(any).expect("a port"));
        space.serve(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], from);
            }
        });
    };
    echo(&cluster.lan.nodes[0].pods[0], "[::]:9090");
    for node in &mut cluster.lan.nodes {
        let number = node.number;
        let local = if number == 1 { "+" } else { "" };
        for (id, ends, backend) in [(8, &V4, "10.244.1.2:9090"), (9, &V6, "[fd00:10:244:1::2]:9090")] {
            let frontend = ends.with_port(&ends.node(number.into()), 30_500);
            let ops = service(id, &[(NodePort, Udp, &frontend)], &[&format!("{local}{backend}")]);
            node.plane().apply(&ops).expect("applies");
        }
    }
    for to in ["192.0.2.11:30500", "192.0.2.12:30500", "[2001:db8::11]:30500", "[2001:db8::12]:30500"] {
        let socket = cluster.lan.host.run(|| UdpSocket::bind("[::]:0").expect("a socket"));
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let mut target: SocketAddr = to.parse().expect("address");
        if let std::net::IpAddr::V4(ip) = target.ip() {
            target.set_ip(ip.to_ipv6_mapped().into());
        }
        for length in [1, 1472, 1473, 2000, 9000, 60_000] {
            let sent: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            socket.send_to(&sent, target).expect("sends");
            let mut back = vec![0; 65_536];
            let received = socket.recv(&mut back).unwrap_or_else(|e| panic!("{length} bytes to {to}: {e}"));
            assert!(back[..received] == sent, "{length} bytes to {to}");
        }
    }
}

#[test]
fn a_flood_of_connections_takes_no_more_memory_and_ends_none_that_lives() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
    let pins = Pins::new();
    let mut config = pins.config();
    config.sizes = Sizes { flows: 4096, ..Sizes::default() };
    let (mut plane, _) = DataPlane::open(config).expect("opens");
    plane.apply(&node_port(&["+10.244.1.2:80", "10.244.2.2:80"])).expect("applies");
    let bench = Bench { plane, pins };
    let client = "192.0.2.1:4000";
    let there = bench.translated(Uplink, &tcp(client, "192.0.2.11:30008", "S", b""));
    let words: Vec<&str> = there.split(' ').collect();
    let (seen_as, backend) = (words[1], words[3]);
    let back = if backend.starts_with("10.244.1.") { Pod } else { Uplink };
    let answer = |flags: &str| tcp(backend, seen_as, flags, b"");
    assert_eq!(bench.translated(back, &answer("SA")), format!("tcp 192.0.2.11:30008 > {client} SA"));
    let data = tcp(client, "192.0.2.11:30008", "A", b"data");
    let frontend = "192.0.2.11:30008".parse().expect("address");
    let (mut seed, mut served) = (7u64, 0);
    for number in 0..100_000u32 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let from =
            SocketAddr::new([198, 18, (seed >> 40) as u8, (seed >> 32) as u8].into(), (seed >> 48) as u16);
        let (action, _) = bench.run(Uplink, &tcp_between(from, frontend, "S", b""));
        assert!([TO_STACK, SENT, common::bench::DROPPED].contains(&action));
        served += u32::from(action == TO_STACK);
        if number % 500 == 0 {
            assert_eq!(bench.translated(Uplink, &data), format!("tcp {seen_as} > {backend} A"));
            let (action, frame) = bench.run(back, &answer("A"));
            assert_eq!(action, TO_STACK);
            assert_eq!(describe(&frame), format!("tcp 192.0.2.11:30008 > {client} A"));
        }
    }
    assert!(served > 90_000, "new connections are served in a flood: {served}");
    assert!(
        bench.plane.meters().flow_entries().expect("flows") <= 4096 + 256,
        "{:?}",
        bench.plane.meters().flow_entries()
    );
}
