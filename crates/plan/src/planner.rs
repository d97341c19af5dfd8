//! The [`Planner`]: owns the world and the tables that follow from it, and turns each change into operations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use daymark_model::world::HashMap;
use daymark_model::{Change, ObjectName, Touched, World};

use crate::compile::{CompiledService, EntryKey, WantedFrontend, compile_service};
use crate::diff::{apply_ops, diff};
use crate::issue::Issue;
use crate::ledger::IdLedger;
use crate::tables::{Frontend, FrontendKey, FrontendKind, Op, ServiceEntry, ServiceId, Tables};
use crate::view::NodeView;

/// Everything that `view`'s node needs for the Services of `world`, compiled at once.
pub fn compile(world: &World, view: &NodeView, ledger: IdLedger) -> (Tables, IdLedger, Vec<Issue>) {
    let mut planner = Planner::new(view.clone(), Tables::default());
    planner.world = world.clone();
    planner.ledger = ledger;
    planner.synced();
    let issues = planner.issues();
    (planner.tables, planner.ledger, issues)
}

/// What one Service holds at present.
#[derive(Clone, Debug, Default)]
struct Part {
    cluster_ips: Box<[IpAddr]>,
    entries: Box<[PartEntry]>,
}

#[derive(Clone, Debug)]
struct PartEntry {
    id: ServiceId,
    frontends: Box<[WantedFrontend]>,
}

/// Until [`Planner::synced`], changes only fill the world, and the tables stay as they were found.
#[derive(Clone, Debug)]
pub struct Planner {
    view: NodeView,
    world: World,
    tables: Tables,
    ledger: IdLedger,
    parts: HashMap<ObjectName, Part>,
    /// The Services that want a frontend and did not get it.
    refused: BTreeMap<FrontendKey, BTreeSet<ObjectName>>,
    /// Issues of Services, other Services aside; only of those that have any.
    own_issues: BTreeMap<ObjectName, Vec<Issue>>,
    /// How many Services have a cluster IP.
    cluster_ip_users: HashMap<IpAddr, u32>,
    synced: bool,
}

impl Planner {
    /// Starts from the tables that the kernel holds (empty ones at the first start).
    pub fn new(view: NodeView, have: Tables) -> Self {
        Self {
            view,
            world: World::new(),
            ledger: IdLedger::restore(&have),
            tables: have,
            parts: HashMap::default(),
            refused: BTreeMap::new(),
            own_issues: BTreeMap::new(),
            cluster_ip_users: HashMap::default(),
            synced: false,
        }
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    pub fn view(&self) -> &NodeView {
        &self.view
    }

    /// What the kernel holds once all operations so far are carried out.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The entry that an id stands for, for messages and tables that people read.
    pub fn entry_key(&self, id: ServiceId) -> Option<&EntryKey> {
        self.ledger.owner(id)
    }

    /// What objects ask for in vain at present.
    pub fn issues(&self) -> Vec<Issue> {
        let mut taken: BTreeMap<(&ObjectName, FrontendKind, &ObjectName), Vec<FrontendKey>> = BTreeMap::new();
        for (key, refused) in &self.refused {
            let owner = self.tables.frontends.get(key).and_then(|served| self.ledger.owner(served.service));
            let Some(holder) = owner.map(|owner| &owner.service) else { continue };
            for name in refused {
                let claim = self.parts.get(name).and_then(|part| claim(part, *key));
                let Some(claim) = claim else { continue };
                taken.entry((name, claim.kind, holder)).or_default().push(*key);
            }
        }
        let taken = taken.into_iter().map(|((service, kind, holder), frontends)| Issue::FrontendTaken {
            service: service.clone(),
            kind,
            holder: holder.clone(),
            frontends,
        });
        taken.chain(self.own_issues.values().flatten().cloned()).collect()
    }

    /// Takes one change over; the operations that follow from it.
    pub fn apply(&mut self, change: Change) -> Vec<Op> {
        self.apply_touching(change).1
    }

    /// As [`Planner::apply`], and what the change bears on, for zones and announcements.
    pub fn apply_touching(&mut self, change: Change) -> (Touched, Vec<Op>) {
        let touched = self.world.apply(change);
        let ops = self.update(&touched);
        (touched, ops)
    }

    /// The operations that follow from changes to the world that touched these objects.
    fn update(&mut self, touched: &Touched) -> Vec<Op> {
        if touched.nodes.contains(&self.view.name) {
            let zone = self.world.node(&self.view.name).and_then(|node| node.zone.clone());
            if zone != self.view.zone {
                return self.set_view(NodeView { zone, ..self.view.clone() });
            }
        }
        if !self.synced {
            return Vec::new();
        }
        self.recompile(&touched.services)
    }

    /// Compiles anew for another view of the node, e.g. after its addresses changed.
    pub fn set_view(&mut self, view: NodeView) -> Vec<Op> {
        if view == self.view {
            return Vec::new();
        }
        self.view = view;
        if !self.synced {
            return Vec::new();
        }
        let mut all = self.world.everything().services;
        all.extend(self.parts.keys().cloned());
        self.recompile(&all)
    }

    /// Says that the world is complete: the operations from the tables found at start to those that it needs.
    /// Only now may what was found and is wanted no more be removed.
    pub fn synced(&mut self) -> Vec<Op> {
        self.synced_touching().1
    }

    /// As [`Planner::synced`], and all that there is, for zones and announcements.
    pub fn synced_touching(&mut self) -> (Touched, Vec<Op>) {
        if self.synced {
            return Default::default();
        }
        self.synced = true;
        let all = self.world.everything();
        self.reserve(all.services.len());
        let want = self.rebuild(&all.services, Batch::of(&self.tables)).want;
        let ops = diff(&self.tables, &want);
        self.tables = want;
        self.ledger.forget_restored();
        (all, ops)
    }

    /// Nearly every Service has one entry with one cluster IP.
    fn reserve(&mut self, services: usize) {
        self.parts.reserve(services);
        self.ledger.reserve(services);
        self.cluster_ip_users.reserve(services);
    }

    /// The operations that follow from these Services, whatever became of them.
    fn recompile(&mut self, names: &BTreeSet<ObjectName>) -> Vec<Op> {
        let Batch { have, want, .. } = self.rebuild(names, Batch::default());
        let ops = diff(&have, &want);
        apply_ops(&mut self.tables, &ops);
        ops
    }

    /// Compiles these Services anew: the tables before and after, restricted to what they bear on and to
    /// what `batch` holds already.
    fn rebuild<'n>(&mut self, names: &'n BTreeSet<ObjectName>, mut batch: Batch<'n>) -> Batch<'n> {
        batch.entries.reserve_exact(names.len());
        batch.frontends.reserve_exact(names.len());
        for name in names {
            let before = self.parts.remove(name).unwrap_or_default();
            let mut compiled = compile_service(&self.world, &self.view, name);
            self.own_issues.remove(name);
            if !compiled.issues.is_empty() {
                self.own_issues.insert(name.clone(), std::mem::take(&mut compiled.issues));
            }
            self.take_out(&before, &mut batch);
            let part = self.put_in(name, compiled, &mut batch);
            self.release_ids(&before, &part);
            if !part.entries.is_empty() || !part.cluster_ips.is_empty() {
                self.parts.insert(name.clone(), part);
            }
        }
        batch.frontends.sort_unstable_by_key(|wish| wish.key);
        let mut wanted = Vec::with_capacity(batch.frontends.len());
        for same in std::mem::take(&mut batch.frontends).chunk_by(|one, other| one.key == other.key) {
            let key = same[0].key;
            if let Some(frontend) = self.tables.frontends.get(&key).filter(|_| !batch.whole) {
                batch.have.frontends.insert(key, *frontend);
            }
            wanted.extend(self.elect(key, same).map(|frontend| (key, frontend)));
        }
        batch.want.services = std::mem::take(&mut batch.entries).into_iter().collect();
        batch.want.frontends = wanted.into_iter().collect();
        let ips: BTreeSet<IpAddr> = std::mem::take(&mut batch.cluster_ips).into_iter().collect();
        if !batch.whole {
            batch.have.cluster_ips = ips.intersection(&self.tables.cluster_ips).copied().collect();
        }
        batch.want.cluster_ips =
            ips.into_iter().filter(|ip| self.cluster_ip_users.contains_key(ip)).collect();
        batch
    }

    fn take_out(&mut self, part: &Part, batch: &mut Batch<'_>) {
        for entry in &part.entries {
            self.copy_entry(entry.id, batch);
            for frontend in &entry.frontends {
                batch.frontends.push(Wish { key: frontend.key, claim: None });
            }
        }
        for ip in &part.cluster_ips {
            batch.cluster_ips.push(*ip);
            if let Some(users) = self.cluster_ip_users.get_mut(ip) {
                *users -= 1;
                if *users == 0 {
                    self.cluster_ip_users.remove(ip);
                }
            }
        }
    }

    fn put_in<'n>(&mut self, name: &'n ObjectName, compiled: CompiledService, batch: &mut Batch<'n>) -> Part {
        for ip in &compiled.cluster_ips {
            batch.cluster_ips.push(*ip);
            *self.cluster_ip_users.entry(*ip).or_insert(0) += 1;
        }
        let mut entries = Vec::with_capacity(compiled.entries.len());
        for compiled in compiled.entries {
            let id = self.ledger.claim(&compiled);
            self.copy_entry(id, batch);
            let entry = with_generation(compiled.entry, self.tables.services.get(&id));
            batch.entries.push((id, entry));
            if let Some(ranges) = compiled.source_ranges {
                batch.want.source_ranges.insert(id, ranges);
            }
            let wish = |wanted: &WantedFrontend| Wish {
                key: wanted.key,
                claim: Some((name, wanted.leading_to(id))),
            };
            batch.frontends.extend(compiled.frontends.iter().map(wish));
            entries.push(PartEntry { id, frontends: compiled.frontends.into() });
        }
        Part { cluster_ips: compiled.cluster_ips.into(), entries: entries.into() }
    }

    /// Copies what the tables hold under `id`.
    fn copy_entry(&self, id: ServiceId, batch: &mut Batch<'_>) {
        if batch.whole {
            return;
        }
        let have = &mut batch.have;
        if let Some(entry) = self.tables.services.get(&id) {
            have.services.insert(id, entry.clone());
        }
        if let Some(ranges) = self.tables.source_ranges.get(&id) {
            have.source_ranges.insert(id, ranges.clone());
        }
    }

    fn release_ids(&mut self, before: &Part, after: &Part) {
        for entry in &before.entries {
            if !after.entries.iter().any(|kept| kept.id == entry.id) {
                self.ledger.release(entry.id);
            }
        }
    }

    /// Who gets a frontend: among the Services just recompiled that want it, its present owner and those
    /// refused so far.
    fn elect(&mut self, key: FrontendKey, wishes: &[Wish<'_>]) -> Option<Frontend> {
        let owner = self.tables.frontends.get(&key).and_then(|frontend| self.ledger.owner(frontend.service));
        let refused = self.refused.remove(&key).unwrap_or_default();
        let mut claims = wishes.iter().filter_map(|wish| wish.claim);
        let (first, more) = (claims.next(), claims.next().is_some());
        if let Some((name, frontend)) = first
            && !more
            && refused.is_empty()
            && owner.is_none_or(|owner| owner.service == *name)
        {
            return Some(frontend);
        }
        let claimants = wishes.iter().filter_map(|wish| Some(wish.claim?.0));
        let mut candidates: Vec<&ObjectName> = claimants.collect();
        candidates.extend(owner.map(|owner| &owner.service));
        candidates.extend(&refused);
        candidates.sort_unstable();
        candidates.dedup();
        let mut claims: Vec<(&ObjectName, Frontend)> = candidates
            .into_iter()
            .filter_map(|name| Some((name, claim(self.parts.get(name)?, key)?)))
            .collect();
        claims.sort_by_key(|(name, frontend)| (frontend.kind, *name));
        let mut claims = claims.into_iter();
        let winner = claims.next().map(|(_, frontend)| frontend);
        let refused: BTreeSet<ObjectName> = claims.map(|(name, _)| name.clone()).collect();
        if !refused.is_empty() {
            self.refused.insert(key, refused);
        }
        winner
    }
}

/// What a recompilation bears on: the tables before and after, restricted to it.
#[derive(Default)]
struct Batch<'n> {
    /// It bears on everything: the tables before are all that there are, and are not copied to `have`.
    whole: bool,
    have: Tables,
    want: Tables,
    /// What becomes `want.services`, in any order.
    entries: Vec<(ServiceId, ServiceEntry)>,
    /// In any order.
    frontends: Vec<Wish<'n>>,
    cluster_ips: Vec<IpAddr>,
}

/// A frontend that a recompilation bears on, and the recompiled Service that wants it.
struct Wish<'n> {
    key: FrontendKey,
    claim: Option<(&'n ObjectName, Frontend)>,
}

impl Batch<'_> {
    /// Everything in `tables` may have to go.
    fn of(tables: &Tables) -> Self {
        Self {
            whole: true,
            have: Tables::default(),
            want: Tables::default(),
            entries: Vec::new(),
            frontends: tables.frontends.keys().map(|key| Wish { key: *key, claim: None }).collect(),
            cluster_ips: tables.cluster_ips.iter().copied().collect(),
        }
    }
}

/// The claim of a Service to a frontend; the strongest, should several of its ports want it.
fn claim(part: &Part, key: FrontendKey) -> Option<Frontend> {
    let of_entry = |entry: &PartEntry| {
        let wanted = entry.frontends.iter().find(|wanted| wanted.key == key)?;
        Some(wanted.leading_to(entry.id))
    };
    part.entries.iter().filter_map(of_entry).min_by_key(|frontend| frontend.kind)
}

/// The generation grows exactly when what is in slots changes.
fn with_generation(entry: ServiceEntry, before: Option<&ServiceEntry>) -> ServiceEntry {
    let generation = match before {
        None => 1,
        Some(before) if before.slots == entry.slots && before.draining == entry.draining => before.generation,
        Some(before) => before.generation.wrapping_add(1),
    };
    ServiceEntry { generation, ..entry }
}

#[cfg(test)]
mod tests;
