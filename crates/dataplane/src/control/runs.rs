//! Operations of one kind that stand together, to be written in batches.

use std::net::IpAddr;

use daymark_plan::tables::{Frontend, FrontendKey, Op, ServiceEntry, ServiceId};

/// At most this many slots are written before their services flip, and services flip at once, to bound memory and delay.
const SLOTS_AT_ONCE: usize = 16_384;
const SERVICES_AT_ONCE: usize = 4096;

/// The operations of one kind that stand together.
pub(super) enum Run<'a> {
    Services(Vec<(ServiceId, &'a ServiceEntry)>),
    Frontends(Vec<(&'a FrontendKey, &'a Frontend)>),
    DeletedFrontends(Vec<&'a FrontendKey>),
    ClusterIps(Vec<IpAddr>),
    One(&'a Op),
}

impl Run<'_> {
    pub fn len(&self) -> usize {
        match self {
            Run::Services(run) => run.len(),
            Run::Frontends(run) => run.len(),
            Run::DeletedFrontends(run) => run.len(),
            Run::ClusterIps(run) => run.len(),
            Run::One(_) => 1,
        }
    }
}

/// Splits off the longest run at the front.
pub(super) fn next_run(ops: &[Op]) -> Run<'_> {
    match &ops[0] {
        Op::PutService { .. } => Run::Services(service_run(ops)),
        Op::PutFrontend { .. } => Run::Frontends(
            ops.iter()
                .map_while(|op| match op {
                    Op::PutFrontend { key, frontend } => Some((key, frontend)),
                    _ => None,
                })
                .collect(),
        ),
        Op::DeleteFrontend { .. } => Run::DeletedFrontends(
            ops.iter()
                .map_while(|op| match op {
                    Op::DeleteFrontend { key } => Some(key),
                    _ => None,
                })
                .collect(),
        ),
        Op::PutClusterIp { .. } => Run::ClusterIps(
            ops.iter()
                .map_while(|op| match op {
                    Op::PutClusterIp { ip } => Some(*ip),
                    _ => None,
                })
                .collect(),
        ),
        op => Run::One(op),
    }
}

/// A service occurs once in a run, since its second change must see the first one's parity: ids ascend.
fn service_run(ops: &[Op]) -> Vec<(ServiceId, &ServiceEntry)> {
    let mut run: Vec<(ServiceId, &ServiceEntry)> = Vec::new();
    let mut slots = 0;
    for op in ops {
        let Op::PutService { id, entry } = op else { break };
        if run.last().is_some_and(|(last, _)| last >= id)
            || run.len() == SERVICES_AT_ONCE
            || (slots > 0 && slots + entry.slots.len() > SLOTS_AT_ONCE)
        {
            break;
        }
        slots += entry.slots.len();
        run.push((*id, entry));
    }
    run
}
