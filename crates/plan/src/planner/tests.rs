//! Restarts change nothing, every step on the way is safe, and work is per Service.

use std::sync::Arc;

use daymark_model::{
    AddressFamily, Endpoint, Node, Protocol, Service, ServicePort, ServiceType, Slice, SlicePort,
};
use proptest::prelude::*;

use super::*;

fn view() -> NodeView {
    NodeView::new("n1", vec![[172, 30, 0, 11].into()])
}

fn service(name: &str, ip: [u8; 4]) -> Service {
    Service {
        cluster_ips: vec![ip.into()],
        ports: vec![ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None }],
        ..Service::new(ObjectName::new("default", name))
    }
}

fn slice(service: &str, addresses: &[[u8; 4]]) -> Change {
    let endpoint = |address: &[u8; 4]| Endpoint {
        node: Some(if address[2] == 1 { "n1" } else { "n2" }.into()),
        ..Endpoint::ready((*address).into())
    };
    Change::Slice(Slice {
        name: ObjectName::new("default", format!("{service}-1")),
        service: service.into(),
        family: AddressFamily::Ipv4,
        ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: addresses.iter().map(endpoint).collect(),
    })
}

fn started(changes: &[Change], have: Tables) -> (Planner, Vec<Op>) {
    let mut planner = Planner::new(view(), have);
    for change in changes {
        assert!(planner.apply(change.clone()).is_empty(), "nothing happens before the world is known");
    }
    let ops = planner.synced();
    (planner, ops)
}

fn three_services() -> Vec<Change> {
    let mut changes = Vec::new();
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        changes.push(Change::Service(service(name, [10, 96, 0, 1 + index as u8])));
        changes.push(slice(name, &[[10, 244, 1, index as u8], [10, 244, 2, index as u8]]));
    }
    changes
}

#[test]
fn a_restart_changes_nothing_whatever_the_order_of_the_list() {
    let (before, _) = started(&three_services(), Tables::default());
    let mut reversed = three_services();
    reversed.reverse();
    let (after, ops) = started(&reversed, before.tables().clone());
    assert_eq!(ops, []);
    assert_eq!(after.tables(), before.tables());
}

#[test]
fn what_vanished_while_away_goes_only_once_the_world_is_known() {
    let (before, _) = started(&three_services(), Tables::default());
    let rest: Vec<Change> = three_services().into_iter().skip(2).collect();
    let (after, ops) = started(&rest, before.tables().clone());
    assert!(ops.iter().all(|op| {
        matches!(op, Op::DeleteFrontend { .. } | Op::DeleteService { .. } | Op::DeleteClusterIp { .. })
    }));
    assert_eq!(after.tables().services.len(), 2);
}

#[test]
fn a_service_that_took_over_an_address_while_away_takes_over_its_entry() {
    let (before, _) = started(&three_services(), Tables::default());
    let mut changes: Vec<Change> = three_services().into_iter().skip(2).collect();
    changes.push(Change::Service(service("new", [10, 96, 0, 1])));
    changes.push(slice("new", &[[10, 244, 1, 77]]));
    let (after, ops) = started(&changes, before.tables().clone());
    let [Op::PutService { id: 1, entry }] = &ops[..] else { panic!("{ops:?}") };
    assert_eq!(entry.generation, 2);
    assert_eq!(after.entry_key(1).map(|key| key.service.to_string()).as_deref(), Some("default/new"));
}

#[test]
fn an_endpoint_change_is_one_operation_of_the_next_generation() {
    let (mut planner, _) = started(&three_services(), Tables::default());
    let before = planner.tables().services[&2].generation;
    let ops = planner.apply(slice("b", &[[10, 244, 1, 1]]));
    let [Op::PutService { id: 2, entry }] = &ops[..] else { panic!("{ops:?}") };
    assert_eq!(entry.generation, before + 1);
    assert!(planner.apply(slice("b", &[[10, 244, 1, 1]])).is_empty());
}

#[test]
fn a_policy_change_keeps_the_generation() {
    let (mut planner, _) = started(&three_services(), Tables::default());
    let local = Service { internal_local: true, ..service("a", [10, 96, 0, 1]) };
    let ops = planner.apply(Change::Service(local));
    assert!(matches!(ops[..], [Op::PutFrontend { .. }]), "{ops:?}");
}

#[test]
fn the_first_external_frontend_makes_the_choice_maglev_before_it_is_put() {
    let (mut planner, _) = started(&three_services(), Tables::default());
    let external = Service { external_ips: vec![[192, 0, 2, 1].into()], ..service("a", [10, 96, 0, 1]) };
    let ops = planner.apply(Change::Service(external));
    let [Op::PutService { id: 1, entry }, Op::PutFrontend { .. }] = &ops[..] else { panic!("{ops:?}") };
    assert_eq!((entry.maglev, entry.generation), (true, 1));
}

#[test]
fn ids_are_not_given_away_again_at_once() {
    let (mut planner, _) = started(&three_services(), Tables::default());
    planner.apply(Change::ServiceGone(ObjectName::new("default", "c")));
    planner.apply(Change::Service(service("d", [10, 96, 0, 9])));
    assert_eq!(planner.tables().services.keys().copied().collect::<Vec<_>>(), [1, 2, 4]);
}

#[test]
fn a_freed_frontend_goes_to_who_was_refused() {
    let external =
        |name: &str, ip| Service { external_ips: vec![[192, 0, 2, 1].into()], ..service(name, ip) };
    let a = Change::Service(external("a", [10, 96, 0, 1]));
    let b = Change::Service(external("b", [10, 96, 0, 2]));
    let (mut planner, _) = started(&[a, b], Tables::default());
    assert_eq!(planner.issues().len(), 1);
    let key = FrontendKey { ip: [192, 0, 2, 1].into(), port: 80, protocol: Protocol::Tcp };
    let Issue::FrontendTaken { service, frontends, .. } = &planner.issues()[0] else {
        panic!("another issue")
    };
    assert_eq!((service.to_string().as_str(), &frontends[..]), ("default/b", &[key][..]));
    planner.apply(Change::ServiceGone(ObjectName::new("default", "a")));
    assert!(planner.issues().is_empty());
    let owner = planner.entry_key(planner.tables().frontends[&key].service).expect("served");
    assert_eq!(owner.service.to_string(), "default/b");
}

#[test]
fn a_new_address_of_the_node_serves_all_node_ports() {
    let mut node_port = service("a", [10, 96, 0, 1]);
    node_port.service_type = ServiceType::NodePort;
    node_port.ports[0].node_port = Some(30080);
    let (mut planner, _) = started(&[Change::Service(node_port)], Tables::default());
    let addresses = vec![[172, 30, 0, 11].into(), [192, 0, 2, 9].into()];
    let ops = planner.set_view(NodeView { addresses, ..view() });
    let [Op::PutFrontend { key, .. }] = &ops[..] else { panic!("{ops:?}") };
    assert_eq!((key.ip, key.port), ([192, 0, 2, 9].into(), 30080));
}

#[test]
fn other_nodes_change_nothing() {
    let (mut planner, _) = started(&three_services(), Tables::default());
    let node = |name: &str| Node { zone: Some(Arc::from("z")), ..Node::new(name) };
    assert!(planner.apply(Change::Node(node("n2"))).is_empty());
    assert_eq!(planner.view().zone, None);
    planner.apply(Change::Node(node("n1")));
    assert_eq!(planner.view().zone.as_deref(), Some("z"));
}

#[test]
fn work_is_per_service() {
    const MANY: u32 = 1000;
    let mut changes = Vec::new();
    for index in 0..MANY {
        let [_, high, mid, low] = index.to_be_bytes();
        let name = format!("s{index}");
        changes.push(Change::Service(service(&name, [10, 96 + high, mid, low])));
        changes.push(slice(&name, &[[10, 244, 1, low], [10, 244, 2, low]]));
    }
    let (mut planner, ops) = started(&changes, Tables::default());
    assert_eq!(ops.len(), 3 * MANY as usize);
    let (touched, ops) = planner.apply_touching(slice("s7", &[[10, 244, 1, 250]]));
    assert_eq!(touched.services.len(), 1, "no other is compiled");
    assert!(matches!(ops[..], [Op::PutService { .. }]), "{ops:?}");
}

/// One of few Services, drawn so that they clash.
fn any_change() -> impl Strategy<Value = Change> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let put = (name.clone(), 1_u8..4, any::<[bool; 4]>(), prop::option::of(1_u8..3)).prop_map(
        |(name, ip, [internal_local, external_local, ranges, lb], external)| {
            let mut service = service(name, [10, 96, 0, ip]);
            service.internal_local = internal_local;
            service.external_local = external_local;
            service.external_ips = external.map(|last| [192, 0, 2, last].into()).into_iter().collect();
            if lb {
                service.service_type = ServiceType::LoadBalancer;
                let ingress = daymark_model::LoadBalancerIp { ip: [192, 0, 2, 1].into(), proxy: false };
                service.load_balancer_ips = vec![ingress];
                service.ports[0].node_port = Some(30000 + u16::from(ip));
            }
            if ranges {
                service.source_ranges = vec!["198.51.100.0/24".parse().expect("CIDR")];
            }
            Change::Service(service)
        },
    );
    let addresses =
        prop::collection::vec((1_u8..3, 1_u8..4).prop_map(|(node, pod)| [10, 244, node, pod]), 0..4);
    prop_oneof![
        3 => put,
        3 => (name.clone(), addresses).prop_map(|(name, addresses)| slice(name, &addresses)),
        1 => name.clone().prop_map(|name| Change::ServiceGone(ObjectName::new("default", name))),
        1 => name.prop_map(|name| Change::SliceGone(ObjectName::new("default", format!("{name}-1")))),
    ]
}

/// Tables with ids and generations left out.
fn meaning(
    planner: &Planner,
) -> BTreeMap<FrontendKey, (FrontendKind, bool, bool, EntryKey, ServiceEntry, String)> {
    let tables = planner.tables();
    let frontends = tables.frontends.iter().map(|(key, frontend)| {
        let owner = planner.entry_key(frontend.service).expect("an owner").clone();
        let entry = ServiceEntry { generation: 0, ..tables.services[&frontend.service].clone() };
        let ranges = format!("{:?}", tables.source_ranges.get(&frontend.service));
        (*key, (frontend.kind, frontend.local_only, frontend.source_checked, owner, entry, ranges))
    });
    frontends.collect()
}

proptest! {
    #[test]
    fn step_by_step_equals_all_at_once_and_the_kernel_follows(
        changes in prop::collection::vec(any_change(), 1..30)
    ) {
        let mut planner = Planner::new(view(), Tables::default());
        planner.synced();
        let mut kernel = Tables::default();
        for change in changes {
            for op in planner.apply(change) {
                apply_ops(&mut kernel, &[op]);
                for frontend in kernel.frontends.values() {
                    prop_assert!(kernel.services.contains_key(&frontend.service));
                }
            }
            prop_assert_eq!(&kernel, planner.tables());
        }
        let mut fresh = Planner::new(view(), Tables::default());
        fresh.world = planner.world.clone();
        fresh.synced();
        prop_assert_eq!(meaning(&fresh), meaning(&planner));
        prop_assert_eq!(fresh.issues(), planner.issues());
        prop_assert_eq!(&fresh.tables.cluster_ips, &planner.tables.cluster_ips);
        prop_assert_eq!(fresh.tables.services.len(), planner.tables.services.len());

        let mut restarted = Planner::new(view(), kernel);
        restarted.world = planner.world.clone();
        let ops = restarted.synced();
        prop_assert_eq!(meaning(&restarted), meaning(&planner));
        if planner.issues().is_empty() {
            prop_assert_eq!(ops, vec![], "a restart without clashes changes nothing");
        }
    }
}
