//! Looks names up at the resolvers of the host, whose answers are passed on as they are.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;
use domain::base::message_builder::PushError;
use domain::base::{Header, MessageBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cache::{Cache, readdress};
use crate::query::{MAX_UDP_SIZE, Query};
use crate::wire;

const MAX_IN_FLIGHT: usize = 512;
const CACHE_ENTRIES: usize = 2048;
/// Stub resolvers give up after 5 seconds; they shall have our SERVFAIL by then.
const BUDGET: Duration = Duration::from_millis(4500);
const PATIENCE: Duration = Duration::from_millis(1500);

/// The resolvers of the host, in the network namespace of `runtime`.
pub struct Upstreams {
    servers: Vec<SocketAddr>,
    /// The server that answered last is asked first.
    preferred: AtomicUsize,
    runtime: Handle,
    cache: Mutex<Cache>,
    in_flight: Semaphore,
}

impl Upstreams {
    pub fn new(servers: Vec<SocketAddr>, runtime: Handle) -> Self {
        Self {
            servers,
            preferred: AtomicUsize::new(0),
            runtime,
            cache: Mutex::new(Cache::new(CACHE_ENTRIES)),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The whole answer to `query`, from the cache or a server, with the query's id and case. `None` if no
    /// server answers in time or too many queries wait already; trying again may help.
    pub async fn resolve(self: &Arc<Self>, query: &Query) -> Option<Vec<u8>> {
        if let Some(answer) = self.cache().get(query, Instant::now()) {
            return Some(answer);
        }
        let _permit = self.in_flight.try_acquire().ok()?;
        let (this, asked) = (self.clone(), query.clone());
        let lookup = self.runtime.spawn(async move { this.ask_in_turn(&asked).await });
        let abort = lookup.abort_handle();
        let looked_up = timeout(BUDGET, lookup).await;
        abort.abort();
        let mut answer = looked_up.ok()?.ok()??;
        self.cache().put(query, &answer, Instant::now());
        readdress(&mut answer, query);
        Some(answer)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one server after the other, twice. A failure that one reports is believed only if no other
    /// knows better.
    async fn ask_in_turn(&self, query: &Query) -> Option<Vec<u8>> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = None;
        for turn in 0..2 * self.servers.len() {
            let index = (first + turn) % self.servers.len();
            match ask(self.servers[index], query).await {
                Ok(answer) if is_failure(&answer) => {
                    failure = Some(answer);
                    if turn + 1 >= self.servers.len() {
                        return failure;
                    }
                }
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Some(answer);
                }
                Err(error) => {
                    tracing::debug!(server = %self.servers[index], name = %query.name, %error, "no answer from upstream");
                }
            }
        }
        failure
    }
}

fn is_failure(answer: &[u8]) -> bool {
    let rcode = Header::for_message_slice(answer).rcode();
    !matches!(rcode, Rcode::NOERROR | Rcode::NXDOMAIN)
}

/// Asks by UDP from a fresh port, and by TCP if the answer was cut.
async fn ask(server: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
    let id = rand::random::<u16>();
    let message = upstream_query(query, id).map_err(|error| io::Error::other(error.to_string()))?;
    let answer = timeout(PATIENCE, ask_udp(server, &message)).await??;
    if !Header::for_message_slice(&answer).tc() {
        return Ok(answer);
    }
    match timeout(PATIENCE, ask_tcp(server, &message)).await {
        Ok(Ok(whole)) => Ok(whole),
        _ => Ok(answer),
    }
}

async fn ask_udp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(message, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if answers(message, &answer) {
        Ok(answer)
    } else {
        Err(io::Error::other("an answer to another question"))
    }
}

/// Whether `answer` is one to `asked`: same id, same question, well-formed. A cut one need only repeat both.
fn answers(asked: &[u8], answer: &[u8]) -> bool {
    let Some(question_end) = wire::layout(asked).map(|layout| layout.question_end) else { return false };
    let same_question = answer
        .get(12..question_end)
        .is_some_and(|question| question.eq_ignore_ascii_case(&asked[12..question_end]));
    if !same_question || answer[..2] != asked[..2] {
        return false;
    }
    let header = Header::for_message_slice(answer);
    header.qr() && (header.tc() || wire::layout(answer).is_some())
}

/// The query that upstream gets: the question and flags of the client, without its EDNS options, which are
/// between the client and us (RFC 6891).
fn upstream_query(query: &Query, id: u16) -> Result<Vec<u8>, PushError> {
    let mut builder = MessageBuilder::new_vec();
    let header = builder.header_mut();
    header.set_id(id);
    header.set_rd(query.header.rd());
    header.set_ad(query.header.ad());
    header.set_cd(query.header.cd());
    let mut question = builder.question();
    question.push((&query.name, query.rtype, query.class))?;
    let mut additional = question.additional();
    if let Some(edns) = query.edns {
        additional.opt(|opt| {
            opt.set_udp_payload_size(MAX_UDP_SIZE);
            opt.set_dnssec_ok(edns.dnssec_ok);
            Ok(())
        })?;
    }
    Ok(additional.finish())
}
