//! Load: processes in the network namespace and cgroup of whom they stand for, which ask without pause and
//! write down each request.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::ledger::{Request, Time};

const LOAD: &str = "DAYMARK_CHAOS_LOAD";
/// A request that takes longer than this is broken.
const PATIENCE: Duration = Duration::from_secs(5);
/// UDP promises nothing: a question is asked again before it counts as unanswered.
const UDP_PATIENCE: Duration = Duration::from_millis(500);
const UDP_TRIES: usize = 6;
const PAUSE: Duration = Duration::from_millis(20);

pub fn now() -> Time {
    daymark_dataplane::monotonic_now().as_nanos() as Time
}

/// What a load does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new connection, and the name of who serves it.
    Http,
    /// One connection, held from beginning to end, that must echo.
    Held,
    /// A question by a new connected socket.
    Udp,
    /// Questions by one unconnected socket.
    UdpSocket,
}

impl Kind {
    const ALL: [(Kind, &'static str); 4] =
        [(Kind::Http, "http"), (Kind::Held, "held"), (Kind::Udp, "udp"), (Kind::UdpSocket, "udp-socket")];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).expect("every kind has its word").1
    }

    fn from_word(word: &str) -> Self {
        Self::ALL.iter().find(|(_, known)| *known == word).expect("a known word").0
    }
}

/// Who asks: where it lives, and whose data plane chooses for it.
pub struct Place {
    pub name: String,
    pub node: String,
    pub netns: PathBuf,
    pub cgroup: Option<PathBuf>,
}

/// A running load; ends with its owner.
pub struct Load {
    name: String,
    node: String,
    datagram: bool,
    log: PathBuf,
    child: Child,
}

impl Load {
    /// The test binary must have a test named `load` that calls [`main`].
    pub fn start(place: &Place, kind: Kind, target: SocketAddr, log: PathBuf) -> Self {
        let child = Command::new("nsenter")
            .arg(format!("--net={}", place.netns.display()))
            .arg("--")
            .arg(std::env::current_exe().expect("own path"))
            .args(["--exact", "load", "--nocapture"])
            .env(LOAD, format!("{} {target}", kind.word()))
            .env("DAYMARK_CHAOS_CGROUP", place.cgroup.as_deref().unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(File::create(&log).expect("a log"))
            .spawn()
            .expect("nsenter");
        let name = format!("{} {} {target}", place.name, kind.word());
        let datagram = matches!(kind, Kind::Udp | Kind::UdpSocket);
        Self { name, node: place.node.clone(), datagram, log, child }
    }

    /// Tells it to stop, waits until the last request is over, and reads what it wrote down.
    pub fn finish(mut self) -> Vec<Request> {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "{}: {status}", self.name);
        let lines = BufReader::new(File::open(&self.log).expect("its log")).lines();
        lines.map_while(Result::ok).filter_map(|line| self.read(line.strip_prefix('@')?)).collect()
    }

    fn read(&self, line: &str) -> Option<Request> {
        let mut words = line.splitn(5, ' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (id, start, end) = (number()?, number()?, number()?);
        let (verdict, rest) = (words.next()?, words.next().unwrap_or_default().to_owned());
        let answer = if verdict == "ok" { Ok(rest) } else { Err(rest) };
        Some(Request {
            load: self.name.clone(),
            id,
            node: self.node.clone(),
            start,
            end,
            answer,
            datagram: self.datagram,
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The load process. Does nothing unless started by [`Load::start`].
pub fn main() {
    let Ok(order) = std::env::var(LOAD) else { return };
    let cgroup = std::env::var("DAYMARK_CHAOS_CGROUP").unwrap_or_default();
    if !cgroup.is_empty() {
        let procs = Path::new(&cgroup).join("cgroup.procs");
        fs::write(procs, std::process::id().to_string()).expect("the cgroup takes us");
    }
    let (kind, target) = order.split_once(' ').expect("a kind and an address");
    let target: SocketAddr = target.parse().expect("an address");
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    let mut asker = Asker { kind: Kind::from_word(kind), target, held: None, socket: None };
    let mut id = 0;
    while !stop.load(Ordering::Relaxed) {
        id += 1;
        let start = now();
        let (verdict, text) = match asker.ask(id) {
            Ok(name) => ("ok", name),
            Err(why) => ("failed", why.to_string()),
        };
        println!("@{id} {start} {} {verdict} {text}", now());
        std::thread::sleep(PAUSE);
    }
}

struct Asker {
    kind: Kind,
    target: SocketAddr,
    held: Option<TcpStream>,
    socket: Option<UdpSocket>,
}

impl Asker {
    /// The name of who answered; nothing for a connection that is held.
    fn ask(&mut self, id: u64) -> std::io::Result<String> {
        match self.kind {
            Kind::Http => self.http(id),
            Kind::Held => self.echo(id).inspect_err(|_| self.held = None).map(|()| String::new()),
            Kind::Udp => {
                // A socket that is connected to a backend that just went is ended, and its owner told.
                let ended = |error: &std::io::Error| {
                    matches!(error.raw_os_error(), Some(nix::libc::ECONNABORTED | nix::libc::EDESTADDRREQ))
                };
                let mut answer = self.by_connected_socket();
                for _ in 0..UDP_TRIES {
                    match &answer {
                        Err(error) if ended(error) => answer = self.by_connected_socket(),
                        _ => break,
                    }
                }
                answer
            }
            Kind::UdpSocket => {
                if self.socket.is_none() {
                    self.socket = Some(UdpSocket::bind("0.0.0.0:0")?);
                }
                let (socket, target) = (self.socket.as_ref().expect("just made"), self.target);
                question(socket, |socket| socket.send_to(b"hostname", target).map(drop))
            }
        }
    }

    fn by_connected_socket(&self) -> std::io::Result<String> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(self.target)?;
        question(&socket, |socket| socket.send(b"hostname").map(drop))
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.target, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn http(&self, id: u64) -> std::io::Result<String> {
        let mut stream = self.connect()?;
        write!(stream, "GET /hostname?request={id} HTTP/1.0\r\nHost: chaos\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
        body.filter(|body| !body.is_empty())
            .ok_or_else(|| std::io::Error::other(format!("answer {answer:?}")))
    }

    fn echo(&mut self, id: u64) -> std::io::Result<()> {
        if self.held.is_none() {
            self.held = Some(self.connect()?);
        }
        let stream = self.held.as_mut().expect("just made");
        let text = format!("request {id:>12}");
        stream.write_all(text.as_bytes())?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back)?;
        if back == text.as_bytes() { Ok(()) } else { Err(std::io::Error::other("another request's echo")) }
    }
}

fn question(socket: &UdpSocket, send: impl Fn(&UdpSocket) -> std::io::Result<()>) -> std::io::Result<String> {
    let mut buffer = [0; 200];
    // What answered an earlier question twice is no answer to this one.
    socket.set_nonblocking(true)?;
    while socket.recv(&mut buffer).is_ok() {}
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(UDP_PATIENCE))?;
    let mut last = Err(std::io::ErrorKind::TimedOut.into());
    for _ in 0..UDP_TRIES {
        send(socket)?;
        last = socket.recv(&mut buffer).map(|n| String::from_utf8_lossy(&buffer[..n]).trim().to_owned());
        if last.is_ok() {
            break;
        }
    }
    last
}
