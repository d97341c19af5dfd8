//! Carrying operations out although the kernel refuses some: what one Service cannot have must not keep
//! others from theirs, and no frontend may lead to what is not there.

use std::collections::BTreeSet;
use std::time::Instant;

use daymark_dataplane::ApplyError;
use daymark_model::Protocol;
use daymark_plan::diff;
use daymark_plan::tables::{Op, ServiceId, Tables};

use super::Agent;
use super::events::MOST_TOLD;

/// What the kernel refused.
#[derive(Debug, Default)]
pub struct Refused {
    /// The entry that goes without, if the operation was one entry's, and why.
    pub operations: Vec<(Option<ServiceId>, ApplyError)>,
}

impl Refused {
    /// Whether a full map is all that is wrong. The data plane is sound then, only too small.
    pub fn is_for_want_of_room(&self) -> bool {
        self.operations.iter().all(|(_, error)| error.source.is_full())
    }
}

/// The entry that an operation is about.
fn entry_of(op: &Op) -> Option<ServiceId> {
    match op {
        Op::PutService { id, .. }
        | Op::PutSourceRanges { id, .. }
        | Op::DeleteSourceRanges { id }
        | Op::DeleteService { id } => Some(*id),
        Op::PutFrontend { frontend, .. } => Some(frontend.service),
        Op::PutClusterIp { .. } | Op::DeleteFrontend { .. } | Op::DeleteClusterIp { .. } => None,
    }
}

/// What follows from operations that are not in effect.
struct LeftOut<'a> {
    /// What the kernel held before.
    have: &'a Tables,
    /// Entries that are not as they should be: no more frontends may lead there.
    incomplete: BTreeSet<ServiceId>,
    /// Entries that frontends still lead to.
    needed: BTreeSet<ServiceId>,
}

impl LeftOut<'_> {
    fn forbids(&self, op: &Op) -> bool {
        match op {
            Op::PutFrontend { frontend, .. } => self.incomplete.contains(&frontend.service),
            Op::PutService { id, .. } | Op::PutSourceRanges { id, .. } => self.incomplete.contains(id),
            Op::DeleteService { id } | Op::DeleteSourceRanges { id } => self.needed.contains(id),
            Op::PutClusterIp { .. } | Op::DeleteFrontend { .. } | Op::DeleteClusterIp { .. } => false,
        }
    }

    fn add(&mut self, op: &Op) {
        match op {
            Op::PutService { id, .. } | Op::PutSourceRanges { id, .. } => {
                self.incomplete.insert(*id);
            }
            // It leads where it led.
            Op::PutFrontend { key, .. } | Op::DeleteFrontend { key } => {
                self.needed.extend(self.have.frontends.get(key).map(|before| before.service));
            }
            _ => {}
        }
    }
}

/// Applies operations that lead on from `have`, one by one and in order, leaving out what the kernel refuses
/// and what would not be safe without that.
pub fn carry_out(
    ops: &[Op],
    have: &Tables,
    mut apply: impl FnMut(&[Op]) -> Result<(), ApplyError>,
) -> Refused {
    let mut refused = Refused::default();
    let mut left_out = LeftOut { have, incomplete: BTreeSet::new(), needed: BTreeSet::new() };
    for op in ops {
        if left_out.forbids(op) {
            left_out.add(op);
            continue;
        }
        let Err(error) = apply(std::slice::from_ref(op)) else { continue };
        left_out.add(op);
        refused.operations.push((entry_of(op), error));
        if let Op::PutService { id, .. } = op
            && !have.services.contains_key(id)
        {
            // What of it was written before the refusal takes room from others. Nothing leads there, and
            // should this fail too, then with the same cause.
            let _ = apply(&[Op::DeleteService { id: *id }]);
        }
    }
    refused
}

impl Agent {
    /// Carries out what follows from changes. Once the kernel has refused something it is asked what it holds
    /// each time, since operations build on each other.
    pub(super) fn carry_out(&mut self, ops: &[Op]) {
        if ops.is_empty() {
            if !self.owing {
                self.health.metrics.at_rest();
            }
            return self.settled();
        }
        if self.owing {
            return self.catch_up();
        }
        let began = Instant::now();
        self.stats_are_stale = true;
        if let Err(why) = self.data_plane.apply(ops) {
            tracing::warn!(%why, "the kernel refuses operations");
            return self.catch_up();
        }
        self.settled();
        self.health.metrics.synced(began.elapsed());
        if ops.iter().any(|op| self.is_about_udp(op)) {
            self.end_stuck_sockets();
        }
    }

    /// Whether an operation may take a backend from sockets. An entry that is gone left by its frontends.
    fn is_about_udp(&self, op: &Op) -> bool {
        match op {
            Op::PutService { id, .. } => {
                self.planner.entry_key(*id).is_none_or(|key| key.protocol == Protocol::Udp)
            }
            Op::PutFrontend { key, .. } | Op::DeleteFrontend { key } => key.protocol == Protocol::Udp,
            _ => false,
        }
    }

    /// Nobody is told before the whole cluster is known.
    fn settled(&mut self) {
        if self.synced {
            self.health.settled(!self.broken);
        }
    }

    /// Asks the kernel what it holds, and tries again what it lacks.
    pub(super) fn catch_up(&mut self) {
        let began = Instant::now();
        self.owing = true;
        self.make_room();
        let refused = match self.data_plane.reload() {
            Ok(have) => {
                carry_out(&diff(&have, self.planner.tables()), &have, |ops| self.data_plane.apply(ops))
            }
            Err(why) => {
                tracing::error!(%why, "cannot read what the kernel holds");
                self.broken = true;
                return self.settled();
            }
        };
        self.owing = !refused.operations.is_empty();
        self.broken = !refused.is_for_want_of_room();
        self.settled();
        self.health.metrics.refused(refused.operations.len());
        if !self.owing {
            self.health.metrics.synced(began.elapsed());
        }
        self.tell_of(&refused);
        self.end_stuck_sockets();
    }

    /// Says what was refused, once for each entry until it is mended.
    fn tell_of(&mut self, refused: &Refused) {
        let mut told = BTreeSet::new();
        let mut more = 0;
        for (id, why) in &refused.operations {
            if id.is_some_and(|id| self.refused.contains(&id)) {
                continue;
            }
            match id.and_then(|id| self.planner.entry_key(id)) {
                Some(key) if told.contains(&key.service) => {}
                Some(_) if told.len() == MOST_TOLD => more += 1,
                Some(key) => {
                    self.events.refused(&key.service, &why.source.to_string());
                    told.insert(key.service.clone());
                }
                None => tracing::error!("cannot program the data plane: {why}"),
            }
        }
        if more > 0 {
            let tell = self.events.about_this_node("ProgrammingFailed");
            tell(format!(
                "{more} more ports of Services cannot be programmed; what was programmed before stays"
            ));
        }
        self.refused = refused.operations.iter().filter_map(|(id, _)| *id).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use daymark_dataplane::{Config, DataPlane, Sizes};
    use daymark_plan::apply_ops;
    use daymark_plan::tables::{Frontend, FrontendKey, FrontendKind, ServiceEntry, Slot};

    use super::*;

    /// Frontends of ports that lead to entries.
    fn tables(frontends: &[(u16, ServiceId)], entries: &[ServiceId]) -> Tables {
        let kind = FrontendKind::ClusterIp;
        let frontend = |(port, service): &(u16, ServiceId)| {
            let key = FrontendKey { ip: IpAddr::from([10, 96, 0, 1]), port: *port, protocol: Protocol::Tcp };
            (key, Frontend { service: *service, kind, local_only: false, source_checked: false })
        };
        Tables {
            frontends: frontends.iter().map(frontend).collect(),
            services: entries.iter().map(|id| (*id, ServiceEntry::default())).collect(),
            ..Tables::default()
        }
    }

    /// What a kernel without room for some entries holds afterwards, and what it refused.
    fn run(have: &Tables, want: &Tables, full_for: &[ServiceId]) -> (Tables, Vec<Option<ServiceId>>) {
        let mut kernel = have.clone();
        let refused = carry_out(&diff(have, want), have, |ops| {
            if matches!(&ops[0], Op::PutService { id, .. } if full_for.contains(id)) {
                return Err(ApplyError::full(0));
            }
            apply_ops(&mut kernel, ops);
            let leads_nowhere = |f: &Frontend| !kernel.services.contains_key(&f.service);
            assert!(!kernel.frontends.values().any(leads_nowhere), "a frontend leads nowhere after {ops:?}");
            Ok(())
        });
        assert!(refused.is_for_want_of_room());
        (kernel, refused.operations.iter().map(|(id, _)| *id).collect())
    }

    #[test]
    fn one_that_does_not_fit_keeps_nobody_else_out_and_gets_no_frontend() {
        let want = tables(&[(1, 1), (2, 2), (3, 3)], &[1, 2, 3]);
        let (kernel, refused) = run(&Tables::default(), &want, &[2]);
        assert_eq!(kernel, tables(&[(1, 1), (3, 3)], &[1, 3]));
        assert_eq!(refused, [Some(2)]);
        let (kernel, refused) = run(&Tables::default(), &want, &[1, 3]);
        assert_eq!((kernel, refused), (tables(&[(2, 2)], &[2]), vec![Some(1), Some(3)]));
    }

    #[test]
    fn a_frontend_that_cannot_move_keeps_the_entry_that_it_has() {
        let (have, want) = (tables(&[(1, 1), (4, 4)], &[1, 4]), tables(&[(1, 2)], &[2]));
        let (kernel, refused) = run(&have, &want, &[2]);
        assert_eq!(kernel, tables(&[(1, 1)], &[1]));
        assert_eq!(refused, [Some(2)]);
        let (kernel, refused) = run(&kernel, &want, &[]);
        assert_eq!((kernel, refused), (want, vec![]), "once there is room all is as it should be");
    }

    /// Leaves no mount behind, also when a test fails.
    struct Removed<'a>(&'a std::path::Path);

    impl Drop for Removed<'_> {
        fn drop(&mut self) {
            daymark_dataplane::remove(self.0).expect("nothing is left");
        }
    }

    /// The real maps, with room for one entry of 17 slots beside another of 18, as the first 14 take none.
    #[test]
    fn a_full_map_leaves_what_is_live_alone_and_serves_what_fits() {
        let folder = tempfile::tempdir().expect("a folder");
        let bpf = folder.path().join("bpf");
        let _removed = Removed(&bpf);
        let sizes = Sizes { slots: 8, ..Sizes::default() };
        let node_ips = vec![IpAddr::from([192, 0, 2, 1])];
        let config = Config { node_ips, sizes, ..Config::new(&bpf) };
        let (mut plane, _) = DataPlane::open(config).expect("a data plane");
        let entry = |backends: u8| ServiceEntry {
            generation: 1,
            slots: (1..=backends)
                .map(|n| Slot { ip: [10, 244, 0, n].into(), port: 80, local: false })
                .collect(),
            ..ServiceEntry::default()
        };
        let with = |backends: &[(ServiceId, u8)]| {
            let ids: Vec<ServiceId> = backends.iter().map(|(id, _)| *id).collect();
            let ports: Vec<(u16, ServiceId)> = ids.iter().map(|id| (*id as u16, *id)).collect();
            let services = backends.iter().map(|(id, backends)| (*id, entry(*backends))).collect();
            Tables { services, ..tables(&ports, &ids) }
        };
        let live = with(&[(1, 18)]);
        plane.apply(&diff(&Tables::default(), &live)).expect("there is room");
        // The second does not fit and must not take the third one's room.
        let want = with(&[(1, 18), (2, 20), (3, 17)]);
        let refused = carry_out(&diff(&live, &want), &live, |ops| plane.apply(ops));
        assert_eq!(refused.operations.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [Some(2)]);
        assert!(refused.is_for_want_of_room(), "{refused:?}");
        let have = plane.reload().expect("readable");
        assert_eq!(have, with(&[(1, 18), (3, 17)]));
        let smaller = with(&[(2, 20)]);
        let first = carry_out(&diff(&have, &smaller), &have, |ops| plane.apply(ops));
        assert_eq!(first.operations.len(), 1, "new entries come before others go");
        let have = plane.reload().expect("readable");
        assert!(carry_out(&diff(&have, &smaller), &have, |ops| plane.apply(ops)).operations.is_empty());
        assert_eq!(plane.reload().expect("readable"), smaller);
    }
}
