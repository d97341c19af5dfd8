//! Backends in the node's own network, as host-network pods are: their replies leave through the stack.

mod common;

use std::io::{BufRead, BufReader};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use common::bench::{Bench, node_port};
use common::frames::{describe, tcp as segment};
use common::net::{Lan, Space, serve};
use common::service;
use daymark_dataplane::PacketProgram::{Out, Uplink};
use daymark_model::Protocol::{Tcp, Udp};
use daymark_plan::tables::FrontendKind::NodePort;

const PATIENCE: Duration = Duration::from_millis(700);

fn tcp(space: &Space, address: &str) -> String {
    space.run(|| {
        let stream =
            TcpStream::connect_timeout(&address.parse().expect("address"), PATIENCE).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("a greeting");
        line.trim().to_owned()
    })
}

fn udp(space: &Space, address: &str) -> String {
    space.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("binds");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        socket.send_to(b"who", address).expect("sends");
        let mut buffer = [0; 200];
        let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
        format!("{} from {from}", String::from_utf8_lossy(&buffer[..length]))
    })
}

/// Node 1 is the only backend of a node port.
fn lan() -> Lan {
    let mut lan = Lan::new();
    for (node, backend) in lan.nodes.iter_mut().zip(["+192.0.2.11:8080", "192.0.2.11:8080"]) {
        let frontend = format!("192.0.2.1{}:30008", node.number);
        let ops = service(1, &[(NodePort, Tcp, &frontend), (NodePort, Udp, &frontend)], &[backend]);
        node.plane().apply(&ops).expect("applies");
    }
    serve(&lan.nodes[0].space, "node1", 8080);
    lan
}

#[test]
fn a_node_port_leads_to_its_own_node_and_keeps_the_client() {
    let lan = lan();
    assert_eq!(tcp(&lan.host, "192.0.2.11:30008"), "node1 192.0.2.1");
    assert_eq!(udp(&lan.host, "192.0.2.11:30008"), "node1 192.0.2.1 from 192.0.2.11:30008");
}

#[test]
fn a_node_port_leads_to_another_node() {
    let lan = lan();
    assert_eq!(tcp(&lan.host, "192.0.2.12:30008"), "node1 192.0.2.12");
    assert_eq!(udp(&lan.host, "192.0.2.12:30008"), "node1 192.0.2.12 from 192.0.2.12:30008");
}

#[test]
fn replies_of_the_node_get_the_frontends_address_and_nothing_else_of_it_does() {
    let bench = Bench::new(&node_port(&["+192.0.2.11:8080"]));
    let syn = segment("192.0.2.1:4000", "192.0.2.11:30008", "S", b"");
    assert_eq!(bench.translated(Uplink, &syn), "tcp 192.0.2.1:4000 > 192.0.2.11:8080 S");
    let reply = segment("192.0.2.11:8080", "192.0.2.1:4000", "SA", b"");
    let (_, frame) = bench.run(Out, &reply);
    assert_eq!(describe(&frame), "tcp 192.0.2.11:30008 > 192.0.2.1:4000 SA");
    for other in [
        segment("192.0.2.11:8080", "192.0.2.1:4001", "SA", b""),
        segment("192.0.2.11:30008", "192.0.2.1:4000", "SA", b""),
        segment("192.0.2.1:4000", "192.0.2.11:30008", "S", b""),
    ] {
        assert!(bench.is_untouched(Out, &other));
    }
}
