//! Sockets of a process in the pods' cgroup, beside the reference.

use std::net::SocketAddr;
use std::time::Duration;

use daymark_dataplane::monotonic_now;
use daymark_model::Protocol;

use crate::machine::Machine;
use crate::reference::{Client, Dial, Expected, PortName};

/// What the unconnected UDP socket got for an address.
#[derive(Clone, Debug)]
pub struct Sent {
    pub port: PortName,
    pub backend: SocketAddr,
    pub interrupted: bool,
}

impl Machine {
    pub fn connect(&mut self, dial: Dial) -> Result<(), String> {
        let before = monotonic_now();
        let order = if dial.protocol == Protocol::Tcp { "tcp" } else { "udp-connected" };
        let answer = self.process.ask(&format!("{order} {}", dial.to));
        self.judge_socket(dial, before, &answer, dial.protocol == Protocol::Udp).map(drop)
    }

    /// Compares a socket's fate with the reference; the backend that it got.
    fn judge_socket(
        &mut self,
        dial: Dial,
        before: Duration,
        answer: &str,
        connected_udp: bool,
    ) -> Result<Option<(PortName, SocketAddr)>, String> {
        let expected = self.reference.first(Client::Socket, dial, monotonic_now());
        let wrong = || Err(format!("a socket dials {dial:?}: expected {expected:?}, but saw {answer}"));
        match &expected {
            Expected::Served { port, by } => {
                let Some(backend) = self.backend_in(answer, dial) else { return wrong() };
                if !by.contains(&backend) {
                    return wrong();
                }
                self.reference.chosen(Client::Socket, port, backend, before);
                Ok(Some((port.clone(), backend)))
            }
            Expected::Refused if answer == "ConnectionRefused" => Ok(None),
            // What was not translated meets a route that leads nowhere. So does what a connected UDP socket sends
            // where a pod's interface would refuse it.
            Expected::Refused if connected_udp && answer == "HostUnreachable" => Ok(None),
            Expected::Untouched if answer == "HostUnreachable" => Ok(None),
            _ => wrong(),
        }
    }

    pub fn send(&mut self, to: SocketAddr) -> Result<(), String> {
        let dial = Dial { to, protocol: Protocol::Udp };
        let before = monotonic_now();
        let answer = self.process.ask(&format!("udp {to}"));
        if let Some(Sent { port, backend, interrupted }) = self.sent.get(&to) {
            let stayed = self.backend_in(&answer, dial) == Some(*backend);
            let offered = self.reference.is_offered(Client::Socket, dial, port, *backend);
            match (stayed, offered && !interrupted, self.reference.is_serving(port, *backend)) {
                (true, _, true) => return Ok(()),
                (true, _, false) => return Err(format!("a socket's {dial:?} stays at {backend}: gone")),
                (false, true, _) => return Err(format!("a socket's {dial:?} left {backend}: {answer}")),
                (false, false, _) => {}
            }
        }
        self.sent.remove(&to);
        let chosen = self.judge_socket(dial, before, &answer, false)?;
        self.sent.extend(chosen.map(|(port, backend)| (to, Sent { port, backend, interrupted: false })));
        Ok(())
    }

    /// The backend in the client process's answer, if the answer seems to come from what was dialled, or
    /// from another address by which the socket talks to the same backend: replies cannot be told apart.
    fn backend_in(&self, answer: &str, dial: Dial) -> Option<SocketAddr> {
        let words: Vec<&str> = answer.split(' ').collect();
        let backend: SocketAddr = words.first().filter(|_| words.len() > 1)?.parse().ok()?;
        let right = |from: SocketAddr| {
            from == dial.to || self.sent.get(&from).is_some_and(|sent| sent.backend == backend)
        };
        let from = |pair: &[&str]| pair.get(1).and_then(|from| from.parse().ok());
        words[1..].chunks(2).all(|pair| from(pair).is_some_and(right)).then_some(backend)
    }
}
