//! Properties of the allocation: one owner for each address and port, all or nothing, nothing lost.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::{Allocator, AllocatorConfig, strategy};
use crate::kinds::value::{int, strings};

fn config(cidrs: &[&str]) -> AllocatorConfig {
    AllocatorConfig {
        further_cidrs: Vec::new(),
        service_cidrs: cidrs.iter().map(|c| c.parse().expect("a CIDR")).collect(),
        node_port_range: 30000..=30015,
    }
}

fn empty(cidrs: &[&str]) -> Allocator {
    Allocator::with_rng(config(cidrs), std::iter::empty(), StdRng::seed_from_u64(3))
}

/// What an allocator thinks is taken, in a form that can be compared.
fn taken(allocator: &Allocator) -> String {
    format!("{:?}", allocator).split("rng:").next().unwrap_or_default().to_owned()
}

fn service(kind: &str, ports: Value) -> Value {
    let mut svc = json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": ports}});
    super::default(&mut svc);
    svc
}

#[test]
fn a_failed_write_takes_nothing() {
    let mut allocator = empty(&["10.0.0.0/28"]);
    let mut first = service("NodePort", json!([{"port": 80, "nodePort": 30003}]));
    let reservation = allocator.allocate(None, &mut first).expect("all free");
    allocator.commit(reservation);
    let before = taken(&allocator);
    let mut second =
        service("NodePort", json!([{"name": "a", "port": 1}, {"name": "b", "port": 2, "nodePort": 30003}]));
    allocator.allocate(None, &mut second).expect_err("30003 is taken");
    assert_eq!(taken(&allocator), before, "neither the address nor the first port stayed taken");
    let mut third = service("LoadBalancer", json!([{"port": 80}]));
    third["spec"]["externalTrafficPolicy"] = json!("Local");
    let reservation = allocator.allocate(None, &mut third).expect("enough is left");
    assert_ne!(int(&third, "spec.healthCheckNodePort"), 0);
    allocator.rollback(reservation);
    assert_eq!(taken(&allocator), before);
}

#[test]
fn a_restarted_allocator_knows_what_is_taken() {
    let mut allocator = empty(&["10.0.0.0/24", "fd00::/112"]);
    let mut stored = Vec::new();
    for kind in ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] {
        let mut svc =
            service(kind, json!([{"name": "a", "port": 80}, {"name": "b", "port": 80, "protocol": "UDP"}]));
        if kind != "ExternalName" {
            svc["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
        }
        let reservation = allocator.allocate(None, &mut svc).expect("enough is left");
        allocator.commit(reservation);
        stored.push(svc);
    }
    let restarted =
        Allocator::with_rng(config(&["10.0.0.0/24", "fd00::/112"]), stored.iter(), StdRng::seed_from_u64(9));
    assert_eq!(taken(&restarted), taken(&allocator));
    for svc in &stored {
        allocator.release(svc);
    }
    assert_eq!(taken(&allocator), taken(&empty(&["10.0.0.0/24", "fd00::/112"])));
}

#[test]
fn a_changed_type_gives_back_on_commit_only() {
    let mut allocator = empty(&["10.0.0.0/28"]);
    let mut old = service("NodePort", json!([{"port": 80, "nodePort": 30003}]));
    let reservation = allocator.allocate(None, &mut old).expect("all free");
    allocator.commit(reservation);
    let with_old = taken(&allocator);
    let update = || {
        let mut new =
            json!({"metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": "a.b"}});
        super::default(&mut new);
        new
    };
    let mut new = update();
    let reservation = allocator.allocate(Some(&old), &mut new).expect("needs nothing");
    assert_eq!(taken(&allocator), with_old, "not given back before the write succeeded");
    allocator.rollback(reservation);
    assert_eq!(taken(&allocator), with_old);
    let mut new = update();
    let reservation = allocator.allocate(Some(&old), &mut new).expect("needs nothing");
    allocator.commit(reservation);
    assert_eq!(taken(&allocator), taken(&empty(&["10.0.0.0/28"])));
}

#[test]
fn ports_of_one_number_share_a_node_port_in_a_new_service() {
    let mut allocator = empty(&["10.0.0.0/28"]);
    let mut dns =
        service("NodePort", json!([{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53}]));
    let reservation = allocator.allocate(None, &mut dns).expect("all free");
    allocator.commit(reservation);
    assert_eq!(strategy::node_ports(&dns).len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    /// Creates or replaces the Service of a number.
    Write {
        name: u8,
        kind: &'static str,
        ports: u8,
        port: Option<u16>,
        local: bool,
        fails: bool,
    },
    Delete(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kinds = prop::sample::select(vec!["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]);
    let port = prop::option::of(29998u16..30018);
    let write = (0u8..6, kinds, 1u8..4, port, any::<bool>(), any::<bool>()).prop_map(
        |(name, kind, ports, port, local, fails)| Step::Write { name, kind, ports, port, local, fails },
    );
    prop::collection::vec(prop_oneof![4 => write, 1 => (0u8..6).prop_map(Step::Delete)], 0..60)
}

fn object(name: u8, kind: &str, ports: u8, port: Option<u16>, local: bool) -> Value {
    let mut listed: Vec<Value> =
        (0..ports).map(|i| json!({"name": format!("p{i}"), "port": 80 + u16::from(i)})).collect();
    if let (Some(port), "NodePort" | "LoadBalancer") = (port, kind) {
        listed[0]["nodePort"] = json!(port);
    }
    let mut svc = service(kind, Value::from(listed));
    svc["metadata"]["name"] = json!(format!("s{name}"));
    if local && kind == "LoadBalancer" {
        svc["spec"]["externalTrafficPolicy"] = json!("Local");
    }
    svc
}

/// Everything the live Services hold; each thing must have one owner.
fn owners(live: &BTreeMap<u8, Value>) -> Result<BTreeSet<String>, TestCaseError> {
    let mut all = BTreeSet::new();
    for (name, svc) in live {
        let mut own: BTreeSet<String> =
            strings(svc, "spec.clusterIPs").into_iter().map(str::to_owned).collect();
        own.extend(strategy::node_ports(svc).iter().map(i64::to_string));
        own.extend(Some(int(svc, "spec.healthCheckNodePort")).filter(|p| *p != 0).map(|p| p.to_string()));
        for thing in own {
            prop_assert!(all.insert(thing.clone()), "{thing} of s{name} has two owners");
        }
    }
    Ok(all)
}

proptest! {
    #[test]
    fn the_allocator_always_equals_one_rebuilt_from_the_services(steps in steps()) {
        let cidrs = ["10.0.0.0/28"];
        let mut allocator = empty(&cidrs);
        let mut live: BTreeMap<u8, Value> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Delete(name) => {
                    if let Some(svc) = live.remove(&name) {
                        allocator.release(&svc);
                    }
                }
                Step::Write { name, kind, ports, port, local, fails } => {
                    let old = live.get(&name).cloned();
                    let mut new = object(name, kind, ports, port, local);
                    let Ok(reservation) = allocator.allocate(old.as_ref(), &mut new) else { continue };
                    if fails {
                        allocator.rollback(reservation);
                        continue;
                    }
                    if let Some(old) = &old {
                        strategy::prepare_update(old, &mut new);
                    }
                    allocator.commit(reservation);
                    live.insert(name, new);
                }
            }
            owners(&live)?;
            let rebuilt = Allocator::with_rng(config(&cidrs), live.values(), StdRng::seed_from_u64(1));
            prop_assert_eq!(taken(&allocator), taken(&rebuilt));
        }
    }
}
