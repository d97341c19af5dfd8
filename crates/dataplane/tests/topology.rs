//! Real sockets over a LAN of two nodes with two pods each: who reaches whom, and as whom.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::net::{Lan, Space, serve};
use common::{entry, ip, key, put_frontend, service};
use daymark_model::Protocol::{Tcp, Udp};
use daymark_plan::tables::FrontendKind::{ClusterIp, NodePort};
use daymark_plan::tables::{Frontend, Op};

/// Not a test: the process that [`common::net::Client`] starts.
#[test]
fn client() {
    common::net::client_main();
}

/// A Service 10.96.0.7:80 with node port 30008, TCP and UDP, on every node.
fn publish(lan: &mut Lan, generation: u32, backends: &[&str]) {
    for node in &mut lan.nodes {
        let prefix = format!("10.244.{}.", node.number);
        let marked: Vec<String> = backends
            .iter()
            .map(|backend| format!("{}{backend}", if backend.starts_with(&prefix) { "+" } else { "" }))
            .collect();
        let marked: Vec<&str> = marked.iter().map(String::as_str).collect();
        let node_port = format!("192.0.2.1{}:30008", node.number);
        let mut ops = service(
            1,
            &[
                (ClusterIp, Tcp, "10.96.0.7:80"),
                (ClusterIp, Udp, "10.96.0.7:80"),
                (NodePort, Tcp, &node_port),
                (NodePort, Udp, &node_port),
            ],
            &marked,
        );
        ops[0] = Op::PutService { id: 1, entry: entry(generation, &marked) };
        ops.push(Op::PutClusterIp { ip: ip("10.96.0.7") });
        node.plane().apply(&ops).expect("applies");
    }
}

fn tcp(space: &Space, address: &str) -> Result<String, std::io::ErrorKind> {
    space.run(|| {
        let address = address.parse().expect("address");
        let stream =
            TcpStream::connect_timeout(&address, Duration::from_millis(700)).map_err(|e| e.kind())?;
        stream.set_read_timeout(Some(Duration::from_millis(700))).expect("timeout");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).map_err(|e| e.kind())?;
        Ok(line.trim().to_owned())
    })
}

fn udp(space: &Space, address: &str, payload: &[u8]) -> Result<String, std::io::ErrorKind> {
    space.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("socket");
        socket.set_read_timeout(Some(Duration::from_millis(700))).expect("timeout");
        socket.connect(address).map_err(|e| e.kind())?;
        socket.send(payload).map_err(|e| e.kind())?;
        let mut buffer = [0; 200];
        let length = socket.recv(&mut buffer).map_err(|e| e.kind())?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

#[test]
fn node_port_answers_on_both_nodes_wherever_the_backend_is() {
    let mut lan = Lan::new();
    publish(&mut lan, 1, &["10.244.1.2:8080"]);
    serve(&lan.nodes[0].pods[0], "web", 8080);
    // Its own node passes the client's address on, the other must show its own.
    assert_eq!(tcp(&lan.host, "192.0.2.11:30008").as_deref(), Ok("web 192.0.2.1"));
    assert_eq!(tcp(&lan.host, "192.0.2.12:30008").as_deref(), Ok("web 192.0.2.12"));
    assert_eq!(udp(&lan.host, "192.0.2.11:30008", b"x").as_deref(), Ok("web 192.0.2.1"));
    assert_eq!(udp(&lan.host, "192.0.2.12:30008", b"x").as_deref(), Ok("web 192.0.2.12"));
    // As fragments.
    assert_eq!(udp(&lan.host, "192.0.2.11:30008", &[1; 1900]).as_deref(), Ok("1900"));
    assert_eq!(udp(&lan.host, "192.0.2.12:30008", &[1; 1900]).as_deref(), Ok("1900"));
}

/// As they are to leave in the node's own name, its stack would take them for its own.
#[test]
fn clients_learn_why_their_packets_cannot_go_on_to_another_node() {
    let mut lan = Lan::new();
    publish(&mut lan, 1, &["10.244.2.2:8080"]);
    serve(&lan.nodes[1].pods[0], "web", 8080);
    lan.nodes[0].space.command("ip route replace 10.244.2.0/24 via 192.0.2.12 mtu 1400");
    // What was too large is cut up once the client knows.
    let answers = [(); 2].map(|()| udp(&lan.host, "192.0.2.11:30008", &[1; 1450]));
    assert_eq!(answers[1].as_deref(), Ok("1450"), "{answers:?}");
    lan.host.sysctl("net/ipv4/ip_default_ttl", "1");
    assert_eq!(tcp(&lan.host, "192.0.2.11:30008"), Err(std::io::ErrorKind::HostUnreachable));
}

#[test]
fn pods_reach_the_service_by_cluster_ip_and_by_any_node_port() {
    let mut lan = Lan::new();
    publish(&mut lan, 1, &["10.244.1.2:8080"]);
    serve(&lan.nodes[0].pods[0], "web", 8080);
    let mut same_node = lan.nodes[0].client(3);
    assert_eq!(same_node.ask("tcp 10.96.0.7:80"), "web 10.244.1.3 peer 10.96.0.7:80");
    let mut other_node = lan.nodes[1].client(2);
    assert_eq!(other_node.ask("tcp 10.96.0.7:80"), "web 10.244.2.2 peer 10.96.0.7:80");
    assert_eq!(other_node.ask("tcp [::ffff:10.96.0.7]:80"), "web 10.244.2.2 peer [::ffff:10.96.0.7]:80");
    assert_eq!(other_node.ask("tcp 192.0.2.12:30008"), "web 10.244.2.2 peer 192.0.2.12:30008");
    // The other node's: no frontend here, so it is translated there.
    assert_eq!(other_node.ask("tcp 192.0.2.11:30008"), "web 10.244.2.2 peer 192.0.2.11:30008");
    assert_eq!(same_node.ask("tcp 192.0.2.12:30008"), "web 192.0.2.12 peer 192.0.2.12:30008");
    assert_eq!(other_node.ask("udp 10.96.0.7:80"), "web 10.244.2.2 from 10.96.0.7:80");
    assert_eq!(
        other_node.ask("udp-connected 10.96.0.7:80"),
        "web 10.244.2.2 from 10.96.0.7:80 peer 10.96.0.7:80"
    );
    let mut mapped = lan.nodes[1].client(3);
    assert_eq!(mapped.ask("udp [::ffff:10.96.0.7]:80"), "web 10.244.2.3 from [::ffff:10.96.0.7]:80");
}

#[test]
fn pod_reaches_itself_through_its_service() {
    let mut lan = Lan::new();
    publish(&mut lan, 1, &["10.244.1.2:8080"]);
    serve(&lan.nodes[0].pods[0], "web", 8080);
    let mut itself = lan.nodes[0].client(2);
    assert_eq!(itself.ask("tcp 10.96.0.7:80"), "web 10.244.1.2 peer 10.96.0.7:80");
    assert_eq!(itself.ask("tcp 192.0.2.11:30008"), "web 10.244.1.2 peer 192.0.2.11:30008");
    assert_eq!(itself.ask("tcp 192.0.2.12:30008"), "web 192.0.2.12 peer 192.0.2.12:30008");
    assert_eq!(itself.ask("udp 10.96.0.7:80"), "web 10.244.1.2 from 10.96.0.7:80");
    // By packets alone, as for a process that no cgroup hook sees.
    assert_eq!(tcp(&lan.nodes[0].pods[0], "192.0.2.11:30008").as_deref(), Ok("web 192.0.2.11"));
}

#[test]
fn without_endpoints_everyone_is_refused_at_once() {
    let mut lan = Lan::new();
    publish(&mut lan, 1, &[]);
    let mut pod = lan.nodes[0].client(2);
    let start = Instant::now();
    assert_eq!(pod.ask("tcp 10.96.0.7:80"), "ConnectionRefused");
    assert_eq!(pod.ask("tcp 10.96.0.7:81"), "ConnectionRefused");
    assert_eq!(pod.ask("udp 10.96.0.7:80"), "ConnectionRefused");
    assert_eq!(pod.ask("udp-connected 10.96.0.7:80"), "ConnectionRefused");
    // To connect a UDP socket is no more than to ask for the own address.
    for port in [80, 81] {
        assert_eq!(pod.ask(&format!("udp-address 10.96.0.7:{port}")), "10.244.1.2");
        assert_eq!(pod.ask(&format!("udp-connected 10.96.0.7:{port}")), "ConnectionRefused");
    }
    assert_eq!(tcp(&lan.host, "192.0.2.11:30008"), Err(std::io::ErrorKind::ConnectionRefused));
    assert_eq!(udp(&lan.host, "192.0.2.11:30008", b"x"), Err(std::io::ErrorKind::ConnectionRefused));
    assert!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());
}

#[test]
fn policy_local_drops_silently_when_only_others_have_backends() {
    let mut lan = Lan::new();
    publish(&mut lan, 1, &["10.244.2.2:8080"]);
    let frontend = Frontend { service: 1, kind: ClusterIp, local_only: true, source_checked: false };
    let op = Op::PutFrontend { key: key(Tcp, "10.96.0.7:80"), frontend };
    lan.nodes[0].plane().apply(&[op]).expect("applies");
    assert_eq!(lan.nodes[0].client(2).ask("tcp 10.96.0.7:80"), "TimedOut");
}

#[test]
fn outside_is_reached_as_the_node_and_reaches_no_pod() {
    let mut lan = Lan::new();
    publish(&mut lan, 1, &["10.244.1.2:8080"]);
    serve(&lan.host, "host", 6443);
    serve(&lan.nodes[0].pods[0], "web", 8080);
    serve(&lan.nodes[0].space, "node", 5353);
    let mut pod = lan.nodes[0].client(2);
    assert_eq!(pod.ask("tcp 192.0.2.1:6443"), "host 192.0.2.11 peer 192.0.2.1:6443");
    assert_eq!(pod.ask("udp 192.0.2.1:6443"), "host 192.0.2.11 from 192.0.2.1:6443");
    // The own node and the other one know pods by their addresses.
    assert_eq!(pod.ask("tcp 192.0.2.11:5353"), "node 10.244.1.2 peer 192.0.2.11:5353");
    assert_eq!(lan.nodes[1].client(2).ask("tcp 192.0.2.11:5353"), "node 10.244.2.2 peer 192.0.2.11:5353");
    lan.nodes[0].pods[1].command("ping -c 1 -W 1 192.0.2.1");
    // The node itself reaches its pods and others', as probes do.
    assert_eq!(tcp(&lan.nodes[0].space, "10.244.1.2:8080").as_deref(), Ok("web 192.0.2.11"));
    assert_eq!(tcp(&lan.nodes[1].space, "10.244.1.2:8080").as_deref(), Ok("web 192.0.2.12"));

    lan.host.command("ip route add 10.244.0.0/16 via 192.0.2.11");
    lan.host.command("ip route add 10.96.0.0/16 via 192.0.2.11");
    for address in ["10.244.1.2:8080", "10.96.0.7:80", "10.96.5.5:80"] {
        assert_eq!(tcp(&lan.host, address), Err(std::io::ErrorKind::TimedOut), "{address}");
    }
    let stats = lan.nodes[0].plane().meters().stats().expect("stats");
    assert!(stats.drop_isolation > 0 && stats.drop_no_port > 0, "{stats:?}");
}

#[test]
fn service_port_outside_the_cluster_is_reached_through_a_backend_on_the_lan() {
    let mut lan = Lan::new();
    publish(&mut lan, 1, &["192.0.2.1:6443"]);
    serve(&lan.host, "host", 6443);
    assert_eq!(lan.nodes[0].client(2).ask("tcp 10.96.0.7:80"), "host 192.0.2.11 peer 10.96.0.7:80");
    assert_eq!(tcp(&lan.host, "192.0.2.12:30008").as_deref(), Ok("host 192.0.2.12"));
}

#[test]
fn killed_agent_is_not_missed_and_its_successor_takes_over() {
    let mut lan = Lan::new();
    publish(&mut lan, 1, &["10.244.1.2:8080"]);
    serve(&lan.nodes[0].pods[0], "web", 8080);
    serve(&lan.nodes[0].pods[1], "web2", 8080);
    let mut inside = lan.nodes[1].client(2);
    assert_eq!(inside.ask("hold 10.96.0.7:80"), "web 10.244.2.2");
    let mut outside = lan.host.run(|| TcpStream::connect("192.0.2.12:30008").expect("connects"));
    let mut lines = BufReader::new(outside.try_clone().expect("descriptor")).lines();
    assert_eq!(lines.next().expect("line").expect("greeting"), "web 192.0.2.12");

    let mut check = |lan: &Lan, text: &str| {
        assert_eq!(inside.ask(&format!("say {text}")), text);
        writeln!(outside, "{text}").expect("sends");
        assert_eq!(lines.next().expect("line").expect("echo"), text);
        assert!(tcp(&lan.host, "192.0.2.12:30008").is_ok());
        assert!(lan.nodes[1].client(3).ask("tcp 10.96.0.7:80").starts_with("web"));
    };
    check(&lan, "before");
    lan.nodes[1].stop_agent();
    check(&lan, "without");
    let restored = lan.nodes[1].start_agent();
    assert_eq!(restored.services[&1], entry(1, &["10.244.1.2:8080"]));
    assert_eq!(restored.frontends.len(), 4);
    assert!(restored.cluster_ips.contains(&ip("10.96.0.7")));
    check(&lan, "after");

    // The backend is replaced: old connections stay, new ones go elsewhere.
    publish(&mut lan, 2, &["10.244.1.3:8080"]);
    check(&lan, "later");
    assert_eq!(tcp(&lan.host, "192.0.2.12:30008").as_deref(), Ok("web2 192.0.2.12"));
}

#[test]
fn recreated_cgroup_is_attached_anew_although_its_old_links_look_alive() {
    let mut lan = Lan::new();
    publish(&mut lan, 1, &["10.244.1.2:8080"]);
    serve(&lan.nodes[0].pods[0], "web", 8080);
    let path = lan.nodes[1].cgroup.path.clone();
    std::fs::remove_dir(&path).expect("empty cgroup");
    std::fs::create_dir(&path).expect("cgroup");
    lan.nodes[1].stop_agent();
    lan.nodes[1].start_agent();
    assert_eq!(lan.nodes[1].client(2).ask("tcp 10.96.0.7:80"), "web 10.244.2.2 peer 10.96.0.7:80");
}

#[test]
fn links_of_pods_that_are_gone_are_removed() {
    let mut lan = Lan::new();
    let node = &mut lan.nodes[0];
    let links = node.config().bpffs.join("links");
    let pinned = |ifindex: u32| links.join(format!("pod-{ifindex}")).exists();
    let (first, second) = (node.space.ifindex("dm2"), node.space.ifindex("dm3"));
    assert!(pinned(first) && pinned(second));
    node.space.command("ip link del dm2");
    node.plane().detach_pod(first).expect("a gone interface is no error");
    assert!(!pinned(first) && pinned(second));
    // Gone while no agent runs.
    node.stop_agent();
    node.space.command("ip link del dm3");
    node.pods.clear();
    node.start_agent();
    assert!(!pinned(second));
}

#[test]
fn udp_socket_keeps_its_backend_until_that_is_gone() {
    let mut lan = Lan::new();
    publish(&mut lan, 1, &["10.244.1.2:8080", "10.244.1.3:8080"]);
    serve(&lan.nodes[0].pods[0], "one", 8080);
    serve(&lan.nodes[0].pods[1], "two", 8080);
    let mut pod = lan.nodes[1].client(2);
    let first = pod.ask("udp 10.96.0.7:80");
    assert!((0..10).all(|_| pod.ask("udp 10.96.0.7:80") == first));
    let (left, name) =
        if first.starts_with("one") { ("10.244.1.3:8080", "two") } else { ("10.244.1.2:8080", "one") };
    publish(&mut lan, 2, &[left]);
    assert_eq!(pod.ask("udp 10.96.0.7:80"), format!("{name} 10.244.2.2 from 10.96.0.7:80"));
}

#[test]
fn updates_under_load_fail_no_connection() {
    let mut lan = Lan::new();
    let backends = ["10.244.1.2:8080", "10.244.1.3:8080"];
    publish(&mut lan, 1, &backends);
    serve(&lan.nodes[0].pods[0], "one", 8080);
    serve(&lan.nodes[0].pods[1], "two", 8080);
    let mut pod = lan.nodes[1].client(2);
    let host = lan.host.run(|| {
        std::thread::spawn(|| (0..300).filter(|_| TcpStream::connect("192.0.2.12:30008").is_err()).count())
    });
    let mut answers = Vec::new();
    for generation in 2..3000u32 {
        // Lists of changing lengths, and generations that skip, as a planner may.
        let list = if generation % 3 == 0 { &backends[..1] } else { &backends[..] };
        let op = Op::PutService { id: 1, entry: entry(generation * 2, list) };
        lan.nodes[1].plane().apply(&[op]).expect("applies");
        if generation % 31 == 0 {
            answers.push(pod.ask("tcp 10.96.0.7:80"));
        }
    }
    let failed: Vec<&String> = answers.iter().filter(|answer| !answer.contains("10.244.2.2")).collect();
    let stats = lan.nodes[1].plane().meters().stats().expect("stats");
    assert!(failed.is_empty(), "{failed:?} of {}, {stats:?}", answers.len());
    assert!(["one", "two"].iter().all(|name| answers.iter().any(|answer| answer.starts_with(name))));
    assert_eq!(host.join().expect("thread"), 0);
    let op = put_frontend(1, NodePort, Tcp, "192.0.2.12:30009");
    lan.nodes[1].plane().apply(&[op]).expect("applies");
}
