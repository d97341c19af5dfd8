//! Opens and closes health check node ports as Services come and go.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use daymark_plan::HealthCheck;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Vitals, answer, http};

/// How often a port that somebody else has is tried again.
pub const RETRY: Duration = Duration::from_secs(5);

/// A health check node port that is wanted.
struct Port {
    stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    /// Where it could not be opened yet.
    missing: Vec<IpAddr>,
}

impl Port {
    /// Whoever wants the port next can have it at once.
    async fn close(self) {
        self.stop.cancel();
        for server in self.servers {
            // One that panicked has let go of its port as well.
            let _ = server.await;
        }
    }

    /// One address that is taken must not silence the others.
    fn open(&mut self, number: u16, check: &HealthCheck, vitals: &watch::Receiver<Vitals>, first: bool) {
        let Self { stop, servers, missing } = self;
        missing.retain(|ip| {
            let at = SocketAddr::new(*ip, number);
            match http::bind(at) {
                Ok(listener) => {
                    servers.push(serve(listener, number, vitals.clone(), stop.clone()));
                    if !first {
                        tracing::info!(service = %check.service, %at, "answers on the health check node port");
                    }
                    false
                }
                Err(why) => {
                    if first {
                        tracing::error!(
                            service = %check.service, %at, %why,
                            "cannot answer on the health check node port yet: load balancers will pass this \
                             node by"
                        );
                    }
                    true
                }
            }
        });
    }
}

/// Follows the checks until told to stop.
pub async fn follow(
    addresses: Vec<IpAddr>,
    mut vitals: watch::Receiver<Vitals>,
    retry: Duration,
    stop: CancellationToken,
) {
    let mut ports: BTreeMap<u16, Port> = BTreeMap::new();
    loop {
        let wanted = vitals.borrow_and_update().checks.clone();
        let unwanted: Vec<u16> =
            ports.keys().copied().filter(|number| !wanted.contains_key(number)).collect();
        for number in unwanted {
            if let Some(port) = ports.remove(&number) {
                port.close().await;
            }
        }
        for (number, check) in wanted.iter() {
            let first = !ports.contains_key(number);
            let port = ports.entry(*number).or_insert_with(|| Port {
                stop: stop.child_token(),
                servers: Vec::new(),
                missing: addresses.clone(),
            });
            port.open(*number, check, &vitals, first);
        }
        let lacking = ports.values().any(|port| !port.missing.is_empty());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(retry), if lacking => {}
            changed = vitals.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

fn serve(
    listener: tokio::net::TcpListener,
    port: u16,
    vitals: watch::Receiver<Vitals>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(http::serve(listener, http::ASKS_WITHIN, stop, move |_| {
        let vitals = vitals.borrow();
        let check = vitals.checks.get(&port);
        let answer =
            check.map_or_else(answer::not_found, |check| answer::check(check, &vitals, Instant::now()));
        std::future::ready(answer)
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daymark_model::ObjectName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn checks(port: u16, services: &[&str]) -> Arc<BTreeMap<u16, HealthCheck>> {
        let check = |name: &&str| HealthCheck { service: ObjectName::new("shop", *name), local_endpoints: 1 };
        Arc::new(services.iter().map(|name| (port, check(name))).collect())
    }

    fn vitals(checks: Arc<BTreeMap<u16, HealthCheck>>) -> watch::Sender<Vitals> {
        watch::Sender::new(Vitals { checks, eligible: true, synced: true, owed_since: None, updated: None })
    }

    async fn ask(port: u16) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((HERE, port)).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// Asks until the answer is right, or it takes too long.
    async fn eventually(port: u16, right: impl Fn(&std::io::Result<String>) -> bool) {
        let mut last = ask(port).await;
        for _ in 0..3000 {
            if right(&last) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            last = ask(port).await;
        }
        panic!("port {port} still says {last:?}");
    }

    #[tokio::test]
    async fn a_port_that_somebody_has_is_taken_when_it_is_free() {
        let other = std::net::TcpListener::bind((HERE, 0)).expect("a free port");
        let port = other.local_addr().expect("its address").port();
        let vitals = vitals(checks(port, &["web"]));
        let stop = CancellationToken::new();
        let _stops = stop.clone().drop_guard();
        let soon = Duration::from_millis(10);
        let following = tokio::spawn(follow(vec![HERE], vitals.subscribe(), soon, stop));
        // Its first attempt comes before its first rest, which yields to us.
        tokio::task::yield_now().await;
        drop(other);
        eventually(port, |said| said.as_ref().is_ok_and(|text| text.starts_with("HTTP/1.1 200"))).await;
        vitals.send_modify(|vitals| vitals.checks = checks(port, &[]));
        eventually(port, Result::is_err).await;
        assert!(!following.is_finished());
    }

    #[tokio::test]
    async fn a_port_that_was_closed_is_free_at_once() {
        let vitals = vitals(checks(0, &[]));
        let check = HealthCheck { service: ObjectName::new("shop", "old"), local_endpoints: 1 };
        let other = std::net::TcpListener::bind((HERE, 0)).expect("a free port");
        let number = other.local_addr().expect("its address").port();
        drop(other);
        let mut port = Port { stop: CancellationToken::new(), servers: Vec::new(), missing: vec![HERE] };
        port.open(number, &check, &vitals.subscribe(), true);
        assert_eq!((port.servers.len(), port.missing.len()), (1, 0));
        port.close().await;
        std::net::TcpListener::bind((HERE, number)).expect("it is free again");
    }
}
