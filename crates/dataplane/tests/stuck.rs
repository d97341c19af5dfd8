//! Connected UDP sockets whose backend goes away: nothing asks a program before they send, so they are
//! ended, and find another backend with their next connect.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::net::Cgroup;
use common::{Pins, entry, service};
use daymark_model::Protocol::Udp;
use daymark_plan::apply_ops;
use daymark_plan::tables::FrontendKind::ClusterIp;
use daymark_plan::tables::{Op, Tables};

/// Connects, sends at each line of input and says whether it could, and connects anew at the end.
const SCRIPT: &str = r#"
echo $$ > "$0/cgroup.procs"
exec 3<>/dev/udp/10.96.0.7/53
while read -r word && [ "$word" != again ]; do
  if echo "$word" >&3; then echo sent; else echo failed; fi
done
exec 4<>/dev/udp/10.96.0.7/53
if echo again >&4; then echo sent; else echo failed; fi
"#;

fn backend(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("binds");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
    socket
}

fn next(socket: &UdpSocket) -> String {
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer).expect("a datagram");
    String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
}

#[test]
fn a_socket_that_is_connected_to_a_lost_backend_is_ended_and_others_are_not() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
    for words in ["link set lo up", "addr add 10.244.1.2/32 dev lo", "addr add 10.244.1.3/32 dev lo"] {
        assert!(Command::new("ip").args(words.split(' ')).status().expect("runs").success());
    }
    let (one, two) = (backend("10.244.1.2:53"), backend("10.244.1.3:53"));
    let (pins, cgroup) = (Pins::new(), Cgroup::new());
    let mut plane = pins.open();
    let mut tables = Tables::default();
    let mut apply = |plane: &mut daymark_dataplane::DataPlane, ops: &[Op]| {
        plane.apply(ops).expect("applies");
        apply_ops(&mut tables, ops);
        plane.end_stuck_sockets(&cgroup.path, &tables).expect("sockets can be found")
    };
    apply(&mut plane, &service(1, &[(ClusterIp, Udp, "10.96.0.7:53")], &["10.244.1.2:53"]));
    plane.attach_cgroup(&cgroup.path).expect("attaches");

    let mut pod = Command::new("bash")
        .args(["-c", SCRIPT])
        .arg(&cgroup.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("bash");
    let mut orders = pod.stdin.take().expect("piped");
    let mut answers = BufReader::new(pod.stdout.take().expect("piped")).lines();
    let mut say = |word: &str| {
        writeln!(orders, "{word}").expect("bash lives");
        answers.next().expect("an answer").expect("text")
    };
    assert_eq!(say("first"), "sent");
    assert_eq!(next(&one), "first");

    // Another backend joins, and the first one only drains: both leave the socket alone.
    let joined = Op::PutService { id: 1, entry: entry(2, &["10.244.1.2:53", "10.244.1.3:53"]) };
    assert_eq!(apply(&mut plane, &[joined]), 0);
    let mut draining = entry(3, &["10.244.1.3:53"]);
    draining.draining = entry(3, &["10.244.1.2:53"]).slots;
    assert_eq!(apply(&mut plane, &[Op::PutService { id: 1, entry: draining }]), 0);
    assert_eq!(say("second"), "sent");
    assert_eq!(next(&one), "second");

    let gone = Op::PutService { id: 1, entry: entry(4, &["10.244.1.3:53"]) };
    assert_eq!(apply(&mut plane, &[gone]), 1);
    assert_eq!(say("third"), "failed");
    assert_eq!(say("again"), "sent");
    assert_eq!(next(&two), "again");
    assert!(pod.wait().expect("ends").success());
}
