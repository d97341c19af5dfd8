//! Who holds which id. Ids outlive the process: they are restored from the tables that the kernel holds.

use std::collections::BTreeMap;

use daymark_model::world::HashMap;

use crate::compile::{CompiledEntry, EntryKey};
use crate::tables::{FrontendKey, ServiceId, Tables};

/// The ids of service entries. An id is not given away again soon after its release, so that kernel state
/// that still names it (affinity, flows) cannot reach a stranger's backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdLedger {
    ids: HashMap<EntryKey, ServiceId>,
    owners: HashMap<ServiceId, EntryKey>,
    /// Ids found in the kernel, by the frontends that lead to them.
    restored: BTreeMap<FrontendKey, ServiceId>,
    last: ServiceId,
}

impl IdLedger {
    /// A ledger that gives entries the ids under which `tables` already serves their frontends.
    pub fn restore(tables: &Tables) -> Self {
        let restored = tables.frontends.iter().map(|(key, frontend)| (*key, frontend.service)).collect();
        let last = tables.services.keys().next_back().copied().unwrap_or(0);
        Self { restored, last, ..Self::default() }
    }

    /// Ends restoring: ids that nobody claimed are free.
    pub fn forget_restored(&mut self) {
        self.restored.clear();
    }

    /// Makes room for the ids of so many more entries at once.
    pub fn reserve(&mut self, entries: usize) {
        self.ids.reserve(entries);
        self.owners.reserve(entries);
    }

    pub fn owner(&self, id: ServiceId) -> Option<&EntryKey> {
        self.owners.get(&id)
    }

    pub fn id(&self, key: &EntryKey) -> Option<ServiceId> {
        self.ids.get(key).copied()
    }

    /// The id of an entry: its own, else the one under which the kernel serves one of its frontends, else a new one.
    pub fn claim(&mut self, entry: &CompiledEntry) -> ServiceId {
        let Self { ids, owners, restored, last } = self;
        *ids.entry(entry.key.clone()).or_insert_with(|| {
            let served = entry.frontends.iter().filter_map(|frontend| restored.get(&frontend.key).copied());
            let id = served.into_iter().find(|id| !owners.contains_key(id));
            let id = id.unwrap_or_else(|| next(last, owners));
            owners.insert(id, entry.key.clone());
            id
        })
    }

    pub fn release(&mut self, id: ServiceId) {
        if let Some(key) = self.owners.remove(&id) {
            self.ids.remove(&key);
        }
    }
}

/// The next id after `last` that nobody has.
fn next(last: &mut ServiceId, owners: &HashMap<ServiceId, EntryKey>) -> ServiceId {
    loop {
        *last = last.checked_add(1).unwrap_or(1);
        if !owners.contains_key(last) {
            return *last;
        }
    }
}
