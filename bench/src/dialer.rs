//! A process in a namespace and a cgroup that dials as it is told and says how long it took. A process
//! because sockets belong to the cgroup of the process that makes them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::space::Space;

/// What is timed.
#[derive(Clone, Copy, Debug)]
pub enum Exchange {
    /// From `connect` to its return; the connection is reset at once.
    Connect,
    /// Connecting, a request, its answer, and the end of the connection.
    Request,
    /// Receiving this many bytes.
    Bulk(u64),
}

/// Seconds of the clock that all processes of a machine share.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

pub struct Dialer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Dialer {
    pub fn start(space: &Space, cgroup: &Path) -> Result<Self> {
        let mut child = space.run(|| {
            Ok(Command::new(std::env::current_exe()?)
                .arg("dialer")
                .arg(cgroup)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?)
        })?;
        let orders = child.stdin.take().context("piped")?;
        let answers = BufReader::new(child.stdout.take().context("piped")?);
        Ok(Self { child, orders, answers })
    }

    fn order(&mut self, order: &str) -> Result<()> {
        Ok(writeln!(self.orders, "{order}")?)
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "a client process ended");
        match line.trim().strip_prefix("error ") {
            Some(why) => bail!("{why}"),
            None => Ok(line.trim().to_owned()),
        }
    }

    /// One after another, `count` times. Seconds each.
    pub fn time(&mut self, exchange: Exchange, target: SocketAddr, count: usize) -> Result<Vec<f64>> {
        let what = match exchange {
            Exchange::Connect => "connect".to_owned(),
            Exchange::Request => "request".to_owned(),
            Exchange::Bulk(bytes) => bytes.to_string(),
        };
        self.order(&format!("time {target} {count} {what}"))?;
        let times = self.answer().with_context(|| format!("dialling {target}"))?;
        Ok(times.split(' ').map(str::parse).collect::<Result<_, _>>()?)
    }

    /// Whether a connection succeeds now.
    pub fn connects(&mut self, target: SocketAddr) -> Result<bool> {
        self.order(&format!("time {target} 1 try"))?;
        Ok(self.answer().is_ok())
    }

    /// Dials until it succeeds, for a minute.
    pub fn reach(&mut self, target: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.connects(target)? {
            ensure!(Instant::now() < deadline, "{target} does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts to dial until the answer begins with `wanted`; see [`Self::obeyed`].
    pub fn watch(&mut self, target: SocketAddr, wanted: &str, patience: Duration) -> Result<()> {
        self.order(&format!("watch {target} {wanted} {}", patience.as_millis()))
    }

    /// When (see [`now`]) the connection was begun that got the wanted answer first.
    pub fn obeyed(&mut self) -> Result<f64> {
        Ok(self.answer()?.parse()?)
    }

    /// Who answers.
    pub fn asks(&mut self, target: SocketAddr) -> Result<String> {
        self.order(&format!("ask {target}"))?;
        self.answer()
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process's own side.
pub fn main(cgroup: &str) -> Result<()> {
    std::fs::write(Path::new(cgroup).join("cgroup.procs"), std::process::id().to_string())?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match carry_out(&words) {
            Ok(answer) => println!("{answer}"),
            Err(why) => println!("error {}", format!("{why:#}").replace('\n', " ")),
        }
    }
    Ok(())
}

fn carry_out(words: &[&str]) -> Result<String> {
    match words {
        ["time", target, count, what] => {
            let target = target.parse()?;
            let times: Vec<String> = (0..count.parse::<usize>()?)
                .map(|_| Ok(format!("{:.9}", once(what, target)?)))
                .collect::<Result<_>>()?;
            Ok(times.join(" "))
        }
        ["watch", target, wanted, patience] => watch(target.parse()?, wanted, patience.parse()?),
        ["ask", target] => request(target.parse()?),
        other => bail!("no such order: {other:?}"),
    }
}

fn once(what: &str, target: SocketAddr) -> Result<f64> {
    match what {
        "connect" => connect(target, LONG),
        "try" => connect(target, SHORT),
        "request" => {
            let began = Instant::now();
            request(target)?;
            Ok(began.elapsed().as_secs_f64())
        }
        bytes => bulk(target, bytes.parse()?),
    }
}

/// A SYN that is lost is sent again after a second: that is a result, not a failure.
const LONG: Duration = Duration::from_secs(8);
const SHORT: Duration = Duration::from_millis(50);

fn connect(target: SocketAddr, patience: Duration) -> Result<f64> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    // A reset instead of TIME_WAIT, which would run out of ports.
    socket.set_linger(Some(Duration::ZERO))?;
    // Bounds how long connect() takes where nobody answers.
    socket.set_write_timeout(Some(patience))?;
    let began = Instant::now();
    socket.connect(&target.into())?;
    Ok(began.elapsed().as_secs_f64())
}

fn request(target: SocketAddr) -> Result<String> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_write_timeout(Some(LONG))?;
    socket.set_read_timeout(Some(LONG))?;
    socket.connect(&target.into())?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"who")?;
    let mut answer = String::new();
    // To the end of the connection.
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn watch(target: SocketAddr, wanted: &str, patience_ms: u64) -> Result<String> {
    let deadline = Instant::now() + Duration::from_millis(patience_ms);
    while Instant::now() < deadline {
        let began = now();
        if request(target).is_ok_and(|answer| answer.starts_with(wanted)) {
            return Ok(format!("{began:.9}"));
        }
    }
    bail!("{target} does not answer as {wanted}… within {patience_ms} ms")
}

fn bulk(target: SocketAddr, bytes: u64) -> Result<f64> {
    let mut stream = TcpStream::connect(target)?;
    let began = Instant::now();
    stream.write_all(&bytes.to_be_bytes())?;
    let mut buffer = vec![0; 1 << 18];
    let mut left = bytes;
    while left > 0 {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "the connection ended {left} bytes early");
        left -= length as u64;
    }
    Ok(began.elapsed().as_secs_f64())
}
