//! The sockets: reads queries, answers them from the zone at once, and from upstream in tasks of their own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daymark_plan::Zone;
use domain::base::Name;
use domain::base::iana::Rcode;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::answer::{Chase, Reply, Settings, answer};
use crate::query::{Malformed, Query, Transport};
use crate::reply::{Content, compose, refuse, truncated};
use crate::upstream::Upstreams;

const MAX_QUERY: usize = 4096;
const MAX_CONNECTIONS: usize = 256;
const IDLE: Duration = Duration::from_secs(10);
const BACKLOG: i32 = 128;

/// What a server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Each by UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Seconds, of the cluster's records.
    pub ttl: u32,
    /// The resolvers for all names that are not the cluster's; none: such names are refused.
    pub upstreams: Vec<SocketAddr>,
    /// Where sockets to `upstreams` are opened, if not where the server runs.
    pub upstream_runtime: Option<Handle>,
}

/// A socket that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {transport} {address} for DNS: {source}")]
pub struct ListenError {
    pub address: SocketAddr,
    pub transport: &'static str,
    #[source]
    pub source: io::Error,
}

/// Listening sockets, ready to be served.
pub struct Server {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    settings: Settings,
    upstreams: Arc<Upstreams>,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Opens all sockets, within a tokio runtime. Fails if an address is taken or not this host's.
    pub fn bind(config: Config) -> Result<Self, ListenError> {
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for address in &config.listen {
            let failed = |transport| move |source| ListenError { address: *address, transport, source };
            let socket = listen_udp(*address).map_err(failed("UDP"))?;
            // With port 0 (tests) TCP takes the port that UDP got.
            let chosen = socket.local_addr().map_err(failed("UDP"))?;
            tcp.push(listen_tcp(chosen).map_err(failed("TCP"))?);
            udp.push(socket);
        }
        let upstreams =
            config.upstreams.iter().copied().filter(|server| !config.listen.contains(server)).collect();
        let runtime = config.upstream_runtime.unwrap_or_else(Handle::current);
        let upstreams = Arc::new(Upstreams::new(upstreams, runtime));
        let settings = Settings { ttl: config.ttl, recursion_available: !upstreams.is_empty() };
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Ok(Self { udp, tcp, shared: Shared { settings, upstreams, connections } })
    }

    /// The addresses that are listened on, by UDP and TCP alike.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Answers from the latest zone until cancelled.
    pub async fn run(self, zone: watch::Receiver<Arc<Zone>>, cancel: CancellationToken) {
        let mut loops = JoinSet::new();
        for socket in self.udp {
            loops.spawn(serve_udp(Arc::new(socket), self.shared.clone(), zone.clone()));
        }
        for listener in self.tcp {
            loops.spawn(serve_tcp(listener, self.shared.clone(), zone.clone()));
        }
        cancel.cancelled().await;
        loops.shutdown().await;
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Shared, zone: watch::Receiver<Arc<Zone>>) {
    let mut buffer = vec![0; MAX_QUERY];
    loop {
        // Errors here are ICMP errors for earlier answers; the next receive clears them.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let latest = zone.borrow().clone();
        match shared.decide(&latest, &buffer[..length], Transport::Udp) {
            Decision::Silence => {}
            Decision::Answer(bytes) => send(&socket, &bytes, client).await,
            Decision::Later(later) => {
                let (socket, shared) = (socket.clone(), shared.clone());
                tokio::spawn(async move {
                    let bytes = shared.look_up(*later).await;
                    send(&socket, &bytes, client).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        tracing::debug!(%client, %error, "cannot send a DNS answer");
    }
}

async fn serve_tcp(listener: TcpListener, shared: Shared, zone: watch::Receiver<Arc<Zone>>) {
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a DNS connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = shared.connections.clone().try_acquire_owned() else { continue };
        let (shared, zone) = (shared.clone(), zone.clone());
        tasks.spawn(async move {
            if let Err(error) = serve_connection(stream, &shared, &zone).await {
                tracing::trace!(%error, "DNS connection ended");
            }
            drop(permit);
        });
    }
}

async fn serve_connection(
    mut stream: TcpStream,
    shared: &Shared,
    zone: &watch::Receiver<Arc<Zone>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        let mut message = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut message)).await??;
        let latest = zone.borrow().clone();
        let bytes = match shared.decide(&latest, &message, Transport::Tcp) {
            Decision::Silence => return Ok(()),
            Decision::Answer(bytes) => bytes,
            Decision::Later(later) => shared.look_up(*later).await,
        };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes(), &bytes[..]].concat())).await??;
    }
}

enum Decision {
    Silence,
    Answer(Vec<u8>),
    Later(Box<Later>),
}

/// What must be asked upstream before `query` can be answered.
struct Later {
    query: Query,
    chase: Option<Chase>,
}

impl Shared {
    fn decide(&self, zone: &Zone, bytes: &[u8], transport: Transport) -> Decision {
        let query = match Query::parse(bytes, transport) {
            Ok(query) => query,
            Err(Malformed::Unanswerable) => return Decision::Silence,
            Err(Malformed::Refuse(header, rcode)) => return Decision::Answer(refuse(&header, rcode)),
        };
        match answer(zone, &query, &self.settings) {
            Reply::Message(bytes) => Decision::Answer(bytes),
            Reply::Chase(chase) if self.upstreams.is_empty() => {
                Decision::Answer(chase.finish(&query, &self.settings, None))
            }
            Reply::Forward if self.upstreams.is_empty() => {
                Decision::Answer(compose(&query, &Content::empty(Rcode::REFUSED)))
            }
            Reply::Forward => Decision::Later(Box::new(Later { query, chase: None })),
            Reply::Chase(chase) => Decision::Later(Box::new(Later { query, chase: Some(chase) })),
        }
    }

    async fn look_up(&self, later: Later) -> Vec<u8> {
        let Later { query, chase } = later;
        match chase {
            None => match self.upstreams.resolve(&query).await {
                Some(answer) if answer.len() <= query.limit() => answer,
                Some(_) => truncated(&query, Rcode::NOERROR),
                None => compose(&query, &Content::empty(Rcode::SERVFAIL)),
            },
            Some(chase) => {
                let answer = match target_query(&query, &chase.target) {
                    Some(target) => self.upstreams.resolve(&target).await,
                    None => None,
                };
                chase.finish(&query, &self.settings, answer.as_deref())
            }
        }
    }
}

/// The query for the target of an alias; `None` if that is no domain name.
fn target_query(query: &Query, target: &str) -> Option<Query> {
    let name: Name<Vec<u8>> = target.parse().ok()?;
    let labels = target.to_ascii_lowercase().split('.').map(str::to_owned).collect();
    let mut target = Query { name, labels, ..query.clone() };
    target.header.set_rd(true);
    Some(target)
}

fn listen_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
