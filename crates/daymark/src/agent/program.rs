//! Carrying operations out although the kernel refuses some: what one Service cannot have must not keep
//! others from theirs.

use std::collections::BTreeSet;

use daymark_dataplane::ApplyError;
use daymark_plan::tables::{Op, ServiceId};

/// What the kernel refused.
#[derive(Debug, Default)]
pub struct Refused {
    /// The entry that goes without, if the operation was one entry's, and why.
    pub operations: Vec<(Option<ServiceId>, ApplyError)>,
}

impl Refused {
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

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

/// Applies operations in order. Where one is refused, those of its entry are left out and the others go on:
/// an entry keeps what it had, and no frontend is led to one that is not there.
pub fn carry_out(mut ops: Vec<Op>, mut apply: impl FnMut(&[Op]) -> Result<(), ApplyError>) -> Refused {
    let mut refused = Refused::default();
    let mut without = BTreeSet::new();
    while !ops.is_empty() {
        let Err(error) = apply(&ops) else { break };
        let mut rest = ops.split_off(error.index.min(ops.len() - 1));
        let entry = entry_of(&rest[0]);
        without.extend(entry);
        rest.remove(0);
        rest.retain(|op| entry_of(op).is_none_or(|id| !without.contains(&id)));
        refused.operations.push((entry, error));
        ops = rest;
    }
    refused
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use daymark_model::Protocol;
    use daymark_plan::tables::{Frontend, FrontendKey, FrontendKind, ServiceEntry};

    use super::*;

    fn put(id: ServiceId) -> Op {
        Op::PutService { id, entry: ServiceEntry::default() }
    }

    fn lead(port: u16, service: ServiceId) -> Op {
        let key = FrontendKey { ip: IpAddr::from([10, 96, 0, 1]), port, protocol: Protocol::Tcp };
        let kind = FrontendKind::ClusterIp;
        let frontend = Frontend { service, kind, local_only: false, source_checked: false };
        Op::PutFrontend { key, frontend }
    }

    /// A kernel without room for some entries.
    fn run(ops: Vec<Op>, full_for: &[ServiceId]) -> (Vec<Op>, Refused) {
        let mut done = Vec::new();
        let refused = carry_out(ops, |ops| {
            for (index, op) in ops.iter().enumerate() {
                if matches!(op, Op::PutService { id, .. } if full_for.contains(id)) {
                    return Err(ApplyError::full(index));
                }
                done.push(op.clone());
            }
            Ok(())
        });
        (done, refused)
    }

    #[test]
    fn one_that_does_not_fit_keeps_nobody_else_out_and_gets_no_frontend() {
        let ops = vec![put(1), put(2), put(3), lead(1, 1), lead(2, 2), lead(3, 3)];
        let (done, refused) = run(ops, &[2]);
        assert_eq!(done, [put(1), put(3), lead(1, 1), lead(3, 3)]);
        assert_eq!(refused.operations.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [Some(2)]);
        assert!(refused.is_for_want_of_room());
    }

    #[test]
    fn every_one_that_does_not_fit_is_told() {
        let (done, refused) = run(vec![put(1), put(2), put(3)], &[1, 3]);
        assert_eq!((done, refused.operations.len()), (vec![put(2)], 2));
        assert!(run(vec![], &[1]).1.is_empty());
    }
}
