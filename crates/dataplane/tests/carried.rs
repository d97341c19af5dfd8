//! What connections carry that are translated at the socket is counted when they close, however they end.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::net::Cgroup;
use common::{Pins, ip, service};
use daymark_dataplane::{DataPlane, ServiceStats};
use daymark_model::Protocol::Tcp;
use daymark_plan::tables::FrontendKind::ClusterIp;
use daymark_plan::tables::Op;
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The client closes once it has read what it waits for.
    Client,
    /// The client says that it is done, and reads to the end.
    HalfClosed,
    /// The backend closes first.
    Backend,
    /// The client is killed.
    Killed,
    /// The client connects past the Service instead, which does not answer.
    Retried,
}

/// Not a test: a process of a pod. Told an address, how much to send and to read, and how to end.
#[test]
fn client() {
    let Ok(cgroup) = std::env::var("DAYMARK_TEST_CGROUP") else { return };
    std::fs::write(Path::new(&cgroup).join("cgroup.procs"), std::process::id().to_string())
        .expect("the cgroup takes us");
    let order = std::env::var("DAYMARK_TEST_ORDER").expect("an order");
    let [to, send, receive, end] = order.split(' ').collect::<Vec<_>>()[..] else { panic!("{order}") };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let connected = if end == "Retried" { connect_after_failing(to) } else { TcpStream::connect(to) };
    let Ok(mut stream) = connected else { return };
    stream.write_all(&vec![7; number(send)]).expect("sends");
    stream.read_exact(&mut vec![0; number(receive)]).expect("receives");
    match end {
        "HalfClosed" => {
            stream.shutdown(Shutdown::Write).expect("half closes");
            assert_eq!(stream.read(&mut [0]).expect("reads"), 0, "the end");
        }
        "Backend" => assert_eq!(stream.read(&mut [0]).expect("reads"), 0, "the end"),
        "Killed" => {
            println!("@ready");
            std::thread::park();
        }
        _ => {}
    }
}

/// Connects a socket to a backend past its Service, after that Service did not answer it.
fn connect_after_failing(service: &str) -> std::io::Result<TcpStream> {
    let socket = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
    let address = |text: &str| SockaddrIn::from(text.parse::<SocketAddrV4>().expect("address"));
    let refused = socket::connect(socket.as_raw_fd(), &address(service)).expect_err("nobody listens");
    assert_eq!(refused, Errno::ECONNREFUSED);
    socket::connect(socket.as_raw_fd(), &address("10.244.1.2:81"))?;
    Ok(socket.into())
}

fn start_client(cgroup: &Cgroup, to: &str, send: usize, receive: usize, end: End) -> Child {
    Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "client", "--nocapture"])
        .env("DAYMARK_TEST_CGROUP", &cgroup.path)
        .env("DAYMARK_TEST_ORDER", format!("{to} {send} {receive} {end:?}"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("client starts")
}

/// Reads and sends so much, and waits for the client's end unless it is to end first.
fn answer(listener: &TcpListener, read: usize, send: usize, end: End) {
    let (mut stream, _) = listener.accept().expect("a client");
    stream.read_exact(&mut vec![0; read]).expect("reads");
    stream.write_all(&vec![7; send]).expect("sends");
    if end != End::Backend {
        let _ = stream.read(&mut [0]);
    }
}

struct Pod {
    plane: DataPlane,
    listener: TcpListener,
    cgroup: Cgroup,
    _pins: Pins,
}

const BACKENDS: [&str; 2] = ["10.244.1.2:80", "[fd00:10:244::2]:80"];
const FRONTENDS: [&str; 2] = ["10.96.0.7:80", "[fd00:10:96::7]:80"];

impl Pod {
    fn new() -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
        let addresses = ["addr add 10.244.1.2/32 dev lo", "addr add fd00:10:244::2/128 dev lo nodad"];
        for words in ["link set lo up"].into_iter().chain(addresses) {
            assert!(Command::new("ip").args(words.split(' ')).status().expect("runs").success());
        }
        let listener = TcpListener::bind("[::]:80").expect("binds");
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let mut plane = pins.open();
        for (id, (frontend, backend)) in (1..).zip(FRONTENDS.iter().zip(BACKENDS)) {
            plane.apply(&service(id, &[(ClusterIp, Tcp, frontend)], &[backend])).expect("applies");
        }
        plane.apply(&[Op::PutClusterIp { ip: ip("10.96.0.7") }]).expect("applies");
        plane.attach_cgroup(&cgroup.path).expect("attaches");
        Self { plane, listener, cgroup, _pins: pins }
    }

    /// What was counted for a backend.
    fn counted(&self, id: u32) -> ServiceStats {
        let backend: SocketAddr = BACKENDS[id as usize - 1].parse().expect("address");
        self.plane.meters().backend_stats().expect("reads").remove(&(id, backend)).unwrap_or_default()
    }

    /// A connection, and what it added to its backend's counts.
    fn exchange(&self, id: u32, sent: usize, received: usize, end: End) -> (u64, u64) {
        let before = self.counted(id);
        let mut client = start_client(&self.cgroup, FRONTENDS[id as usize - 1], sent, received, end);
        if end == End::Killed {
            let (mut stream, _) = self.listener.accept().expect("a client");
            stream.read_exact(&mut vec![0; sent]).expect("reads");
            stream.write_all(&vec![7; received]).expect("sends");
            let lines = BufReader::new(client.stdout.take().expect("piped")).lines();
            let ready = lines.map_while(Result::ok).any(|line| line.ends_with("@ready"));
            assert!(ready, "the client read all");
            client.kill().expect("lives");
            client.wait().expect("ends");
        } else {
            answer(&self.listener, sent, received, end);
            assert!(client.wait().expect("ends").success());
        }
        let after = self.counted(id);
        assert_eq!(after.connections, before.connections + 1);
        (after.bytes_in - before.bytes_in, after.bytes_out - before.bytes_out)
    }
}

#[test]
fn what_a_connection_carried_is_counted_however_it_ends() {
    let pod = Pod::new();
    let mut wrong = Vec::new();
    for id in [1, 2] {
        for end in [End::Client, End::HalfClosed, End::Backend, End::Killed] {
            for (sent, received) in [(0, 0), (1, 1), (100, 70_000), (3_000_000, 5)] {
                let counted = pod.exchange(id, sent, received, end);
                if counted != (sent as u64, received as u64) {
                    wrong.push(format!("{id} {end:?}: {counted:?} of {sent} and {received}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_sent_but_not_read_yet_counts_and_what_connects_to_nobody_does_not() {
    let pod = Pod::new();
    // Less than the kernel keeps for a slow reader: the client ends at once.
    let mut client = start_client(&pod.cgroup, FRONTENDS[0], 100_000, 0, End::Client);
    assert!(client.wait().expect("ends").success());
    assert_eq!((pod.counted(1).bytes_in, pod.counted(1).bytes_out), (100_000, 0));
    let Pod { plane, listener, cgroup, _pins } = pod;
    drop(listener);
    let mut client = start_client(&cgroup, FRONTENDS[1], 1, 0, End::Client);
    assert!(client.wait().expect("ends").success());
    let stats = plane.meters().service_stats().expect("reads")[&2];
    assert_eq!((stats.connections, stats.bytes_in, stats.bytes_out), (1, 0, 0), "refused by the backend");
}

#[test]
fn what_a_socket_carries_past_the_service_that_it_tried_first_does_not_count() {
    let Pod { plane, listener, cgroup, _pins } = Pod::new();
    drop(listener);
    let past = TcpListener::bind("10.244.1.2:81").expect("binds");
    let mut client = start_client(&cgroup, FRONTENDS[0], 1000, 0, End::Retried);
    answer(&past, 1000, 0, End::Client);
    assert!(client.wait().expect("ends").success());
    let stats = plane.meters().service_stats().expect("reads")[&1];
    assert_eq!((stats.connections, stats.bytes_in, stats.bytes_out), (1, 0, 0));
}
