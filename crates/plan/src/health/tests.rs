//! Who has a health check, and how many endpoints it answers with.

use daymark_model::{Change, Endpoint, LoadBalancerIp, Slice};

use super::*;

fn name(service: &str) -> ObjectName {
    ObjectName::new("default", service)
}

fn local(service: &str, port: u16) -> Service {
    Service {
        service_type: ServiceType::LoadBalancer,
        cluster_ips: vec![[10, 96, 0, 1].into()],
        load_balancer_ips: vec![LoadBalancerIp { ip: [192, 0, 2, 200].into(), proxy: false }],
        external_local: true,
        health_check_node_port: Some(port),
        ..Service::new(name(service))
    }
}

fn endpoint(address: &str, node: &str) -> Endpoint {
    Endpoint { node: Some(node.into()), ..Endpoint::ready(address.parse().expect("IP")) }
}

fn slice(service: &str, number: u8, endpoints: Vec<Endpoint>) -> Change {
    Change::Slice(Slice {
        name: name(&format!("{service}-{number}")),
        service: service.into(),
        family: AddressFamily::of(&endpoints[0].address),
        ports: Vec::new(),
        endpoints,
    })
}

/// The checks of node n1, kept up to date with a world.
struct Kept {
    world: World,
    checks: HealthChecks,
}

impl Kept {
    fn new(changes: Vec<Change>) -> Self {
        let mut kept =
            Self { world: World::new(), checks: HealthChecks::new(&NodeView::new("n1", Vec::new())) };
        for change in changes {
            kept.apply(change);
        }
        kept
    }

    fn apply(&mut self, change: Change) -> bool {
        let touched = self.world.apply(change);
        self.checks.update(&self.world, &touched)
    }

    /// `port service local-endpoints` of each check.
    fn answers(&self) -> Vec<String> {
        let checks = self.checks.checks().iter();
        checks
            .map(|(port, check)| format!("{port} {} {}", check.service.name, check.local_endpoints))
            .collect()
    }
}

#[test]
fn ready_endpoints_of_this_node_are_counted_once_each() {
    let kept = Kept::new(vec![
        Change::Service(local("a", 30100)),
        slice("a", 1, vec![endpoint("10.244.1.1", "n1"), endpoint("10.244.2.1", "n2")]),
        slice("a", 2, vec![endpoint("10.244.1.1", "n1"), endpoint("10.244.1.2", "n1")]),
        slice("a", 6, vec![endpoint("fd00:244:1::1", "n1")]),
    ]);
    assert_eq!(kept.answers(), ["30100 a 2"]);
}

#[test]
fn a_terminating_endpoint_serves_the_last_clients_but_asks_for_no_more() {
    let draining = Endpoint { ready: false, terminating: true, ..endpoint("10.244.1.1", "n1") };
    let kept = Kept::new(vec![Change::Service(local("a", 30100)), slice("a", 1, vec![draining])]);
    assert_eq!(kept.answers(), ["30100 a 0"]);
}

#[test]
fn not_ready_addresses_that_are_published_count() {
    let starting = Endpoint { ready: false, serving: false, ..endpoint("10.244.1.1", "n1") };
    let published = Service { publish_not_ready: true, ..local("a", 30100) };
    let kept = Kept::new(vec![Change::Service(published), slice("a", 1, vec![starting])]);
    assert_eq!(kept.answers(), ["30100 a 1"]);
}

#[test]
fn only_load_balancers_of_policy_local_that_we_serve_have_one() {
    let others = [
        Service { external_local: false, ..local("cluster", 30101) },
        Service { service_type: ServiceType::NodePort, ..local("node-port", 30102) },
        Service { excluded: true, ..local("excluded", 30103) },
        Service { health_check_node_port: None, ..local("without", 30104) },
        Service { headless: true, cluster_ips: Vec::new(), ..local("headless", 30105) },
    ];
    assert_eq!(Kept::new(others.into_iter().map(Change::Service).collect()).answers(), [""; 0]);
}

#[test]
fn a_check_follows_its_service_and_says_whether_it_changed() {
    let mut kept = Kept::new(Vec::new());
    assert!(kept.apply(Change::Service(local("a", 30100))));
    assert_eq!(kept.answers(), ["30100 a 0"]);
    assert!(kept.apply(slice("a", 1, vec![endpoint("10.244.1.1", "n1")])));
    assert_eq!(kept.answers(), ["30100 a 1"]);
    assert!(!kept.apply(slice("a", 1, vec![endpoint("10.244.1.9", "n1"), endpoint("10.244.2.1", "n2")])));
    assert!(!kept.apply(Change::Service(Service { publish_not_ready: true, ..local("a", 30100) })));
    assert!(kept.apply(Change::Service(local("a", 30200))), "another port");
    assert_eq!(kept.answers(), ["30200 a 1"]);
    assert!(kept.apply(Change::ServiceGone(name("a"))));
    assert_eq!(kept.answers(), [""; 0]);
    assert!(kept.checks.ports.is_empty() && kept.checks.services.is_empty(), "nothing is kept of it");
}

#[test]
fn a_port_that_two_services_have_answers_for_the_first_until_that_goes() {
    let mut kept = Kept::new(vec![
        Change::Service(local("b", 30100)),
        slice("b", 1, vec![endpoint("10.244.1.1", "n1")]),
        Change::Service(local("a", 30100)),
    ]);
    assert_eq!(kept.answers(), ["30100 a 0"]);
    assert!(kept.apply(Change::ServiceGone(name("a"))));
    assert_eq!(kept.answers(), ["30100 b 1"]);
}

#[test]
fn an_endpoint_that_gets_no_traffic_counts_for_nothing() {
    let kept = Kept::new(vec![
        Change::Service(local("a", 30100)),
        slice("a", 1, vec![endpoint("127.0.0.1", "n1"), endpoint("10.244.1.1", "n1")]),
    ]);
    assert_eq!(kept.answers(), ["30100 a 1"]);
}
