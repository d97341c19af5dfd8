//! Opens and closes health check node ports as Services come and go.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Vitals, answer, http};

/// Follows the checks until told to stop.
pub async fn follow(addresses: Vec<IpAddr>, mut vitals: watch::Receiver<Vitals>, stop: CancellationToken) {
    let mut open: BTreeMap<u16, CancellationToken> = BTreeMap::new();
    loop {
        let wanted = vitals.borrow_and_update().checks.clone();
        open.retain(|port, server| {
            let keep = wanted.contains_key(port);
            if !keep {
                server.cancel();
            }
            keep
        });
        for (port, check) in wanted.iter().filter(|(port, _)| !open.contains_key(port)).collect::<Vec<_>>() {
            let server = stop.child_token();
            // One address that is taken must not silence the others, nor be tried without end.
            for ip in &addresses {
                let at = SocketAddr::new(*ip, *port);
                match http::bind(at) {
                    Ok(listener) => serve(listener, *port, vitals.clone(), server.clone()),
                    Err(why) => tracing::error!(
                        service = %check.service, %at, %why,
                        "cannot answer on the health check node port: load balancers will pass this node by"
                    ),
                }
            }
            open.insert(*port, server);
        }
        tokio::select! {
            () = stop.cancelled() => return,
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
) {
    tokio::spawn(http::serve(listener, stop, move |_| {
        let vitals = vitals.borrow();
        let check = vitals.checks.get(&port);
        let answer =
            check.map_or_else(answer::not_found, |check| answer::check(check, &vitals, Instant::now()));
        std::future::ready(answer)
    }));
}
