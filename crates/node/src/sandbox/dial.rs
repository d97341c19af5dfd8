//! Connections to a pod's own loopback, as port-forward makes them.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpSocket, TcpStream};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to `localhost:port` inside a network namespace: over IPv4, then over IPv6.
///
/// # Errors
/// What was tried and why each try failed.
pub async fn localhost(netns: PathBuf, port: u16) -> Result<TcpStream, String> {
    let mut failures = Vec::new();
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let address = SocketAddr::new(ip, port);
        let dial = async { socket(netns.clone(), ip).await?.connect(address).await };
        match tokio::time::timeout(TIMEOUT, dial).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => {
                failures.push(format!("dial tcp {address}: connect: {}", crate::probe::check::cause(&e)));
            }
            Err(_) => failures.push(format!("dial tcp {address}: i/o timeout")),
        }
    }
    Err(failures.join(", "))
}

/// A socket that belongs to another network namespace. Only a thread of its own may enter it.
async fn socket(netns: PathBuf, ip: IpAddr) -> io::Result<TcpSocket> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let work = move || {
        let _ = sender.send(socket_inside(&netns, ip));
    };
    std::thread::Builder::new().name("netns".into()).spawn(work)?;
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the pod's network namespace cannot be entered")))
}

fn socket_inside(netns: &Path, ip: IpAddr) -> io::Result<TcpSocket> {
    setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
    if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}
