//! For any two consistent states: the operations lead from one to the other, and every prefix is safe.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use daymark_model::Protocol;
use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::tables::{FrontendKind, ServiceEntry, Slot};

fn slot() -> impl Strategy<Value = Slot> {
    (1_u8..5, 1_u16..3, any::<bool>()).prop_map(|(ip, port, local)| Slot {
        ip: IpAddr::from([10, 244, 0, ip]),
        port,
        local,
    })
}

fn entry() -> impl Strategy<Value = ServiceEntry> {
    (0_u32..3, prop::collection::vec(slot(), 0..3), 0_u32..2, any::<bool>()).prop_map(
        |(generation, slots, affinity_seconds, maglev)| ServiceEntry {
            generation,
            slots,
            affinity_seconds,
            maglev,
            ..ServiceEntry::default()
        },
    )
}

fn kind() -> impl Strategy<Value = FrontendKind> {
    prop_oneof![
        Just(FrontendKind::ClusterIp),
        Just(FrontendKind::NodePort),
        Just(FrontendKind::LoadBalancerIp),
        Just(FrontendKind::ExternalIp)
    ]
}

fn range() -> impl Strategy<Value = IpNet> {
    (0_u8..4).prop_map(|third| IpNet::new_assert([192, 0, third, 0].into(), 24))
}

/// Tables of a few ids and frontends, so that two of them overlap in every way; consistent in themselves.
fn tables() -> impl Strategy<Value = Tables> {
    let services = prop::collection::btree_map(1_u32..6, (entry(), prop::option::of(range())), 1..5);
    services.prop_flat_map(|services| {
        let ids: Vec<u32> = services.keys().copied().collect();
        let frontend = (prop::sample::select(ids), kind(), any::<bool>());
        let frontends = prop::collection::btree_map((1_u8..4, 80_u16..83), frontend, 0..8);
        let ips = prop::collection::btree_set(1_u8..4, 0..3);
        (Just(services), frontends, ips).prop_map(|(services, frontends, ips)| {
            let mut tables = Tables::default();
            for ((ip, port), (service, kind, local_only)) in frontends {
                let key = FrontendKey { ip: [10, 96, 0, ip].into(), port, protocol: Protocol::Tcp };
                let source_checked = services[&service].1.is_some();
                tables.frontends.insert(key, Frontend { service, kind, local_only, source_checked });
            }
            for (id, (entry, range)) in services {
                tables.services.insert(id, entry);
                tables.source_ranges.extend(range.map(|range| (id, vec![range])));
            }
            tables.cluster_ips = ips.into_iter().map(|ip| [10, 96, 0, ip].into()).collect();
            let served = tables.frontends.iter().filter(|(_, f)| f.kind == FrontendKind::ClusterIp);
            let served: Vec<IpAddr> = served.map(|(key, _)| key.ip).collect();
            tables.cluster_ips.extend(served);
            tables
        })
    })
}

/// What a client that dials `key` meets: backends, and who may come.
fn meaning(tables: &Tables, key: &FrontendKey) -> Option<(Frontend, ServiceEntry)> {
    let frontend = tables.frontends.get(key)?;
    let entry = tables.services.get(&frontend.service).expect("a frontend leads to a missing entry");
    Some((*frontend, entry.clone()))
}

fn ranges(tables: &Tables, key: &FrontendKey) -> Option<Vec<IpNet>> {
    let frontend = tables.frontends.get(key).filter(|frontend| frontend.source_checked)?;
    Some(
        tables.source_ranges.get(&frontend.service).expect("a checked frontend has no source ranges").clone(),
    )
}

fn assert_safe(have: &Tables, want: &Tables, now: &Tables) {
    for key in have.frontends.keys().chain(want.frontends.keys()) {
        let (before, after) = (meaning(have, key), meaning(want, key));
        let crosses = matches!((&before, &after), (Some((a, _)), Some((b, _))) if a.service != b.service);
        match meaning(now, key) {
            None => {
                assert!(before.is_none() || after.is_none() || crosses, "{key:?} leads nowhere in between")
            }
            Some((_, entry)) => {
                let expected = [before, after].into_iter().flatten().any(|(_, known)| known == entry);
                assert!(expected, "{key:?} leads to a stranger's backends");
            }
        }
        if let Some(checked) = ranges(now, key) {
            let known =
                [ranges(have, key), ranges(want, key)].into_iter().flatten().any(|known| known == checked);
            assert!(known, "{key:?} is restricted by a stranger's source ranges");
        }
        let open = now.frontends.get(key).is_some_and(|frontend| !frontend.source_checked);
        let closed = ranges(have, key).is_some() && ranges(want, key).is_some();
        assert!(!(open && closed), "{key:?} is open to everybody in between");
    }
    for (key, _) in now.frontends.iter().filter(|(_, frontend)| frontend.kind == FrontendKind::ClusterIp) {
        assert!(now.cluster_ips.contains(&key.ip), "{key:?} is served but its address is no cluster IP");
    }
}

proptest! {
    #[test]
    fn operations_lead_to_what_is_wanted_and_every_prefix_is_safe(have in tables(), want in tables()) {
        let ops = diff(&have, &want);
        let mut now = have.clone();
        assert_safe(&have, &want, &now);
        for op in &ops {
            apply_ops(&mut now, std::slice::from_ref(op));
            assert_safe(&have, &want, &now);
        }
        prop_assert_eq!(now, want);
    }

    #[test]
    fn equal_tables_need_no_operation(tables in tables()) {
        prop_assert!(diff(&tables, &tables).is_empty());
    }
}

fn one_frontend(service: u32, entries: &[(u32, u8)]) -> Tables {
    let key = FrontendKey { ip: [10, 96, 0, 1].into(), port: 80, protocol: Protocol::Tcp };
    let kind = FrontendKind::ClusterIp;
    let slot = |ip| Slot { ip: [10, 244, 0, ip].into(), port: 80, local: false };
    let entry = |ip| ServiceEntry { slots: vec![slot(ip)], ..ServiceEntry::default() };
    Tables {
        frontends: BTreeMap::from([(
            key,
            Frontend { service, kind, local_only: false, source_checked: false },
        )]),
        services: entries.iter().map(|(id, ip)| (*id, entry(*ip))).collect(),
        cluster_ips: BTreeSet::from([key.ip]),
        ..Tables::default()
    }
}

#[test]
fn a_frontend_leaves_an_entry_before_the_entry_changes() {
    let (have, want) = (one_frontend(1, &[(1, 1)]), one_frontend(2, &[(1, 9), (2, 2)]));
    let ops = diff(&have, &want);
    let order: Vec<&str> = ops
        .iter()
        .map(|op| match op {
            Op::PutService { id: 1, .. } => "change 1",
            Op::PutService { .. } => "new 2",
            Op::PutFrontend { .. } => "move",
            _ => "other",
        })
        .collect();
    assert_eq!(order, ["new 2", "move", "change 1"]);
}

#[test]
fn one_changed_endpoint_is_one_operation() {
    let ops = diff(&one_frontend(1, &[(1, 1)]), &one_frontend(1, &[(1, 2)]));
    assert!(matches!(ops[..], [Op::PutService { id: 1, .. }]), "{ops:?}");
}
