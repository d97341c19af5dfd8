//! The operations that turn one state of the tables into another, each prefix of them safe.
//!
//! Safe: what a frontend leads to at any moment is what it led to before or what it shall lead to, wholly;
//! it may lead nowhere only if it is new, going, or must cross at once from one entry to another that both
//! change (two ports of a Service that swap node ports as their backends change). The order that gives this:
//! 1. new entries and source ranges, to which nothing leads yet; cluster IPs;
//! 2. frontends that leave: deleted, or moved to entries that are already as they shall be;
//! 3. entries that change, to which only frontends that stay lead now;
//! 4. all other frontends;
//! 5. what nothing leads to any more.

use crate::tables::{Frontend, FrontendKey, Op, ServiceId, Tables};

/// The operations that turn `have` into `want`; none if they are equal.
pub fn diff(have: &Tables, want: &Tables) -> Vec<Op> {
    let change = Difference { have, want };
    let mut ops = Vec::new();
    change.put_new(&mut ops);
    let moved = change.leave(&mut ops);
    change.change_entries(&mut ops);
    change.put_frontends(&moved, &mut ops);
    change.delete(&mut ops);
    ops
}

/// Carries operations out on tables in memory.
pub fn apply_ops(tables: &mut Tables, ops: &[Op]) {
    for op in ops {
        match op.clone() {
            Op::PutService { id, entry } => drop(tables.services.insert(id, entry)),
            Op::PutSourceRanges { id, ranges } => drop(tables.source_ranges.insert(id, ranges)),
            Op::PutFrontend { key, frontend } => drop(tables.frontends.insert(key, frontend)),
            Op::PutClusterIp { ip } => drop(tables.cluster_ips.insert(ip)),
            Op::DeleteFrontend { key } => drop(tables.frontends.remove(&key)),
            Op::DeleteClusterIp { ip } => drop(tables.cluster_ips.remove(&ip)),
            Op::DeleteSourceRanges { id } => drop(tables.source_ranges.remove(&id)),
            Op::DeleteService { id } => drop(tables.services.remove(&id)),
        }
    }
}

struct Difference<'a> {
    have: &'a Tables,
    want: &'a Tables,
}

impl Difference<'_> {
    /// Whether an entry that exists before and after is another one after.
    fn changes(&self, id: ServiceId) -> bool {
        let entry = (self.have.services.get(&id), self.want.services.get(&id));
        let ranges = (self.have.source_ranges.get(&id), self.want.source_ranges.get(&id));
        matches!(entry, (Some(a), Some(b)) if a != b) || matches!(ranges, (Some(a), Some(b)) if a != b)
    }

    fn put_new(&self, ops: &mut Vec<Op>) {
        for (id, entry) in &self.want.services {
            if !self.have.services.contains_key(id) {
                ops.push(Op::PutService { id: *id, entry: entry.clone() });
            }
        }
        for (id, ranges) in &self.want.source_ranges {
            if !self.have.source_ranges.contains_key(id) {
                ops.push(Op::PutSourceRanges { id: *id, ranges: ranges.clone() });
            }
        }
        ops.extend(
            self.want.cluster_ips.difference(&self.have.cluster_ips).map(|ip| Op::PutClusterIp { ip: *ip }),
        );
    }

    /// Returns the frontends that already are as they shall be.
    fn leave(&self, ops: &mut Vec<Op>) -> Vec<FrontendKey> {
        let mut moved = Vec::new();
        for (key, before) in &self.have.frontends {
            match self.want.frontends.get(key) {
                None => ops.push(Op::DeleteFrontend { key: *key }),
                Some(after) if self.must_leave_early(before, after) => {
                    if self.changes(after.service) {
                        ops.push(Op::DeleteFrontend { key: *key });
                    } else {
                        ops.push(Op::PutFrontend { key: *key, frontend: *after });
                        moved.push(*key);
                    }
                }
                Some(_) => {}
            }
        }
        moved
    }

    fn must_leave_early(&self, before: &Frontend, after: &Frontend) -> bool {
        before.service != after.service && self.changes(before.service)
    }

    fn change_entries(&self, ops: &mut Vec<Op>) {
        for (id, entry) in &self.want.services {
            if self.have.services.get(id).is_some_and(|before| before != entry) {
                ops.push(Op::PutService { id: *id, entry: entry.clone() });
            }
        }
        for (id, ranges) in &self.want.source_ranges {
            if self.have.source_ranges.get(id).is_some_and(|before| before != ranges) {
                ops.push(Op::PutSourceRanges { id: *id, ranges: ranges.clone() });
            }
        }
    }

    fn put_frontends(&self, moved: &[FrontendKey], ops: &mut Vec<Op>) {
        for (key, after) in &self.want.frontends {
            if self.have.frontends.get(key) != Some(after) && moved.binary_search(key).is_err() {
                ops.push(Op::PutFrontend { key: *key, frontend: *after });
            }
        }
    }

    fn delete(&self, ops: &mut Vec<Op>) {
        for ip in self.have.cluster_ips.difference(&self.want.cluster_ips) {
            ops.push(Op::DeleteClusterIp { ip: *ip });
        }
        for id in self.have.source_ranges.keys() {
            if !self.want.source_ranges.contains_key(id) {
                ops.push(Op::DeleteSourceRanges { id: *id });
            }
        }
        for id in self.have.services.keys() {
            if !self.want.services.contains_key(id) {
                ops.push(Op::DeleteService { id: *id });
            }
        }
    }
}

#[cfg(test)]
mod tests;
