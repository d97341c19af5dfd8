//! Announces LoadBalancer addresses on the LAN: answers ARP for them with the uplink's MAC, says so
//! unasked when it takes one over and from time to time, and reports duplicates.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub mod arp;
mod schedule;
mod socket;

pub use arp::{Conflict, Mac, announcements, answer_arp, conflict, probe};
use schedule::Schedule;
use socket::ArpSocket;

const PERIOD: Duration = Duration::from_secs(30);
const REPORT_AGAIN: Duration = Duration::from_secs(60);
const AFTER_ERROR: Duration = Duration::from_secs(1);
const MAX_FRAME: usize = 256;
const UNREAD_CONFLICTS: usize = 64;

/// Answers ARP on one interface until dropped.
pub struct Speaker {
    addresses: watch::Sender<BTreeSet<Ipv4Addr>>,
    task: JoinHandle<()>,
}

impl Speaker {
    /// Starts with no address, on the interface `ifindex` of the calling thread's network namespace, whose
    /// Ethernet address is `mac`. The receiver gets each duplicate address, at most once a minute.
    ///
    /// Fails without CAP_NET_RAW or such an interface. Must be called within a tokio runtime.
    pub fn start(ifindex: u32, mac: Mac) -> io::Result<(Self, mpsc::Receiver<Conflict>)> {
        let socket = ArpSocket::open(ifindex)?;
        let (addresses, changes) = watch::channel(BTreeSet::new());
        let (reports, conflicts) = mpsc::channel(UNREAD_CONFLICTS);
        let responder = Responder {
            socket,
            mac,
            owned: BTreeSet::new(),
            schedule: Schedule::new(PERIOD),
            reported: BTreeMap::new(),
            reports,
        };
        let task = tokio::spawn(responder.run(changes));
        Ok((Self { addresses, task }, conflicts))
    }

    /// From now on these are the addresses that this node answers for.
    pub fn set_addresses(&self, addresses: BTreeSet<Ipv4Addr>) {
        self.addresses.send_if_modified(|current| {
            let changed = *current != addresses;
            *current = addresses;
            changed
        });
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Responder {
    socket: ArpSocket,
    mac: Mac,
    owned: BTreeSet<Ipv4Addr>,
    schedule: Schedule,
    reported: BTreeMap<Conflict, Instant>,
    reports: mpsc::Sender<Conflict>,
}

impl Responder {
    async fn run(mut self, mut changes: watch::Receiver<BTreeSet<Ipv4Addr>>) {
        let mut buffer = [0; MAX_FRAME];
        loop {
            let next = self.schedule.next();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.owned = changes.borrow_and_update().clone();
                    self.schedule.set(&self.owned, Instant::now());
                }
                () = due => self.announce(),
                received = self.socket.receive(&mut buffer) => match received {
                    Ok(length) => self.hear(&buffer[..length]),
                    Err(error) => {
                        tracing::warn!(%error, "cannot receive ARP");
                        tokio::time::sleep(AFTER_ERROR).await;
                    }
                },
            }
        }
    }

    fn announce(&mut self) {
        for announcement in self.schedule.due(Instant::now()) {
            for frame in announcements(announcement.ip, self.mac) {
                self.send(&frame);
            }
            if announcement.probe {
                self.send(&probe(announcement.ip, self.mac));
            }
        }
    }

    fn hear(&mut self, frame: &[u8]) {
        if let Some(answer) = answer_arp(frame, &self.owned, self.mac) {
            self.send(&answer);
        }
        if let Some(conflict) = conflict(frame, &self.owned, self.mac) {
            let now = Instant::now();
            self.schedule.defend(conflict.ip, now);
            self.reported.retain(|_, at| now.saturating_duration_since(*at) < REPORT_AGAIN);
            if self.reported.len() < UNREAD_CONFLICTS && !self.reported.contains_key(&conflict) {
                self.reported.insert(conflict, now);
                tracing::warn!(ip = %conflict.ip, mac = %mac_text(&conflict.mac), "address is also claimed by another host");
                // A reader that lags loses reports, never the speaker its pace.
                self.reports.try_send(conflict).ok();
            }
        }
    }

    fn send(&self, frame: &[u8]) {
        if let Err(error) = self.socket.send(frame) {
            tracing::debug!(%error, "cannot send ARP");
        }
    }
}

/// An Ethernet address as people read it.
pub fn mac_text(mac: &Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
