//! A history: changes of objects, connections and what becomes of them, drawn from a seed.
//!
//! Steps name what they need, so that a history from which steps were taken out is a history again.

use std::net::SocketAddr;

use daymark_model::{Change, Protocol};

use crate::reference::{Client, Dial};
use crate::universe::{self, PODS, Random, SERVICES, Universe};

#[derive(Clone, Debug)]
pub enum Step {
    Change(Box<Change>),
    /// The first packet of a connection, from this port of the client.
    Open {
        flow: usize,
        client: Client,
        from_port: u16,
        dial: Dial,
    },
    /// The client's next packet.
    Again {
        flow: usize,
    },
    /// The backend's packet.
    Answer {
        flow: usize,
    },
    /// The backend's host says that it cannot deliver.
    Error {
        flow: usize,
    },
    /// Ends a TCP connection.
    Close {
        flow: usize,
    },
    /// The middle of a TCP connection that nobody remembers.
    Stray {
        client: Client,
        from_port: u16,
        dial: Dial,
    },
    /// A socket connects and is closed.
    Connect {
        dial: Dial,
    },
    /// The client's one unconnected UDP socket sends.
    Send {
        to: SocketAddr,
    },
    /// The agent ends, and another takes over.
    Restart,
    /// Garbage collection.
    Sweep,
    /// Longer than the shortest affinity.
    Wait,
}

pub fn draw(universe: &Universe, steps: usize) -> Vec<Step> {
    let mut random = Random::new(universe.seed);
    let mut history = vec![change(universe::this_node(universe, &mut random))];
    for number in 0..SERVICES {
        history.push(change(Change::Service(universe::service(universe, &mut random, number))));
        history.push(change(universe::slice(universe, &mut random, number)));
    }
    let mut flows: Vec<(Client, u16)> = Vec::new();
    while history.len() < steps {
        let step = draw_step(universe, &mut random, &mut flows);
        history.push(step);
    }
    history
}

fn change(change: Change) -> Step {
    Step::Change(Box::new(change))
}

fn draw_change(universe: &Universe, random: &mut Random) -> Step {
    let number = random.below(SERVICES);
    change(match random.below(20) {
        0 => universe::this_node(universe, random),
        1 => Change::ServiceGone(universe::service_name(number)),
        2..=6 => Change::Service(universe::service(universe, random, number)),
        _ => universe::slice(universe, random, number),
    })
}

fn draw_step(universe: &Universe, random: &mut Random, flows: &mut Vec<(Client, u16)>) -> Step {
    let flow = if flows.is_empty() {
        0
    } else {
        // Mostly what is recent, so that little is asked of flows that never were.
        flows.len() - 1 - random.below(flows.len()).min(random.below(flows.len()))
    };
    match random.below(100) {
        0..20 => draw_change(universe, random),
        20..45 => {
            let (client, dial, direct) = draw_dial(universe, random);
            let mut from_port = 40_000 + flows.len() as u16;
            let same = flows.iter().rev().find(|(other, port)| *other == client && *port != 0);
            if !direct
                && random.once_in(5)
                && let Some((_, port)) = same
            {
                from_port = *port;
            }
            // Nobody shares a port with a direct connection: replies could not be told apart.
            flows.push((client, if direct { 0 } else { from_port }));
            Step::Open { flow: flows.len() - 1, client, from_port, dial }
        }
        45..60 => Step::Again { flow },
        60..75 => Step::Answer { flow },
        75..78 => Step::Error { flow },
        78..81 => Step::Close { flow },
        81..84 => {
            let (client, dial, _) = draw_dial(universe, random);
            let dial = Dial { protocol: Protocol::Tcp, ..dial };
            Step::Stray { client, from_port: 39_000 + random.below(900) as u16, dial }
        }
        84..92 => Step::Connect { dial: draw_frontend(universe, random) },
        92..97 => Step::Send { to: draw_frontend(universe, random).to },
        97 => Step::Restart,
        98 => Step::Sweep,
        _ if random.once_in(6) => Step::Wait,
        _ => Step::Sweep,
    }
}

fn draw_client(random: &mut Random) -> Client {
    match random.below(8) {
        0..=3 => Client::Lan(random.below(3)),
        4 => Client::OtherNode,
        5 => Client::RemotePod(random.below(PODS)),
        _ => Client::LocalPod(random.below(PODS)),
    }
}

/// Also whether it is a connection that no Service has to do with.
fn draw_dial(universe: &Universe, random: &mut Random) -> (Client, Dial, bool) {
    let client = draw_client(random);
    if random.once_in(12) {
        let pod = universe.pod(1, random.below(PODS));
        let to = match client {
            Client::LocalPod(_) => random.pick(&[pod, universe.lan_host(8), universe.node(2)]),
            _ => pod,
        };
        let to = SocketAddr::new(to, 9);
        return (client, Dial { to, protocol: random.pick(&[Protocol::Tcp, Protocol::Udp]) }, true);
    }
    let dial = loop {
        let dial = draw_frontend(universe, random);
        // Clients in the cluster translate cluster IPs at their own sockets.
        let is_cluster_ip = (0..SERVICES).any(|n| universe.cluster_ip(n) == dial.to.ip());
        if !is_cluster_ip || matches!(client, Client::Lan(_) | Client::LocalPod(_)) {
            break dial;
        }
    };
    (client, dial, false)
}

/// A frontend that some Service may have at this moment, or may not.
fn draw_frontend(universe: &Universe, random: &mut Random) -> Dial {
    let number = random.below(SERVICES);
    let index = random.below(2);
    let port = if random.once_in(12) { 7 } else { universe::frontend_port(number, index) };
    let to = match random.below(6) {
        0 | 1 => SocketAddr::new(universe.cluster_ip(number), port),
        2 | 3 => SocketAddr::new(universe.node(1), universe::node_port(number, index)),
        4 => SocketAddr::new(universe.load_balancer_ip(number / 2), port),
        _ => SocketAddr::new(universe.external_ip(number), port),
    };
    Dial { to, protocol: random.pick(&[Protocol::Tcp, Protocol::Udp]) }
}
