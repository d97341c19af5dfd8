//! Random objects of a small cluster, drawn so that they clash, and random views of its first node.

use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::{
    AddressFamily, Change, Endpoint, Hints, HostPort, HostPorts, LoadBalancerIp, Node, ObjectName, Protocol,
    Service, ServicePort, ServiceType, Slice, SlicePort, TrafficDistribution,
};
use daymark_plan::{NodePortAddresses, NodeView};
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// The node that is planned for. Few values of each sort, so that objects of different names meet in them.
pub const NODE: &str = "n1";
const SERVICES: [&str; 4] = ["a", "b", "c", "d"];
const NODES: [&str; 3] = [NODE, "n2", "n3"];
const ZONES: [&str; 2] = ["x", "y"];
const PORT_NAMES: [&str; 2] = ["", "web"];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const ADDRESSES_OF_SERVICES: [&str; 6] =
    ["10.96.0.1", "10.96.0.2", "10.96.0.3", "fd00:96::1", "fd00:96::2", "fd00:96::3"];
const ADDRESSES_OUTSIDE: [&str; 5] = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1", "10.96.0.1"];
const RANGES: [&str; 3] = ["203.0.113.0/24", "198.51.100.0/25", "2001:db8:f::/48"];
const ENDPOINTS_V4: [&str; 6] =
    ["10.244.1.1", "10.244.1.2", "10.244.2.1", "10.244.3.1", "127.0.0.1", "169.254.1.1"];
const ENDPOINTS_V6: [&str; 4] = ["fd00:244:1::1", "fd00:244:2::1", "fd00:244:3::1", "fe80::1"];

fn ips(texts: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<IpAddr>> {
    subsequence(texts, 0..=most)
        .prop_map(|texts| texts.iter().map(|text| text.parse().expect("an address")).collect())
}

fn nets(texts: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<IpNet>> {
    subsequence(texts, 0..=most)
        .prop_map(|texts| texts.iter().map(|text| text.parse().expect("a CIDR")).collect())
}

fn texts(values: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<Arc<str>>> {
    subsequence(values, 0..=most).prop_map(|values| values.into_iter().map(Arc::from).collect())
}

fn name(of: &str) -> ObjectName {
    ObjectName::new("default", of)
}

fn cluster_ips() -> impl Strategy<Value = Vec<IpAddr>> {
    let of = |range: std::ops::Range<usize>| {
        select(&ADDRESSES_OF_SERVICES[range]).prop_map(|text| text.parse::<IpAddr>().expect("an address"))
    };
    prop_oneof![
        4 => of(0..3).prop_map(|v4| vec![v4]),
        1 => of(3..6).prop_map(|v6| vec![v6]),
        3 => (of(0..3), of(3..6)).prop_map(|(v4, v6)| vec![v4, v6]),
        1 => (of(0..3), of(3..6)).prop_map(|(v4, v6)| vec![v6, v4]),
    ]
}

fn service_type() -> impl Strategy<Value = ServiceType> {
    prop_oneof![
        3 => Just(ServiceType::ClusterIp),
        3 => Just(ServiceType::NodePort),
        4 => Just(ServiceType::LoadBalancer),
        1 => Just(ServiceType::ExternalName("db.example.org".into())),
    ]
}

fn service_port() -> impl Strategy<Value = ServicePort> {
    (select(&PORT_NAMES[..]), select(&PROTOCOLS[..]), 80_u16..83, prop::option::of(30080_u16..30083))
        .prop_map(|(name, protocol, port, node_port)| ServicePort {
            name: name.into(),
            protocol,
            port,
            node_port,
        })
}

/// A Service of any type, family and policy.
pub fn service() -> impl Strategy<Value = Service> {
    let addresses = (
        cluster_ips(),
        ips(&ADDRESSES_OUTSIDE, 2),
        ips(&ADDRESSES_OUTSIDE, 2),
        any::<bool>(),
        prop_oneof![2 => Just(Vec::new()), 1 => nets(&RANGES, 2)],
    );
    let distribution = select(vec![
        None,
        Some(TrafficDistribution::PreferSameZone),
        Some(TrafficDistribution::PreferSameNode),
    ]);
    let rest = (
        select(&SERVICES[..]),
        service_type(),
        prop::collection::vec(service_port(), 1..4),
        prop::option::of(1_u32..3),
        any::<[bool; 3]>(),
        0_u8..8,
        distribution,
    );
    (addresses, rest).prop_map(|(addresses, rest)| {
        let (cluster_ips, external_ips, balanced, proxy, source_ranges) = addresses;
        let (of, service_type, ports, affinity_seconds, policies, rare, traffic_distribution) = rest;
        let [internal_local, external_local, publish_not_ready] = policies;
        let has_ips = rare != 0 && !matches!(service_type, ServiceType::ExternalName(_));
        let is_balanced = service_type == ServiceType::LoadBalancer;
        let ingress = |ip| LoadBalancerIp { ip, proxy };
        Service {
            headless: rare == 0,
            excluded: rare == 1,
            cluster_ips: if has_ips { cluster_ips } else { Vec::new() },
            load_balancer_ips: balanced.into_iter().filter(|_| is_balanced).map(ingress).collect(),
            service_type,
            external_ips,
            source_ranges,
            ports,
            affinity_seconds,
            internal_local,
            external_local,
            publish_not_ready,
            traffic_distribution,
            ..Service::new(name(of))
        }
    })
}

fn endpoint(family: AddressFamily) -> impl Strategy<Value = Endpoint> {
    let addresses = match family {
        AddressFamily::Ipv4 => &ENDPOINTS_V4[..],
        AddressFamily::Ipv6 => &ENDPOINTS_V6[..],
    };
    let hints = prop_oneof![1 => Just(Vec::new()).boxed(), 2 => texts(&ZONES, 2).boxed()];
    let conditions = prop_oneof![
        4 => Just((true, true, false)),
        1 => Just((false, false, false)),
        2 => Just((false, true, true)),
        1 => Just((false, false, true)),
    ];
    (select(addresses), conditions, prop::option::of(select(&NODES[..])), hints, texts(&NODES, 1)).prop_map(
        |(address, (ready, serving, terminating), node, hint_zones, hint_nodes)| {
            let mut endpoint = Endpoint::ready(address.parse().expect("an address"));
            (endpoint.ready, endpoint.serving, endpoint.terminating) = (ready, serving, terminating);
            endpoint.node = node.map(Arc::from);
            endpoint.hints = Some(Arc::new(Hints { zones: hint_zones, nodes: hint_nodes }));
            endpoint
        },
    )
}

/// A slice that any Service may have: the same slice may pass from one to another.
pub fn slice() -> impl Strategy<Value = Slice> {
    let port = (select(&PORT_NAMES[..]), select(&PROTOCOLS[..]), 8080_u16..8082)
        .prop_map(|(name, protocol, port)| SlicePort { name: name.into(), protocol, port });
    let family = select(vec![AddressFamily::Ipv4, AddressFamily::Ipv4, AddressFamily::Ipv6]);
    let endpoints =
        family.prop_flat_map(|family| (Just(family), prop::collection::vec(endpoint(family), 0..4)));
    (0_u8..6, select(&SERVICES[..]), prop::collection::vec(port, 0..4), endpoints).prop_map(
        |(number, service, ports, (family, endpoints))| Slice {
            name: name(&format!("slice-{number}")),
            service: service.into(),
            family,
            ports,
            endpoints,
        },
    )
}

fn pod(number: u8) -> ObjectName {
    HostPorts::name_of(&name(&format!("pod-{number}")))
}

/// A pod with host ports, which other pods and Services may want too.
pub fn host_ports() -> impl Strategy<Value = HostPorts> {
    let ip = prop::option::of(select(vec!["172.30.0.11", "127.0.0.1", "8.8.8.8"]));
    let port = (ip, select(vec![30008_u16, 80]), select(&PROTOCOLS[..]), 8080_u16..8082).prop_map(
        |(ip, port, protocol, target)| HostPort {
            ip: ip.and_then(|ip| ip.parse().ok()),
            port,
            protocol,
            target,
        },
    );
    let addresses = select(vec![vec!["10.244.1.9"], vec!["10.244.1.9", "fd10::1:9"], vec!["10.244.1.8"]]);
    (0_u8..3, addresses, prop::collection::vec(port, 1..3)).prop_map(|(number, addresses, ports)| HostPorts {
        name: pod(number),
        addresses: addresses.into_iter().filter_map(|ip| ip.parse().ok()).collect(),
        ports,
    })
}

/// Any object of the cluster that appears, changes or goes away.
pub fn change() -> impl Strategy<Value = Change> {
    let zone = prop::option::of(select(&ZONES[..]));
    let node = (select(&NODES[..]), zone)
        .prop_map(|(name, zone)| Node { zone: zone.map(Arc::from), ..Node::new(name) });
    prop_oneof![
        6 => service().prop_map(Change::Service),
        8 => slice().prop_map(Change::Slice),
        1 => node.prop_map(Change::Node),
        2 => select(&SERVICES[..]).prop_map(|of| Change::ServiceGone(name(of))),
        2 => (0_u8..6).prop_map(|number| Change::SliceGone(name(&format!("slice-{number}")))),
        1 => select(&NODES[..]).prop_map(|node| Change::NodeGone(node.into())),
        2 => host_ports().prop_map(Change::HostPorts),
        1 => (0_u8..3).prop_map(|number| Change::HostPortsGone(pod(number))),
    ]
}

pub fn changes(number: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), number)
}

/// A view of [`NODE`]; its zone follows from the Node object.
pub fn view() -> impl Strategy<Value = NodeView> {
    let serving = prop_oneof![
        3 => Just(NodePortAddresses::All),
        1 => Just(NodePortAddresses::Primary),
        1 => nets(&["172.30.0.0/16", "127.0.0.0/8", "fd01::/64"], 2).prop_map(NodePortAddresses::Within),
    ];
    let cidrs = prop::option::of(nets(&["192.0.2.0/24", "2001:db8::/32", "10.96.0.0/12"], 2));
    (ips(&["172.30.0.11", "192.0.2.1", "fd01::11"], 3), serving, any::<bool>(), cidrs).prop_map(
        |(addresses, nodeport_addresses, allow_special_endpoints, external_ip_cidrs)| NodeView {
            nodeport_addresses,
            allow_special_endpoints,
            external_ip_cidrs,
            ..NodeView::new(NODE, addresses)
        },
    )
}
