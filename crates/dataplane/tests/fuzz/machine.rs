//! The real planner, maps and programs, step by step beside the reference.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use daymark_dataplane::PacketProgram::{Pod, Uplink};
use daymark_dataplane::{DataPlane, PacketProgram, monotonic_now};
use daymark_model::{Change, Protocol};
use daymark_plan::{NodeView, Planner};

use crate::common::Pins;
use crate::common::bench::{DROPPED, SENT, TO_STACK};
use crate::common::frames::{describe, tcp_between, udp_between, unreachable};
use crate::common::net::{self, Cgroup, Space};
use crate::history::Step;
use crate::reference::{Client, Dial, Expected, PortName, Reference};
use crate::servers::Servers;
use crate::sockets::Sent;
use crate::universe::{THIS_NODE, Universe};

const SNAT: std::ops::RangeInclusive<u16> = 10_000..=29_999;

/// A connection that was translated.
#[derive(Clone, Debug)]
struct Live {
    client: Client,
    from: SocketAddr,
    dial: Dial,
    /// `None`: masqueraded only.
    port: Option<PortName>,
    backend: SocketAddr,
    /// What the backend takes for its client.
    seen_as: SocketAddr,
    established: bool,
    /// Its backend did not serve for a while: it may have been forgotten.
    interrupted: bool,
}

/// What a program did to a packet.
#[derive(Debug, PartialEq)]
enum Seen {
    Dropped,
    Refused(String),
    Untouched,
    Sent { from: SocketAddr, to: SocketAddr },
    Other(String),
}

pub struct Machine {
    universe: Universe,
    pub reference: Reference,
    planner: Planner,
    plane: Option<DataPlane>,
    flows: BTreeMap<usize, Live>,
    /// Backends of the one unconnected UDP socket, by what it dials.
    pub sent: BTreeMap<SocketAddr, Sent>,
    pub process: net::Client,
    cgroup: Cgroup,
    _servers: Servers,
    pins: Pins,
}

fn view(universe: &Universe) -> NodeView {
    NodeView::new(THIS_NODE, vec![universe.node(1)])
}

impl Machine {
    /// Inside the namespace.
    pub fn new(universe: Universe, space: &Space) -> Self {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let servers = Servers::start(space, &universe);
        let plane = pins.open();
        plane.attach_cgroup(&cgroup.path).expect("cgroup");
        let process = net::Client::start(space, &cgroup.path);
        let mut planner = Planner::new(view(&universe), Default::default());
        planner.synced();
        Self {
            reference: Reference::new(universe),
            planner,
            plane: Some(plane),
            flows: BTreeMap::new(),
            sent: BTreeMap::new(),
            process,
            cgroup,
            _servers: servers,
            pins,
            universe,
        }
    }

    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Change(change) => self.change(change),
            Step::Open { flow, client, from_port, dial } => self.open(*flow, *client, *from_port, *dial),
            Step::Again { flow } => self.again(*flow),
            Step::Answer { flow } => self.answer(*flow),
            Step::Error { flow } => self.error(*flow),
            Step::Close { flow } => self.close(*flow),
            Step::Stray { client, from_port, dial } => self.stray(*client, *from_port, *dial),
            Step::Connect { dial } => self.connect(*dial),
            Step::Send { to } => self.send(*to),
            Step::Restart => self.restart(),
            Step::Sweep => {
                self.plane().gc(monotonic_now()).map_err(|error| error.to_string())?;
                Ok(())
            }
            Step::Wait => {
                std::thread::sleep(Duration::from_millis(1050));
                Ok(())
            }
        }
    }

    fn plane(&mut self) -> &mut DataPlane {
        self.plane.as_mut().expect("the agent runs")
    }

    fn change(&mut self, change: &Change) -> Result<(), String> {
        self.reference.apply(change);
        for live in self.flows.values_mut() {
            let serves = |port| self.reference.is_serving(port, live.backend);
            live.interrupted |= !live.port.as_ref().is_none_or(serves);
        }
        for sent in self.sent.values_mut() {
            sent.interrupted |= !self.reference.is_serving(&sent.port, sent.backend);
        }
        let ops = self.planner.apply(change.clone());
        self.plane().apply(&ops).map_err(|error| error.to_string())
    }

    /// Another agent finds the pinned state, learns the whole world anew, and must change nothing.
    fn restart(&mut self) -> Result<(), String> {
        self.plane = None;
        let (plane, tables) = DataPlane::open(self.pins.config()).map_err(|error| error.to_string())?;
        plane.attach_cgroup(&self.cgroup.path).map_err(|error| error.to_string())?;
        let world = self.planner.world().clone();
        let mut planner = Planner::new(view(&self.universe), tables);
        let services = world.services().cloned().map(Change::Service);
        let slices = (0..crate::universe::SERVICES).map(crate::universe::service_name);
        let slices = slices.flat_map(|name| world.slices(&name).map(Change::Slice).collect::<Vec<_>>());
        let nodes = world.nodes().cloned().map(Change::Node);
        let mut ops = Vec::new();
        for change in services.chain(nodes).chain(slices) {
            ops.extend(planner.apply(change));
        }
        ops.extend(planner.synced());
        self.planner = planner;
        self.plane.insert(plane).apply(&ops).map_err(|error| error.to_string())
    }

    fn run(&mut self, program: PacketProgram, frame: &[u8]) -> Seen {
        let verdict = self.plane().run(program, frame, 0).expect("the program runs");
        if verdict.action == DROPPED {
            return Seen::Dropped;
        }
        if verdict.action == TO_STACK && verdict.frame == frame {
            return Seen::Untouched;
        }
        let text = describe(&verdict.frame);
        let words: Vec<&str> = text.split(' ').collect();
        match (verdict.action, words.as_slice()) {
            (SENT, _) => Seen::Refused(text),
            (_, ["tcp" | "udp", from, ">", to, ..]) => Seen::Sent {
                from: from.parse().expect("address:port"),
                to: to.parse().expect("address:port"),
            },
            _ => Seen::Other(text),
        }
    }

    fn first_packet(client: Client, from: SocketAddr, dial: Dial, flags: &str) -> (PacketProgram, Vec<u8>) {
        let program = if matches!(client, Client::LocalPod(_)) { Pod } else { Uplink };
        let frame = match dial.protocol {
            Protocol::Tcp => tcp_between(from, dial.to, flags, if flags == "A" { b"data" } else { b"" }),
            _ => udp_between(from, dial.to, b"question"),
        };
        (program, frame)
    }

    fn open(&mut self, flow: usize, client: Client, from_port: u16, dial: Dial) -> Result<(), String> {
        let from = SocketAddr::new(client.ip(&self.universe), from_port);
        let same = |live: &Live| (live.from, live.dial) == (from, dial);
        if let Some(known) = self.flows.iter().find(|(_, live)| same(live)).map(|(flow, _)| *flow) {
            return self.again(known);
        }
        let before = monotonic_now();
        let (program, frame) = Self::first_packet(client, from, dial, "S");
        let seen = self.run(program, &frame);
        let live = self.judge_first(client, from, dial, before, seen)?;
        self.flows.extend(live.map(|live| (flow, live)));
        Ok(())
    }

    /// Compares what became of a packet of no flow with what the reference says; the flow that it opened.
    fn judge_first(
        &mut self,
        client: Client,
        from: SocketAddr,
        dial: Dial,
        before: Duration,
        seen: Seen,
    ) -> Result<Option<Live>, String> {
        let expected = self.reference.first(client, dial, monotonic_now());
        let wrong = |seen: &Seen| {
            Err(format!("{client:?} {from} dials {dial:?}: expected {expected:?}, but saw {seen:?}"))
        };
        match (&expected, seen) {
            (Expected::Dropped, Seen::Dropped) | (Expected::Untouched, Seen::Untouched) => Ok(None),
            (Expected::Refused, Seen::Refused(text)) => {
                let right = match dial.protocol {
                    Protocol::Tcp => text == format!("tcp {} > {from} RA", dial.to),
                    _ => {
                        let (node, host) = (dial.to.ip(), from.ip());
                        text == format!("error {node} > {host} about {from} > {}", dial.to)
                    }
                };
                if right { Ok(None) } else { wrong(&Seen::Refused(text)) }
            }
            (Expected::Masqueraded, Seen::Sent { from: as_node, to })
                if to == dial.to && self.is_node_port(as_node) =>
            {
                let live = self.live(client, from, dial, None, to, as_node);
                Ok(Some(live))
            }
            (Expected::Served { port, by }, Seen::Sent { from: seen_as, to }) if by.contains(&to) => {
                let here = self.universe.node_of(to.ip()) == Some(1);
                // Answers come through this node whatever they are for if the backend is here, or the client
                // is a pod of it and the backend a pod anywhere; and nobody answers himself.
                let known = self.universe.node_of(to.ip()).is_some();
                let keeps =
                    (here || (known && matches!(client, Client::LocalPod(_)))) && to.ip() != from.ip();
                let right = if keeps {
                    seen_as == from || (seen_as.ip() == from.ip() && SNAT.contains(&seen_as.port()))
                } else {
                    self.is_node_port(seen_as)
                };
                if !right {
                    return wrong(&Seen::Sent { from: seen_as, to });
                }
                self.reference.chosen(client, port, to, before);
                Ok(Some(self.live(client, from, dial, Some(port.clone()), to, seen_as)))
            }
            (_, seen) => wrong(&seen),
        }
    }

    fn is_node_port(&self, address: SocketAddr) -> bool {
        address.ip() == self.universe.node(1) && SNAT.contains(&address.port())
    }

    fn live(
        &self,
        client: Client,
        from: SocketAddr,
        dial: Dial,
        port: Option<PortName>,
        backend: SocketAddr,
        seen_as: SocketAddr,
    ) -> Live {
        Live { client, from, dial, port, backend, seen_as, established: false, interrupted: false }
    }

    fn again(&mut self, flow: usize) -> Result<(), String> {
        let Some(live) = self.flows.get(&flow).cloned() else { return Ok(()) };
        let before = monotonic_now();
        let flags = if live.established { "A" } else { "S" };
        let (program, frame) = Self::first_packet(live.client, live.from, live.dial, flags);
        let seen = self.run(program, &frame);
        let stayed = seen == Seen::Sent { from: live.seen_as, to: live.backend };
        let (must_stay, may_stay) = match &live.port {
            // Until a Service takes over what was outside, unless a connection runs already.
            None if live.dial.protocol == Protocol::Tcp && live.established => (true, true),
            None => {
                let first = self.reference.first(live.client, live.dial, monotonic_now());
                (first == Expected::Masqueraded, first == Expected::Masqueraded)
            }
            Some(_) if live.dial.protocol == Protocol::Tcp && live.established => (true, true),
            Some(port) => {
                let offered = self.reference.is_offered(live.client, live.dial, port, live.backend);
                // A client that still waits may be given up to a backend that is gone, or not.
                let waits = live.dial.protocol == Protocol::Tcp;
                (offered && !live.interrupted, waits || self.reference.is_serving(port, live.backend))
            }
        };
        match (stayed, must_stay, may_stay) {
            (true, _, true) => Ok(()),
            (true, _, false) => Err(format!("{live:?} stays at a backend that does not serve")),
            (false, true, _) => Err(format!("{live:?} was moved: {seen:?}")),
            (false, false, _) => {
                self.flows.remove(&flow);
                let moved = self.judge_first(live.client, live.from, live.dial, before, seen)?;
                self.flows.extend(moved.map(|live| (flow, live)));
                Ok(())
            }
        }
    }

    fn program_of(&self, backend: IpAddr) -> PacketProgram {
        if self.universe.node_of(backend) == Some(1) { Pod } else { Uplink }
    }

    /// Nothing is promised to replies of a datagram's backend that is gone.
    fn answers_count(&self, live: &Live) -> bool {
        let serves = |port| self.reference.is_serving(port, live.backend);
        live.dial.protocol == Protocol::Tcp || live.port.as_ref().is_none_or(serves)
    }

    fn answer(&mut self, flow: usize) -> Result<(), String> {
        let Some(live) = self.flows.get(&flow).cloned() else { return Ok(()) };
        let frame = match live.dial.protocol {
            Protocol::Tcp => tcp_between(live.backend, live.seen_as, "SA", b""),
            _ => udp_between(live.backend, live.seen_as, b"answer"),
        };
        let seen = self.run(self.program_of(live.backend.ip()), &frame);
        if let Some(live) = self.flows.get_mut(&flow) {
            live.established = true;
        }
        let expected = Seen::Sent { from: live.dial.to, to: live.from };
        if seen == expected || !self.answers_count(&live) {
            return Ok(());
        }
        Err(format!("the answer to {live:?} became {seen:?}"))
    }

    fn error(&mut self, flow: usize) -> Result<(), String> {
        let Some(live) = self.flows.get(&flow).cloned() else { return Ok(()) };
        let about = match live.dial.protocol {
            Protocol::Tcp => tcp_between(live.seen_as, live.backend, "S", b""),
            _ => udp_between(live.seen_as, live.backend, b"question"),
        };
        let host = live.backend.ip().to_string();
        let frame = unreachable(&host, &live.seen_as.ip().to_string(), &about);
        let seen = self.run(self.program_of(live.backend.ip()), &frame);
        let (frontend, client) = (live.dial.to, live.from);
        let text = format!("error {} > {} about {client} > {frontend}", frontend.ip(), client.ip());
        let untouched = live.seen_as == live.from && live.backend == live.dial.to;
        if seen == Seen::Other(text) || !self.answers_count(&live) || untouched {
            return Ok(());
        }
        Err(format!("the error about {live:?} became {seen:?}"))
    }

    fn close(&mut self, flow: usize) -> Result<(), String> {
        let Some(live) = self.flows.get(&flow).filter(|live| live.dial.protocol == Protocol::Tcp).cloned()
        else {
            return Ok(());
        };
        self.flows.remove(&flow);
        let (program, frame) = Self::first_packet(live.client, live.from, live.dial, "R");
        let seen = self.run(program, &frame);
        if seen == (Seen::Sent { from: live.seen_as, to: live.backend }) {
            return Ok(());
        }
        Err(format!("the reset of {live:?} became {seen:?}"))
    }

    fn stray(&mut self, client: Client, from_port: u16, dial: Dial) -> Result<(), String> {
        let from = SocketAddr::new(client.ip(&self.universe), from_port);
        let (program, frame) = Self::first_packet(client, from, dial, "A");
        let seen = self.run(program, &frame);
        let right = match self.reference.first(client, dial, monotonic_now()) {
            Expected::Served { .. } | Expected::Refused => matches!(seen, Seen::Refused(_)),
            Expected::Dropped => seen == Seen::Dropped,
            Expected::Untouched => seen == Seen::Untouched,
            Expected::Masqueraded => matches!(seen, Seen::Sent { .. }),
        };
        if right { Ok(()) } else { Err(format!("a stray segment of {client:?} for {dial:?}: {seen:?}")) }
    }
}
