//! Sockets for clients of both IP families; of IPv4 alone where the pod has no IPv6.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, UdpSocket};

/// Listens on every address of the pod.
pub async fn tcp(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if no_ipv6(&error) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        bound => bound,
    }
}

/// As [`tcp`], for datagrams.
pub async fn udp(port: u16) -> io::Result<UdpSocket> {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if no_ipv6(&error) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        bound => bound,
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// The client as it calls itself: IPv4 clients reach a socket of both families as `::ffff:a.b.c.d`.
pub fn client(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn one_listener_has_clients_of_both_families() {
        let listener = tcp(0).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        for ip in ["127.0.0.1", "::1"] {
            let _client = TcpStream::connect((ip, port)).await.unwrap_or_else(|e| panic!("{ip}: {e}"));
            let (_, seen) = listener.accept().await.expect("a client");
            assert_eq!(client(seen).ip().to_string(), ip);
        }
    }
}
