//! What holds for every cluster, every order of events and every step on the way.

mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use daymark_model::{Change, World};
use daymark_plan::compile::EntryKey;
use daymark_plan::tables::{Frontend, FrontendKey, FrontendKind, Op, ServiceEntry, Slot, Tables};
use daymark_plan::{IdLedger, Issue, NodeView, Planner, SpecialAddress, apply_ops, compile, diff};
use ipnet::IpNet;
use proptest::prelude::*;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// What a client that dials a frontend meets.
type Meaning = (Frontend, ServiceEntry);

fn meaning(tables: &Tables, key: &FrontendKey) -> Option<Meaning> {
    let frontend = tables.frontends.get(key)?;
    let entry = tables.services.get(&frontend.service).expect("a frontend leads to a missing entry");
    Some((*frontend, entry.clone()))
}

fn ranges<'a>(tables: &'a Tables, key: &FrontendKey) -> Option<&'a Vec<IpNet>> {
    let frontend = tables.frontends.get(key).filter(|frontend| frontend.source_checked)?;
    Some(tables.source_ranges.get(&frontend.service).expect("a checked frontend has no source ranges"))
}

/// At `now`, between `have` and `want`, each frontend leads wholly to where it led or to where it shall lead.
fn assert_safe(have: &Tables, want: &Tables, now: &Tables) {
    for key in have.frontends.keys().chain(want.frontends.keys()) {
        let (before, after) = (meaning(have, key), meaning(want, key));
        let both = (before.as_ref(), after.as_ref());
        let crosses = matches!(both, (Some((a, _)), Some((b, _))) if a.service != b.service);
        let may_be_missing = before.is_none() || after.is_none() || crosses;
        match meaning(now, key) {
            None => assert!(may_be_missing, "{key:?} leads nowhere in between"),
            Some((_, entry)) => {
                let known = [&before, &after].into_iter().flatten().any(|(_, known)| *known == entry);
                assert!(known, "{key:?} leads to a stranger's backends");
            }
        }
        if let Some(checked) = ranges(now, key) {
            let known = [ranges(have, key), ranges(want, key)].contains(&Some(checked));
            assert!(known, "{key:?} is restricted by a stranger's source ranges");
        }
        let open = now.frontends.get(key).is_some_and(|frontend| !frontend.source_checked);
        let closed = ranges(have, key).is_some() && ranges(want, key).is_some();
        assert!(!(open && closed), "{key:?} is open to everybody in between");
    }
    let strangers = now
        .frontends
        .keys()
        .find(|key| !have.frontends.contains_key(key) && !want.frontends.contains_key(key));
    assert_eq!(strangers, None, "neither served before nor to be served");
    for (key, _) in now.frontends.iter().filter(|(_, frontend)| frontend.kind == FrontendKind::ClusterIp) {
        assert!(now.cluster_ips.contains(&key.ip), "{key:?} is served but its address is no cluster IP");
    }
}

/// Carries the operations out one by one and looks after each.
fn carry_out(kernel: &mut Tables, ops: &[Op], want: &Tables) {
    let have = kernel.clone();
    assert_safe(&have, want, kernel);
    for op in ops {
        apply_ops(kernel, std::slice::from_ref(op));
        assert_safe(&have, want, kernel);
    }
    assert_eq!(kernel, want, "the operations lead elsewhere");
}

/// What holds in any tables.
fn assert_consistent(tables: &Tables, view: &NodeView) {
    for entry in tables.services.values() {
        let all: Vec<&Slot> = entry.slots.iter().chain(&entry.draining).collect();
        let distinct: BTreeSet<(IpAddr, u16)> = all.iter().map(|slot| (slot.ip, slot.port)).collect();
        assert_eq!(distinct.len(), all.len(), "a backend twice: {entry:?}");
        let special = all.iter().find(|slot| SpecialAddress::of(&slot.ip).is_some());
        assert!(view.allow_special_endpoints || special.is_none(), "a special address: {entry:?}");
        let (n_local, cluster_from) = (entry.n_local as usize, entry.cluster_from as usize);
        assert!(n_local <= entry.slots.len() && cluster_from <= n_local, "{entry:?}");
        assert!(
            entry.slots[..n_local].iter().all(|slot| slot.local),
            "policy Local leaves the node: {entry:?}"
        );
        assert_eq!(entry.elsewhere, n_local == 0 && !entry.slots.is_empty());
    }
    for frontend in tables.frontends.values() {
        assert!(tables.services.contains_key(&frontend.service));
        assert!(!frontend.source_checked || tables.source_ranges.contains_key(&frontend.service));
    }
    assert!(tables.source_ranges.keys().all(|id| tables.services.contains_key(id)));
}

type Readable = (BTreeMap<FrontendKey, (Frontend, EntryKey)>, BTreeMap<EntryKey, String>, BTreeSet<IpAddr>);

/// The tables with ids and generations left out.
fn readable(planner: &Planner) -> Readable {
    let tables = planner.tables();
    let owner = |id| planner.entry_key(id).expect("every entry is somebody's").clone();
    let of_frontend = |(key, frontend): (&FrontendKey, &Frontend)| {
        (*key, (Frontend { service: 0, ..*frontend }, owner(frontend.service)))
    };
    let of_entry = |(id, entry): (&u32, &ServiceEntry)| {
        let entry = ServiceEntry { generation: 0, ..entry.clone() };
        (owner(*id), format!("{entry:?} {:?}", tables.source_ranges.get(id)))
    };
    (
        tables.frontends.iter().map(of_frontend).collect(),
        tables.services.iter().map(of_entry).collect(),
        tables.cluster_ips.clone(),
    )
}

/// A planner that learns all `objects` before it plans, over what the kernel holds.
fn started(view: &NodeView, objects: &[Change], have: &Tables) -> (Planner, Vec<Op>) {
    let mut planner = Planner::new(view.clone(), have.clone());
    for change in objects {
        assert_eq!(planner.apply(change.clone()), [], "nothing may happen before the world is known");
    }
    let ops = planner.synced();
    (planner, ops)
}

/// The objects that there are after these changes.
fn objects(changes: &[Change]) -> Vec<Change> {
    let mut last: BTreeMap<(u8, String), Option<&Change>> = BTreeMap::new();
    for change in changes {
        let (key, object) = match change {
            Change::Service(service) => ((0, service.name.to_string()), Some(change)),
            Change::ServiceGone(name) => ((0, name.to_string()), None),
            Change::Slice(slice) => ((1, slice.name.to_string()), Some(change)),
            Change::SliceGone(name) => ((1, name.to_string()), None),
            Change::Node(node) => ((2, node.name.to_string()), Some(change)),
            Change::NodeGone(name) => ((2, name.to_string()), None),
            Change::HostPorts(ports) => ((3, ports.name.to_string()), Some(change)),
            Change::HostPortsGone(name) => ((3, name.to_string()), None),
        };
        last.insert(key, object);
    }
    last.into_values().flatten().cloned().collect()
}

fn zone(objects: &[Change]) -> Option<Arc<str>> {
    let of_node = |change: &Change| match change {
        Change::Node(node) if &*node.name == worlds::NODE => node.zone.clone(),
        _ => None,
    };
    objects.iter().find_map(of_node)
}

fn world(objects: &[Change]) -> World {
    let mut world = World::new();
    for change in objects {
        world.apply(change.clone());
    }
    world
}

fn has_clashes(planner: &Planner) -> bool {
    planner.issues().iter().any(|issue| matches!(issue, Issue::FrontendTaken { .. }))
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn from_any_world_to_any_other_every_step_is_safe(
        before in worlds::changes(0..16),
        after in worlds::changes(0..16),
        view in worlds::view(),
    ) {
        let (have, ledger, _) = compile(&world(&objects(&before)), &view, IdLedger::default());
        let (want, _, _) = compile(&world(&objects(&after)), &view, ledger);
        assert_consistent(&have, &view);
        carry_out(&mut have.clone(), &diff(&have, &want), &want);
        prop_assert_eq!(diff(&want, &want), []);
    }

    #[test]
    fn after_a_restart_into_another_world_every_step_is_safe(
        before in worlds::changes(0..16),
        meanwhile in worlds::changes(0..16),
        view in worlds::view(),
    ) {
        let (first, _) = started(&view, &objects(&before), &Tables::default());
        let mut kernel = first.tables().clone();
        let now = objects(&[before, meanwhile].concat());
        let (second, ops) = started(&view, &now, &kernel);
        carry_out(&mut kernel, &ops, second.tables());
        let (fresh, _) = started(&view, &now, &Tables::default());
        prop_assert_eq!(readable(&second), readable(&fresh));
        prop_assert_eq!(second.issues(), fresh.issues());
    }

    #[test]
    fn a_restart_into_the_same_world_changes_nothing(
        changes in worlds::changes(0..24),
        view in worlds::view(),
    ) {
        let (first, _) = started(&view, &objects(&changes), &Tables::default());
        let (second, ops) = started(&view, &objects(&changes), first.tables());
        prop_assert_eq!(readable(&second), readable(&first));
        // A Service that got none of its frontends left no trace by which to know its entry again.
        if !has_clashes(&first) {
            prop_assert_eq!(ops, []);
        }
    }

    #[test]
    fn the_order_in_which_objects_arrive_does_not_matter(
        (sorted, shuffled) in worlds::changes(0..24)
            .prop_map(|changes| objects(&changes))
            .prop_flat_map(|objects| (Just(objects.clone()), Just(objects).prop_shuffle())),
        view in worlds::view(),
    ) {
        let expected = compile(&world(&sorted), &view, IdLedger::default());
        prop_assert_eq!(&compile(&world(&shuffled), &view, IdLedger::default()), &expected);
        prop_assert_eq!(&compile(&world(&sorted), &view, IdLedger::default()), &expected);
    }

    #[test]
    fn step_by_step_leads_where_all_at_once_does(
        changes in worlds::changes(1..24),
        views in prop::collection::vec((0_usize..24, worlds::view()), 1..3),
    ) {
        let mut planner = Planner::new(views[0].1.clone(), Tables::default());
        let mut kernel = Tables::default();
        planner.synced();
        for (index, change) in changes.iter().enumerate() {
            let ops = planner.apply(change.clone());
            carry_out(&mut kernel, &ops, planner.tables());
            for (_, view) in views.iter().filter(|(at, _)| *at == index) {
                let zone = planner.view().zone.clone();
                let ops = planner.set_view(NodeView { zone, ..view.clone() });
                carry_out(&mut kernel, &ops, planner.tables());
            }
            assert_consistent(planner.tables(), planner.view());
        }
        let (fresh, _) = started(planner.view(), &objects(&changes), &Tables::default());
        prop_assert_eq!(&planner.view().zone, &zone(&objects(&changes)));
        prop_assert_eq!(readable(&planner), readable(&fresh));
        prop_assert_eq!(planner.issues(), fresh.issues());
    }
}

proptest! {
    #![proptest_config(cases(6))]

    /// Nothing accumulates, and a table that has changed a thousand times is as good as new.
    #[test]
    fn objects_that_flap_leave_no_trace(
        choice in worlds::changes(12),
        flaps in prop::collection::vec(0_usize..24, 1000),
        view in worlds::view(),
    ) {
        let gone = choice.iter().map(|change| match change.clone() {
            Change::Service(service) => Change::ServiceGone(service.name),
            Change::Slice(slice) => Change::SliceGone(slice.name),
            Change::Node(node) => Change::NodeGone(node.name),
            Change::HostPorts(ports) => Change::HostPortsGone(ports.name),
            other => other,
        });
        let choice: Vec<Change> = choice.iter().cloned().chain(gone).collect();
        let mut planner = Planner::new(view.clone(), Tables::default());
        planner.synced();
        let mut kernel = Tables::default();
        let mut changes = Vec::new();
        for flap in flaps {
            apply_ops(&mut kernel, &planner.apply(choice[flap].clone()));
            changes.push(choice[flap].clone());
        }
        prop_assert_eq!(&kernel, planner.tables());
        let (fresh, _) = started(&view, &objects(&changes), &Tables::default());
        prop_assert_eq!(&planner.view().zone, &zone(&objects(&changes)));
        prop_assert_eq!(readable(&planner), readable(&fresh));
        prop_assert_eq!(planner.issues(), fresh.issues());
    }
}
