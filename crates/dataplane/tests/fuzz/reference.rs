//! What a Service does, by the book: written from the definition of its behaviour, not from the code that
//! it judges. Slow and plain on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use daymark_model::{Change, Endpoint, ObjectName, Protocol, Service, ServiceType, Slice};

use crate::universe::{SERVICES, THIS_NODE, Universe};

/// Where a connection comes from, as seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A host on the LAN that is no node.
    Lan(usize),
    /// A process of another node.
    OtherNode,
    /// A pod of another node.
    RemotePod(usize),
    /// A pod of this node whose packets are all that is seen of it.
    LocalPod(usize),
    /// A process below the cgroup of this node's pods, at its sockets.
    Socket,
}

impl Client {
    pub fn is_inside(self) -> bool {
        !matches!(self, Client::Lan(_))
    }

    /// A pod's socket of UDP may have connected to a cluster IP while nothing answered there: what it sends is a
    /// packet.
    fn may_send_datagrams_to(self, dial: Dial) -> bool {
        matches!(self, Client::LocalPod(_)) && dial.protocol == Protocol::Udp
    }

    pub fn ip(self, universe: &Universe) -> IpAddr {
        match self {
            Client::Lan(number) => universe.lan_host(number),
            Client::OtherNode => universe.node(2),
            Client::RemotePod(number) => universe.pod(2, number),
            Client::LocalPod(number) => universe.pod(1, number),
            // Sockets are told apart by their network namespace; it stands for no address of the universe.
            Client::Socket => universe.lan_host(60),
        }
    }
}

/// What a client dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dial {
    pub to: SocketAddr,
    pub protocol: Protocol,
}

/// One port of one Service.
pub type PortName = (ObjectName, u16, Protocol);

/// What must happen to the first packet, or connect, of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// By one of these.
    Served {
        port: PortName,
        by: BTreeSet<SocketAddr>,
    },
    /// By a reset, an ICMP error, or the socket.
    Refused,
    Dropped,
    /// No business of Services: on its way as it came.
    Untouched,
    /// A pod's connection to the outside of the cluster, in the node's name.
    Masqueraded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ClusterIp,
    NodePort,
    LoadBalancerIp,
    ExternalIp,
}

/// A choice that `sessionAffinity: ClientIP` keeps.
#[derive(Clone, Copy, Debug)]
struct Kept {
    backend: SocketAddr,
    /// When its last new connection was certainly made, at the latest.
    until: Duration,
}

pub struct Reference {
    pub universe: Universe,
    services: BTreeMap<ObjectName, Service>,
    slices: BTreeMap<ObjectName, Slice>,
    zone: Option<String>,
    affinity: BTreeMap<(PortName, IpAddr), Kept>,
}

impl Reference {
    pub fn new(universe: Universe) -> Self {
        Self {
            universe,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            zone: None,
            affinity: BTreeMap::new(),
        }
    }

    pub fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::Service(service) => drop(self.services.insert(service.name.clone(), service)),
            Change::ServiceGone(name) => drop(self.services.remove(&name)),
            Change::Slice(slice) => drop(self.slices.insert(slice.name.clone(), slice)),
            Change::SliceGone(name) => drop(self.slices.remove(&name)),
            Change::Node(node) => self.zone = node.zone.map(|zone| zone.to_string()),
            Change::NodeGone(_) | Change::HostPorts(_) | Change::HostPortsGone(_) => {}
        }
        let services = &self.services;
        // Affinity lives as long as its Service asks for it.
        self.affinity.retain(|(port, _), _| {
            services.get(&port.0).is_some_and(|service| {
                is_proxied(service)
                    && service.affinity_seconds.is_some()
                    && service.ports.iter().any(|p| (p.port, p.protocol) == (port.1, port.2))
            })
        });
    }

    /// What a connection that nobody remembers meets. `now` decides whether affinity holds.
    pub fn first(&self, client: Client, dial: Dial, now: Duration) -> Expected {
        let Some((service, kind, port)) = self.frontend(dial) else {
            return self.unserved(client, dial);
        };
        if kind == Kind::ClusterIp && client != Client::Socket && !client.may_send_datagrams_to(dial) {
            // Cluster IPs are for the sockets of pods; a packet for one comes from outside or evades policy.
            return Expected::Dropped;
        }
        let in_ranges = |ip: IpAddr| service.source_ranges.iter().any(|range| range.contains(&ip));
        if kind == Kind::LoadBalancerIp && !service.source_ranges.is_empty() {
            if client == Client::Socket {
                // Judged as a packet, since a socket's address is not known yet.
                return Expected::Untouched;
            }
            if !in_ranges(client.ip(&self.universe)) {
                return Expected::Dropped;
            }
        }
        let local = match kind {
            Kind::ClusterIp => service.internal_local,
            _ => service.external_local && !client.is_inside(),
        };
        let port = (service.name.clone(), port, dial.protocol);
        let anywhere = self.cluster_choice(service, &port);
        let here = self.local_choice(service, &port);
        let by = if local { &here } else { &anywhere };
        if by.is_empty() {
            // A socket lets the packet go, and the pod's interface drops it.
            let dropped = if client == Client::Socket { Expected::Untouched } else { Expected::Dropped };
            return if local && !anywhere.is_empty() { dropped } else { Expected::Refused };
        }
        if let Some(kept) = self.affinity.get(&(port.clone(), client.ip(&self.universe)))
            && by.contains(&kept.backend)
            && now < kept.until
        {
            return Expected::Served { port, by: BTreeSet::from([kept.backend]) };
        }
        Expected::Served { port, by: by.clone() }
    }

    /// A new connection went to `backend`; `before` is a time before it was made.
    pub fn chosen(&mut self, client: Client, port: &PortName, backend: SocketAddr, before: Duration) {
        let Some(seconds) = self.services.get(&port.0).and_then(|service| service.affinity_seconds) else {
            return;
        };
        let until = before + Duration::from_secs(seconds.into());
        self.affinity.insert((port.clone(), client.ip(&self.universe)), Kept { backend, until });
    }

    /// Whether an endpoint of the Service port still serves: then connections that it has stay.
    pub fn is_serving(&self, port: &PortName, backend: SocketAddr) -> bool {
        let Some(service) = self.services.get(&port.0).filter(|service| is_proxied(service)) else {
            return false;
        };
        self.endpoints(service, port)
            .get(&backend)
            .is_some_and(|all| all.iter().any(|e| e.ready || e.serving || service.publish_not_ready))
    }

    /// Whether a new connection of this client to the same frontend might be given this backend.
    pub fn is_offered(&self, client: Client, dial: Dial, port: &PortName, backend: SocketAddr) -> bool {
        let Some((service, kind, number)) = self.frontend(dial) else { return false };
        let local = match kind {
            Kind::ClusterIp => service.internal_local,
            _ => service.external_local && !client.is_inside(),
        };
        let choice =
            if local { self.local_choice(service, port) } else { self.cluster_choice(service, port) };
        (service.name.clone(), number, dial.protocol) == *port && choice.contains(&backend)
    }

    fn frontend(&self, dial: Dial) -> Option<(&Service, Kind, u16)> {
        self.services.values().filter(|service| is_proxied(service)).find_map(|service| {
            let ports = service.ports.iter().filter(|port| port.protocol == dial.protocol);
            ports.clone().find_map(|port| {
                let (ip, number) = (dial.to.ip(), dial.to.port());
                let has_node_ports =
                    matches!(service.service_type, ServiceType::NodePort | ServiceType::LoadBalancer);
                let balanced = service.load_balancer_ips.iter().any(|lb| lb.ip == ip && !lb.proxy);
                let kind = if number == port.port && service.cluster_ips.contains(&ip) {
                    Kind::ClusterIp
                } else if has_node_ports && port.node_port == Some(number) && ip == self.universe.node(1) {
                    Kind::NodePort
                } else if number == port.port && balanced {
                    Kind::LoadBalancerIp
                } else if number == port.port && service.external_ips.contains(&ip) {
                    Kind::ExternalIp
                } else {
                    return None;
                };
                Some((service, kind, port.port))
            })
        })
    }

    /// Nobody serves this port of this address.
    fn unserved(&self, client: Client, dial: Dial) -> Expected {
        let ip = dial.to.ip();
        let universe = &self.universe;
        let proxied = || self.services.values().filter(|service| is_proxied(service));
        if (0..SERVICES).any(|n| universe.cluster_ip(n) == ip) {
            let used = proxied().any(|service| service.cluster_ips.contains(&ip));
            return match client {
                Client::Socket if used => Expected::Refused,
                Client::Socket => Expected::Untouched,
                _ if used && client.may_send_datagrams_to(dial) => Expected::Refused,
                _ => Expected::Dropped,
            };
        }
        if client == Client::Socket || universe.node(1) == ip {
            return Expected::Untouched;
        }
        let shared = proxied().filter(|service| !service.ports.is_empty()).any(|service| {
            service.external_ips.contains(&ip)
                || service.load_balancer_ips.iter().any(|lb| lb.ip == ip && !lb.proxy)
        });
        // What a pod asks of such an address may be a machine's.
        if shared && !matches!(client, Client::LocalPod(_)) {
            return Expected::Refused;
        }
        if universe.node_of(ip).is_some() {
            return if client.is_inside() { Expected::Untouched } else { Expected::Dropped };
        }
        match client {
            Client::LocalPod(_) if ip != universe.node(2) => Expected::Masqueraded,
            _ => Expected::Untouched,
        }
    }

    /// Endpoints of the Service port by address; one that several slices name has several entries.
    fn endpoints(&self, service: &Service, port: &PortName) -> BTreeMap<SocketAddr, Vec<&Endpoint>> {
        let mut found: BTreeMap<SocketAddr, Vec<&Endpoint>> = BTreeMap::new();
        let Some(spec) = service.ports.iter().find(|p| (p.port, p.protocol) == (port.1, port.2)) else {
            return found;
        };
        let slices = self
            .slices
            .values()
            .filter(|slice| slice.service == service.name.name && slice.family == self.universe.family);
        for slice in slices {
            for target in slice.ports.iter().filter(|t| t.name == spec.name && t.protocol == spec.protocol) {
                for endpoint in &slice.endpoints {
                    let at = SocketAddr::new(endpoint.address, target.port);
                    found.entry(at).or_default().push(endpoint);
                }
            }
        }
        found
    }

    fn ready(&self, service: &Service, port: &PortName) -> BTreeMap<SocketAddr, &Endpoint> {
        self.endpoints(service, port)
            .into_iter()
            .filter_map(|(at, all)| {
                all.into_iter().find(|e| e.ready || service.publish_not_ready).map(|e| (at, e))
            })
            .collect()
    }

    /// Those that serve although they terminate.
    fn terminating(&self, service: &Service, port: &PortName) -> BTreeMap<SocketAddr, &Endpoint> {
        self.endpoints(service, port)
            .into_iter()
            .filter_map(|(at, all)| all.into_iter().find(|e| e.serving && e.terminating).map(|e| (at, e)))
            .collect()
    }

    fn cluster_choice(&self, service: &Service, port: &PortName) -> BTreeSet<SocketAddr> {
        let ready = self.ready(service, port);
        if ready.is_empty() {
            return self.terminating(service, port).into_keys().collect();
        }
        let near = |hints: &dyn Fn(&Endpoint) -> Vec<String>, here: Option<&str>| {
            let all_have = ready.values().all(|e| !hints(e).is_empty());
            let matching: BTreeSet<SocketAddr> = ready
                .iter()
                .filter(|(_, e)| here.is_some_and(|here| hints(e).iter().any(|hint| hint == here)))
                .map(|(at, _)| *at)
                .collect();
            (all_have && !matching.is_empty()).then_some(matching)
        };
        let words =
            |hints: &[std::sync::Arc<str>]| -> Vec<String> { hints.iter().map(|h| h.to_string()).collect() };
        let nodes = |e: &Endpoint| e.hints.as_ref().map(|hints| words(&hints.nodes)).unwrap_or_default();
        let zones = |e: &Endpoint| e.hints.as_ref().map(|hints| words(&hints.zones)).unwrap_or_default();
        near(&nodes, Some(THIS_NODE))
            .or_else(|| near(&zones, self.zone.as_deref()))
            .unwrap_or_else(|| ready.into_keys().collect())
    }

    fn local_choice(&self, service: &Service, port: &PortName) -> BTreeSet<SocketAddr> {
        let here = |all: BTreeMap<SocketAddr, &Endpoint>| -> BTreeSet<SocketAddr> {
            all.into_iter().filter(|(_, e)| e.node.as_deref() == Some(THIS_NODE)).map(|(at, _)| at).collect()
        };
        let ready = here(self.ready(service, port));
        if ready.is_empty() { here(self.terminating(service, port)) } else { ready }
    }
}

/// The data plane's business: neither headless nor a name alone nor left to another proxy.
fn is_proxied(service: &Service) -> bool {
    !service.headless && !service.excluded && !service.cluster_ips.is_empty()
}
