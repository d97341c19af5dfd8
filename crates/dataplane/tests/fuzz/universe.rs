//! A small world at random: few addresses and few Services, so that everything meets everything.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use daymark_model::{
    AddressFamily, Change, Endpoint, Hints, LoadBalancerIp, Node, ObjectName, Protocol, Service, ServicePort,
    ServiceType, Slice, SlicePort, TrafficDistribution,
};

use crate::common::ip;

/// A small generator of pseudo-random numbers (PCG); the same seed gives the same history.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d);
        random.below(2);
        random
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

pub const SERVICES: usize = 6;
pub const PODS: usize = 4;
const TARGET_PORTS: [u16; 3] = [8080, 8081, 5353];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
const ZONES: [&str; 2] = ["a", "b"];
pub const THIS_NODE: &str = "node1";

/// Every address that a history may name, in one family.
#[derive(Clone, Copy, Debug)]
pub struct Universe {
    pub family: AddressFamily,
    /// Decides what stays the same throughout a history, as hints.
    pub seed: u64,
}

impl Universe {
    fn address(&self, v4: String, v6: String) -> IpAddr {
        ip(if self.family == AddressFamily::Ipv4 { &v4 } else { &v6 })
    }

    pub fn node(&self, number: usize) -> IpAddr {
        self.address(format!("192.0.2.1{number}"), format!("2001:db8::1{number}"))
    }

    pub fn pod(&self, node: usize, number: usize) -> IpAddr {
        self.address(format!("10.244.{node}.{}", number + 2), format!("fd00:10:244:{node}::{}", number + 2))
    }

    pub fn cluster_ip(&self, service: usize) -> IpAddr {
        self.address(format!("10.96.0.{}", service + 10), format!("fd00:10:96::{}", service + 10))
    }

    pub fn load_balancer_ip(&self, number: usize) -> IpAddr {
        self.address(format!("192.0.2.{}", number + 200), format!("2001:db8::{}", number + 200))
    }

    pub fn external_ip(&self, number: usize) -> IpAddr {
        self.address(format!("203.0.113.{}", number + 1), format!("2001:db8:113::{}", number + 1))
    }

    pub fn lan_host(&self, number: usize) -> IpAddr {
        self.address(format!("192.0.2.{}", number + 1), format!("2001:db8::{}", number + 1))
    }

    /// A backend that is no pod: a database on the LAN.
    pub fn database(&self) -> IpAddr {
        self.address("192.0.2.77".into(), "2001:db8::77".into())
    }

    /// Where an endpoint's address belongs.
    pub fn node_of(&self, address: IpAddr) -> Option<usize> {
        [1, 2].into_iter().find(|node| (0..PODS).any(|pod| self.pod(*node, pod) == address))
    }

    pub fn backends(&self) -> Vec<SocketAddr> {
        let mut all: Vec<IpAddr> = (0..PODS).flat_map(|i| [self.pod(1, i), self.pod(2, i)]).collect();
        all.push(self.database());
        all.iter().flat_map(|ip| TARGET_PORTS.map(|port| SocketAddr::new(*ip, port))).collect()
    }

    /// Hints of an address in a Service never change: a slice copied half-way must not contradict itself.
    fn fate(&self, service: usize, address: IpAddr, salt: u64) -> usize {
        let mut random = Random::new(self.seed ^ salt);
        let bytes = match address {
            IpAddr::V4(ip) => u64::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip) as u64 ^ (u128::from(ip) >> 64) as u64,
        };
        random.0 ^= bytes.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ service as u64;
        random.below(2);
        random.below(60)
    }

    fn distribution(&self, service: usize) -> Option<TrafficDistribution> {
        match service {
            2 => Some(TrafficDistribution::PreferSameZone),
            3 => Some(TrafficDistribution::PreferSameNode),
            _ => None,
        }
    }
}

pub fn service_name(number: usize) -> ObjectName {
    ObjectName::new("default", format!("s{number}"))
}

/// The change that sets this node's zone.
pub fn this_node(universe: &Universe, random: &mut Random) -> Change {
    Change::Node(Node {
        name: THIS_NODE.into(),
        internal_ips: vec![universe.node(1)],
        pod_cidrs: Vec::new(),
        zone: if random.once_in(4) { None } else { Some(random.pick(&ZONES).into()) },
        ready: true,
        excluded_from_load_balancers: false,
        leaving: false,
    })
}

/// A Service of that number, its fields at random. No two Services want the same frontend; what then
/// happens is for the cases in `plan`.
pub fn service(universe: &Universe, random: &mut Random, number: usize) -> Service {
    let service_type = match random.below(8) {
        0 | 1 => ServiceType::ClusterIp,
        2 if random.once_in(3) => ServiceType::ExternalName("example.net".into()),
        2..=4 => ServiceType::NodePort,
        _ => ServiceType::LoadBalancer,
    };
    let headless = random.once_in(20);
    let named = |service_type: &ServiceType| matches!(service_type, ServiceType::ExternalName(_));
    let has_cluster_ip = !headless && !named(&service_type);
    let balanced = service_type == ServiceType::LoadBalancer && !random.once_in(6);
    let ranges = [
        vec![],
        vec![],
        vec![universe.lan_host(0)],
        vec![universe.lan_host(1), universe.pod(1, 0), universe.pod(2, 1), universe.node(2)],
    ];
    let ranges = &ranges[random.below(ranges.len())];
    let ports = random.below(3).max(1);
    Service {
        name: service_name(number),
        headless,
        cluster_ips: if has_cluster_ip { vec![universe.cluster_ip(number)] } else { vec![] },
        external_ips: if random.once_in(3) { vec![universe.external_ip(number)] } else { vec![] },
        // Two Services share an address, on different ports.
        load_balancer_ips: if balanced {
            vec![LoadBalancerIp { ip: universe.load_balancer_ip(number / 2), proxy: number / 2 == 2 }]
        } else {
            vec![]
        },
        source_ranges: if balanced { ranges.iter().map(|ip| (*ip).into()).collect() } else { vec![] },
        ports: (0..ports).map(|index| service_port(&service_type, random, number, index)).collect(),
        affinity_seconds: random.once_in(3).then(|| random.pick(&[1, 10_800])),
        internal_local: random.once_in(3),
        external_local: service_type != ServiceType::ClusterIp && random.once_in(3),
        health_check_node_port: None,
        publish_not_ready: random.once_in(8),
        traffic_distribution: universe.distribution(number),
        excluded: random.once_in(15),
        service_type,
    }
}

fn service_port(service_type: &ServiceType, random: &mut Random, number: usize, index: usize) -> ServicePort {
    let has_node_port = matches!(service_type, ServiceType::NodePort | ServiceType::LoadBalancer);
    ServicePort {
        name: port_name(index).into(),
        protocol: random.pick(&PROTOCOLS),
        port: frontend_port(number, index),
        node_port: (has_node_port && !random.once_in(8)).then(|| node_port(number, index)),
    }
}

fn port_name(index: usize) -> &'static str {
    ["", "web"][index]
}

pub fn frontend_port(number: usize, index: usize) -> u16 {
    (80 + 10 * number + index) as u16
}

pub fn node_port(number: usize, index: usize) -> u16 {
    (30_000 + 10 * number + index) as u16
}

/// New content for one of the Service's two slices, or its end.
pub fn slice(universe: &Universe, random: &mut Random, number: usize) -> Change {
    let name = ObjectName::new("default", format!("s{number}-{}", random.below(2)));
    if random.once_in(8) {
        return Change::SliceGone(name);
    }
    let mut ports = Vec::new();
    for index in 0..2 {
        let port = random.pick(&TARGET_PORTS);
        if !random.once_in(12) {
            ports.extend(PROTOCOLS.map(|protocol| SlicePort {
                name: port_name(index).into(),
                protocol,
                port,
            }));
        }
    }
    let count = [0, 1, 1, 2, 3, 4][random.below(6)];
    let endpoints = (0..count).map(|_| endpoint(universe, random, number)).collect();
    Change::Slice(Slice {
        name,
        service: format!("s{number}").into(),
        family: universe.family,
        ports,
        endpoints,
    })
}

fn endpoint(universe: &Universe, random: &mut Random, number: usize) -> Endpoint {
    let address = match random.below(12) {
        0 => universe.database(),
        n => universe.pod(1 + n % 2, random.below(PODS)),
    };
    let (ready, serving, terminating) = match random.below(8) {
        0 => (false, false, false),
        1 => (false, false, true),
        2 | 3 => (false, true, true),
        _ => (true, true, false),
    };
    let node = universe.node_of(address);
    let distribution = universe.distribution(number);
    let zone = universe.fate(number, address, 1);
    let name_of_node = node.map(|n| Arc::from(format!("node{n}")));
    let by_node = distribution == Some(TrafficDistribution::PreferSameNode);
    let hints = Hints {
        zones: match distribution {
            Some(_) if zone > 5 => vec![ZONES[zone % 2].into()],
            _ => vec![],
        },
        nodes: name_of_node.iter().filter(|_| by_node).cloned().collect(),
    };
    let hints = Some(Arc::new(hints));
    Endpoint { ready, serving, terminating, hints, node: name_of_node, ..Endpoint::ready(address) }
}
