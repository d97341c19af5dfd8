//! The Services of the matrix, one for each policy, and where they live in either family.

use daymark_model::{
    AddressFamily, Change, Endpoint, LoadBalancerIp, ObjectName, Protocol, Service, ServicePort, ServiceType,
    Slice, SlicePort,
};
use daymark_plan::tables::Tables;
use daymark_plan::{NodeView, Planner};

use crate::common::ip;
use crate::common::net::Lan;

/// A Service: its policies, and the nodes whose first pods are its backends.
pub struct Policy {
    pub name: &'static str,
    pub internal_local: bool,
    pub external_local: bool,
    pub backends: &'static [usize],
}

pub const SERVICES: [Policy; 5] = [
    Policy { name: "cluster", internal_local: false, external_local: false, backends: &[1, 2] },
    Policy { name: "remote", internal_local: false, external_local: false, backends: &[2] },
    Policy { name: "external-local", internal_local: false, external_local: true, backends: &[1] },
    Policy { name: "internal-local", internal_local: true, external_local: false, backends: &[1] },
    Policy { name: "empty", internal_local: true, external_local: true, backends: &[] },
];

pub fn node_port(service: usize) -> u16 {
    30_100 + service as u16
}

/// The addresses of one family.
pub struct Ends {
    family: AddressFamily,
    lan: &'static str,
    pods: &'static str,
    services: &'static str,
    external: &'static str,
    pub loopback: &'static str,
    /// Between the groups of an address.
    colon: &'static str,
}

pub const V4: Ends = Ends {
    family: AddressFamily::Ipv4,
    lan: "192.0.2.",
    pods: "10.244.",
    services: "10.96.0.1",
    external: "203.0.113.",
    loopback: "127.0.0.1",
    colon: ".",
};

pub const V6: Ends = Ends {
    family: AddressFamily::Ipv6,
    lan: "2001:db8::",
    pods: "fd00:10:244:",
    services: "fd00:10:96::1",
    external: "2001:db8:113::",
    loopback: "::1",
    colon: "::",
};

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.family)
    }
}

impl Ends {
    pub fn host(&self) -> String {
        format!("{}1", self.lan)
    }

    pub fn node(&self, number: usize) -> String {
        format!("{}1{number}", self.lan)
    }

    pub fn pod(&self, node: usize, number: usize) -> String {
        format!("{}{node}{}{number}", self.pods, self.colon)
    }

    pub fn cluster_ip(&self, service: usize) -> String {
        format!("{}{service}", self.services)
    }

    pub fn load_balancer_ip(&self, service: usize) -> String {
        format!("{}20{service}", self.lan)
    }

    pub fn external_ip(&self, service: usize) -> String {
        format!("{}2{service}", self.external)
    }

    pub fn with_port(&self, address: &str, port: u16) -> String {
        std::net::SocketAddr::new(ip(address), port).to_string()
    }

    fn slice(&self, service: &Policy) -> Slice {
        let endpoint = |node: &usize| Endpoint {
            node: Some(format!("node{node}").into()),
            ..Endpoint::ready(ip(&self.pod(*node, 2)))
        };
        let port = |(name, protocol): (&str, Protocol)| SlicePort { name: name.into(), protocol, port: 8080 };
        Slice {
            name: ObjectName::new("default", format!("{}-{:?}", service.name, self.family)),
            service: service.name.into(),
            family: self.family,
            ports: PORTS.map(port).to_vec(),
            endpoints: service.backends.iter().map(endpoint).collect(),
        }
    }
}

const PORTS: [(&str, Protocol); 2] = [("stream", Protocol::Tcp), ("datagram", Protocol::Udp)];

pub fn service(number: usize) -> Service {
    let Policy { name, internal_local, external_local, .. } = SERVICES[number];
    let both = |address: &dyn Fn(&Ends) -> String| vec![ip(&address(&V4)), ip(&address(&V6))];
    let balanced = both(&|ends| ends.load_balancer_ip(number));
    let port = |(name, protocol): (&str, Protocol)| ServicePort {
        name: name.into(),
        protocol,
        port: 80,
        node_port: Some(node_port(number)),
    };
    Service {
        name: ObjectName::new("default", name),
        service_type: ServiceType::LoadBalancer,
        headless: false,
        cluster_ips: both(&|ends| ends.cluster_ip(number)),
        external_ips: both(&|ends| ends.external_ip(number)),
        load_balancer_ips: balanced.into_iter().map(|ip| LoadBalancerIp { ip, proxy: false }).collect(),
        source_ranges: Vec::new(),
        ports: PORTS.map(port).to_vec(),
        affinity_seconds: None,
        internal_local,
        external_local,
        health_check_node_port: None,
        publish_not_ready: false,
        traffic_distribution: None,
        excluded: false,
    }
}

/// Gives both nodes what the planner makes of the Services, and the host its ways to their addresses: over
/// node 1, as if it had announced them.
pub fn publish(lan: &mut Lan) {
    for node in &mut lan.nodes {
        let number = usize::from(node.number);
        let view = NodeView::new(format!("node{number}"), vec![ip(&V4.node(number)), ip(&V6.node(number))]);
        let mut planner = Planner::new(view, Tables::default());
        let mut ops = planner.synced();
        for (number, policy) in SERVICES.iter().enumerate() {
            ops.extend(planner.apply(Change::Service(service(number))));
            ops.extend([&V4, &V6].iter().flat_map(|ends| planner.apply(Change::Slice(ends.slice(policy)))));
        }
        node.plane().apply(&ops).expect("applies");
    }
    for (ends, length) in [(&V4, 32), (&V6, 128)] {
        for number in 0..SERVICES.len() {
            for address in [ends.cluster_ip(number), ends.load_balancer_ip(number), ends.external_ip(number)]
            {
                lan.host.command(&format!("ip route add {address}/{length} via {}", ends.node(1)));
            }
        }
    }
}
