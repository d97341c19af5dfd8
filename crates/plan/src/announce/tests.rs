//! Every address has one announcer, and a failing node moves only its own.

use super::*;
use daymark_model::{AddressFamily, Change, Endpoint, LoadBalancerIp, Slice};

fn node(name: &str, ready: bool) -> Change {
    Change::Node(Node { ready, ..Node::new(name) })
}

fn service(index: u8, external_local: bool) -> Service {
    Service {
        service_type: daymark_model::ServiceType::LoadBalancer,
        load_balancer_ips: vec![LoadBalancerIp { ip: [172, 30, 0, index].into(), proxy: false }],
        external_local,
        ..Service::new(ObjectName::new("default", format!("s{index}")))
    }
}

fn world(nodes: &[&str], services: u8) -> World {
    let mut world = World::new();
    for name in nodes {
        world.apply(node(name, true));
    }
    for index in 0..services {
        world.apply(Change::Service(service(index, false)));
    }
    world
}

fn elected(world: &World, services: u8) -> Vec<Option<Arc<str>>> {
    (0..services).map(|index| elect(world, &service(index, false).name)).collect()
}

#[test]
fn services_spread_over_the_nodes() {
    let world = world(&["n1", "n2", "n3"], 240);
    for node in ["n1", "n2", "n3"] {
        let share = announced_v4(&world, node).len();
        assert!((50..=110).contains(&share), "{node} announces {share} of 240");
    }
}

#[test]
fn a_failing_node_moves_only_its_own_addresses() {
    let mut world = world(&["n1", "n2", "n3"], 100);
    let before = elected(&world, 100);
    world.apply(node("n2", false));
    for (before, after) in before.iter().zip(elected(&world, 100)) {
        assert_ne!(after.as_deref(), Some("n2"));
        assert!(before.as_deref() == Some("n2") || *before == after);
    }
}

#[test]
fn nobody_announces_the_address_of_a_node() {
    let mut world = world(&["n1"], 2);
    let all = announced_v4(&world, "n1");
    assert_eq!(all.len(), 2);
    let internal_ips = vec![[172, 30, 0, 1].into()];
    world.apply(Change::Node(Node { internal_ips, ..Node::new("n2") }));
    for node in ["n1", "n2"] {
        assert!(!announced_v4(&world, node).contains_key(&std::net::Ipv4Addr::new(172, 30, 0, 1)), "{node}");
    }
}

#[test]
fn no_ready_node_no_announcement() {
    let mut world = world(&["n1"], 1);
    world.apply(node("n1", false));
    assert_eq!(elect(&world, &service(0, false).name), None);
    assert!(announced_v4(&world, "n1").is_empty());
}

#[test]
fn policy_local_wants_an_endpoint_on_the_announcer() {
    let mut world = world(&["n1", "n2", "n3"], 0);
    world.apply(Change::Service(service(7, true)));
    assert_eq!(elect(&world, &service(7, true).name), None);
    let endpoint = |node: &str, ready: bool| Endpoint {
        ready,
        terminating: !ready,
        node: Some(node.into()),
        ..Endpoint::ready([10, 244, 0, 2].into())
    };
    let slice = |endpoints| {
        Change::Slice(Slice {
            name: ObjectName::new("default", "s7-1"),
            service: "s7".into(),
            family: AddressFamily::Ipv4,
            ports: Vec::new(),
            endpoints,
        })
    };
    world.apply(slice(vec![endpoint("n3", true), endpoint("n1", false)]));
    assert_eq!(elect(&world, &service(7, true).name).as_deref(), Some("n3"));
    world.apply(slice(vec![endpoint("n1", false)]));
    assert_eq!(elect(&world, &service(7, true).name).as_deref(), Some("n1"), "a draining one still serves");
}

#[test]
fn a_shared_address_has_one_announcer() {
    let mut world = world(&["n1", "n2", "n3"], 40);
    for index in 0..40 {
        let mut sharing = service(index, false);
        sharing.load_balancer_ips[0].ip = [172, 30, 0, 200].into();
        world.apply(Change::Service(sharing));
    }
    let announcers = ["n1", "n2", "n3"].iter().filter(|node| !announced_v4(&world, node).is_empty());
    assert_eq!(announcers.count(), 1);
}

#[test]
fn an_announcer_kept_up_to_date_agrees_with_a_new_look_at_the_world() {
    let mut world = world(&[], 0);
    let mut announcers = ["n1", "n2"].map(Announcer::new);
    let mut step = |change: Change| {
        let touched = world.apply(change);
        for announcer in &mut announcers {
            let before = announcer.announced().clone();
            let changed = announcer.update(&world, &touched);
            assert!(announcer.announced().iter().eq(announced_v4(&world, &announcer.node).keys()));
            assert_eq!(changed, *announcer.announced() != before);
        }
        announcers.iter().map(|announcer| announcer.announced().len()).sum::<usize>()
    };
    for index in 0..20 {
        assert_eq!(step(Change::Service(service(index, false))), 0, "no node is ready");
    }
    assert_eq!(step(node("n1", true)), 20);
    assert_eq!(step(node("n2", true)), 20);
    let mut sharing = service(0, false);
    sharing.load_balancer_ips[0].ip = [172, 30, 0, 7].into();
    assert_eq!(step(Change::Service(sharing)), 19);
    assert_eq!(step(Change::ServiceGone(ObjectName::new("default", "s7"))), 19, "the other one keeps it");
    assert_eq!(step(Change::ServiceGone(ObjectName::new("default", "s0"))), 18);
    let mut proxied = service(1, false);
    proxied.load_balancer_ips[0].proxy = true;
    assert_eq!(step(Change::Service(proxied)), 17);
    assert_eq!(step(Change::NodeGone("n1".into())), 17);
    assert_eq!(step(node("n2", false)), 0);
}
