//! The server over real loopback sockets, with upstreams made here and `dig` as a client that is not ours.

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{query, text, zone};
use daymark_dns::{Config, Server};
use daymark_plan::Zone;
use domain::base::iana::Rcode;
use domain::base::message_builder::StaticCompressor;
use domain::base::{Message, MessageBuilder, Rtype};
use domain::rdata::A;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(8);

struct Running {
    address: SocketAddr,
    zone: watch::Sender<Arc<Zone>>,
    cancel: CancellationToken,
}

impl Running {
    fn start(upstreams: Vec<SocketAddr>) -> Self {
        Self::start_with(upstreams, None)
    }

    fn start_with(upstreams: Vec<SocketAddr>, upstream_runtime: Option<Handle>) -> Self {
        let listen = vec!["127.0.0.1:0".parse().expect("an address")];
        let config = Config { listen, ttl: 5, upstreams, upstream_runtime };
        // The port that is free by UDP may be taken by TCP.
        let server = (0..10).find_map(|_| Server::bind(config.clone()).ok()).expect("bound");
        let address = server.addresses()[0];
        let (zone, receiver) = watch::channel(zone(40));
        let cancel = CancellationToken::new();
        tokio::spawn(server.run(receiver, cancel.clone()));
        Self { address, zone, cancel }
    }

    async fn udp(&self, bytes: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        socket.connect(self.address).await.expect("loopback");
        socket.send(bytes).await.expect("sent");
        let mut buffer = vec![0; 65_535];
        let length =
            timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer in time").expect("an answer");
        buffer.truncate(length);
        buffer
    }

    async fn ask(&self, name: &str) -> String {
        text(&self.udp(&query(77, name, Rtype::A, 1232)).await)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Answer,
    Fail,
    Silent,
    /// By UDP only the truncation bit, by TCP the answer.
    Cut,
    /// Sends an answer with a wrong id first.
    Forged,
}

/// An upstream that says 192.0.2.9 with TTL 60 to everything, or what its mood is.
#[derive(Clone)]
struct Upstream {
    address: SocketAddr,
    /// The ids and source ports of queries by UDP.
    heard: Arc<Mutex<Vec<(u16, u16)>>>,
}

impl Upstream {
    async fn start(mood: Mood) -> Self {
        let (socket, listener) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
            let address = listener.local_addr().expect("bound");
            if let Ok(socket) = UdpSocket::bind(address).await {
                break (socket, listener);
            }
        };
        let address = socket.local_addr().expect("bound");
        let heard: Arc<Mutex<Vec<(u16, u16)>>> = Arc::default();
        let log = heard.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let asked = &buffer[..length];
                log.lock().expect("no panic").push((u16::from_be_bytes([asked[0], asked[1]]), client.port()));
                if mood == Mood::Forged {
                    let mut forged = respond(asked, Mood::Answer);
                    forged[0] ^= 0xff;
                    socket.send_to(&forged, client).await.ok();
                }
                if mood != Mood::Silent {
                    socket.send_to(&respond(asked, mood), client).await.ok();
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = vec![0; usize::from(stream.read_u16().await.unwrap_or(0))];
                if stream.read_exact(&mut asked).await.is_ok() {
                    let answer = respond(&asked, Mood::Answer);
                    stream
                        .write_all(&[&(answer.len() as u16).to_be_bytes(), &answer[..]].concat())
                        .await
                        .ok();
                }
            }
        });
        Self { address, heard }
    }

    fn queries(&self) -> usize {
        self.heard.lock().expect("no panic").len()
    }
}

fn respond(asked: &[u8], mood: Mood) -> Vec<u8> {
    let asked = Message::from_octets(asked).expect("a query");
    let question = asked.sole_question().expect("one question");
    let mut builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).expect("room");
    *builder.header_mut() = asked.header();
    builder.header_mut().set_qr(true);
    builder.header_mut().set_ra(true);
    builder.header_mut().set_tc(mood == Mood::Cut);
    builder.header_mut().set_rcode(if mood == Mood::Fail { Rcode::SERVFAIL } else { Rcode::NOERROR });
    let mut answer = builder.question();
    answer.push(question).expect("room");
    let mut answer = answer.answer();
    if matches!(mood, Mood::Answer | Mood::Forged) {
        answer.push((question.qname(), 60, A::from_octets(192, 0, 2, 9))).expect("room");
    }
    answer.finish().into_target()
}

#[tokio::test]
async fn cluster_names_follow_the_zone() {
    let server = Running::start(vec![]);
    assert_eq!(
        server.ask("web.shop.svc.cluster.local").await,
        "NOERROR aa rd\nweb.shop.svc.cluster.local 5 A 10.96.0.7"
    );
    server.zone.send(Arc::new(Zone::unsynced("cluster.local"))).expect("the server listens");
    assert_eq!(server.ask("web.shop.svc.cluster.local").await, "SERVFAIL rd");
}

#[tokio::test]
async fn without_upstreams_other_names_are_refused_at_once_and_aliases_stand_alone() {
    let server = Running::start(vec![]);
    let start = Instant::now();
    assert_eq!(server.ask("www.example.com").await, "REFUSED rd");
    let alias = "away.shop.svc.cluster.local 5 CNAME www.Example.com.";
    assert_eq!(server.ask("away.shop.svc.cluster.local").await, format!("NOERROR rd\n{alias}"));
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn other_names_are_forwarded_and_kept() {
    let upstream = Upstream::start(Mood::Answer).await;
    let server = Running::start(vec![upstream.address]);
    let expected = |name: &str| format!("NOERROR rd ra\n{name} 60 A 192.0.2.9");
    assert_eq!(server.ask("www.example.com").await, expected("www.example.com"));
    assert_eq!(server.ask("WWW.example.COM").await, expected("WWW.example.COM"));
    assert_eq!(upstream.queries(), 1, "the second came from the cache");
}

#[tokio::test]
async fn an_alias_is_chased() {
    let upstream = Upstream::start(Mood::Answer).await;
    let server = Running::start(vec![upstream.address]);
    assert_eq!(
        server.ask("away.shop.svc.cluster.local").await,
        "NOERROR rd ra\naway.shop.svc.cluster.local 5 CNAME www.Example.com.\nwww.Example.com 60 A 192.0.2.9"
    );
}

#[tokio::test]
async fn ids_and_ports_are_drawn_anew_for_each_query() {
    let upstream = Upstream::start(Mood::Answer).await;
    let server = Running::start(vec![upstream.address]);
    for index in 0..20 {
        server.ask(&format!("n{index}.example.com")).await;
    }
    let heard = upstream.heard.lock().expect("no panic").clone();
    let ids: BTreeSet<u16> = heard.iter().map(|(id, _)| *id).collect();
    let ports: BTreeSet<u16> = heard.iter().map(|(_, port)| *port).collect();
    assert!(ids.len() > 15 && ports.len() > 10, "{heard:?}");
}

#[tokio::test]
async fn an_upstream_that_is_silent_or_fails_is_passed_over_and_remembered() {
    for mood in [Mood::Silent, Mood::Fail] {
        let (bad, good) = (Upstream::start(mood).await, Upstream::start(Mood::Answer).await);
        let server = Running::start(vec![bad.address, good.address]);
        assert!(server.ask("a.example.com").await.ends_with("192.0.2.9"));
        assert!(server.ask("b.example.com").await.ends_with("192.0.2.9"));
        assert_eq!((bad.queries(), good.queries()), (1, 2));
    }
}

#[tokio::test]
async fn a_dead_upstream_costs_no_wait() {
    let dead = UdpSocket::bind("127.0.0.1:0").await.expect("a socket").local_addr().expect("bound");
    let good = Upstream::start(Mood::Answer).await;
    let server = Running::start(vec![dead, good.address]);
    let start = Instant::now();
    assert!(server.ask("a.example.com").await.ends_with("192.0.2.9"));
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn when_all_fail_so_do_we_before_clients_give_up() {
    let failing = Upstream::start(Mood::Fail).await;
    assert!(Running::start(vec![failing.address]).ask("a.example.com").await.starts_with("SERVFAIL"));
    let silent = Upstream::start(Mood::Silent).await;
    let start = Instant::now();
    assert!(Running::start(vec![silent.address]).ask("a.example.com").await.starts_with("SERVFAIL"));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn cut_answers_are_fetched_by_tcp() {
    let upstream = Upstream::start(Mood::Cut).await;
    let server = Running::start(vec![upstream.address]);
    assert_eq!(server.ask("www.example.com").await, "NOERROR rd ra\nwww.example.com 60 A 192.0.2.9");
}

#[tokio::test]
async fn an_answer_with_a_wrong_id_is_not_believed() {
    let upstream = Upstream::start(Mood::Forged).await;
    let server = Running::start(vec![upstream.address]);
    assert_eq!(server.ask("www.example.com").await, "NOERROR rd ra\nwww.example.com 60 A 192.0.2.9");
}

#[tokio::test]
async fn upstream_sockets_open_on_the_given_runtime() {
    let elsewhere = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("elsewhere")
        .enable_all()
        .build()
        .expect("a runtime");
    let upstream = Upstream::start(Mood::Answer).await;
    let running = Running::start_with(vec![upstream.address], Some(elsewhere.handle().clone()));
    assert!(running.ask("a.example.com").await.ends_with("192.0.2.9"));
    elsewhere.shutdown_background();
    assert!(running.ask("b.example.com").await.starts_with("SERVFAIL"), "nobody is left to ask");
}

#[tokio::test]
async fn tcp_serves_several_queries_on_one_connection_and_ends_on_garbage() {
    let server = Running::start(vec![]);
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    for id in 0..3 {
        let asked = query(id, "db.shop.svc.cluster.local", Rtype::A, 0);
        stream.write_all(&[&(asked.len() as u16).to_be_bytes(), &asked[..]].concat()).await.expect("sent");
        let mut answer = vec![0; usize::from(stream.read_u16().await.expect("an answer"))];
        stream.read_exact(&mut answer).await.expect("the whole answer");
        assert_eq!(text(&answer).lines().count(), 41);
    }
    stream.write_all(&[0, 3, 1, 2, 3]).await.expect("sent");
    assert!(stream.read_u16().await.is_err(), "the connection ends");
}

#[tokio::test]
async fn garbage_is_answered_by_format_error_or_silence_and_hurts_nobody() {
    let server = Running::start(vec![]);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    for length in 0..12 {
        socket.send_to(&vec![0xff; length], server.address).await.expect("sent");
    }
    let mut bad = query(5, "web.shop.svc.cluster.local", Rtype::A, 0);
    bad.truncate(20);
    assert_eq!(text(&server.udp(&bad).await), "FORMERR rd");
    assert!(server.ask("web.shop.svc.cluster.local").await.starts_with("NOERROR"));
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_it() {
    let taken = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = taken.local_addr().expect("bound");
    let config = Config { listen: vec![address], ttl: 5, upstreams: vec![], upstream_runtime: None };
    let error = Server::bind(config).err().expect("taken").to_string();
    assert!(error.contains(&format!("cannot listen on UDP {address} for DNS")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_agrees() {
    let server = Running::start(vec![]);
    let port = server.address.port().to_string();
    let dig = |arguments: &str| {
        let fixed = ["@127.0.0.1", "-p", &port, "+tries=1", "+time=3"];
        let output =
            Command::new("dig").args(fixed).args(arguments.split(' ')).output().expect("dig is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(dig("+short web.shop.svc.cluster.local A").trim(), "10.96.0.7");
    assert_eq!(dig("+short -x 10.96.0.7").trim(), "web.shop.svc.cluster.local.");
    assert_eq!(dig("+short dns-version.cluster.local TXT").trim(), "\"1.1.0\"");
    assert_eq!(
        dig("+short +tcp _http._tcp.web.shop.svc.cluster.local SRV").trim(),
        "0 100 80 web.shop.svc.cluster.local."
    );
    // 40 addresses do not fit 512 bytes: dig tries again by TCP.
    let all = dig("+noedns +short db.shop.svc.cluster.local A");
    assert_eq!(all.lines().filter(|line| line.starts_with("10.244.")).count(), 40, "{all}");
    assert!(dig("nosuch.shop.svc.cluster.local A").contains("status: NXDOMAIN"));
    let no_data = dig("web.shop.svc.cluster.local AAAA");
    assert!(no_data.contains("status: NOERROR") && no_data.contains("ANSWER: 0"), "{no_data}");
}
