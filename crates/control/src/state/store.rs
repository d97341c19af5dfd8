//! One cache of objects of a kind, with indices; keeps the newest version whatever the order of arrival.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daymark_model::ObjectName;

use crate::object::{Cached, key_of};

/// What a [`Store`] needs to know of its objects.
pub trait Entry {
    fn key(&self) -> ObjectName;
    fn uid(&self) -> &str;
    /// `resourceVersion` as a number, or 0 if it isn't one.
    fn version(&self) -> u64;
}

impl<T: Cached> Entry for T {
    fn key(&self) -> ObjectName {
        key_of(self.metadata())
    }

    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    fn version(&self) -> u64 {
        self.metadata().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}

struct Index<T> {
    of: fn(&T) -> Option<String>,
    keys: BTreeMap<String, BTreeSet<ObjectName>>,
}

/// A cache that is fed by a watch and by the answers to our own writes.
///
/// Both name resource versions, so an older object never replaces a newer one, and an object whose
/// deletion was answered is not brought back by a watch event that was under way.
pub struct Store<T> {
    objects: BTreeMap<ObjectName, Arc<T>>,
    indices: Vec<Index<T>>,
    /// UIDs that we deleted and whose deletion the watch has still to tell.
    gone: BTreeSet<String>,
    /// During a list: the keys seen so far.
    listing: Option<BTreeSet<ObjectName>>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), indices: Vec::new(), gone: BTreeSet::new(), listing: None }
    }
}

/// An accepted change: the object before, and after.
pub type Accepted<T> = (Option<Arc<T>>, Arc<T>);

impl<T: Entry> Store<T> {
    /// An empty store that finds objects by the values of these functions.
    pub fn indexed(functions: &[fn(&T) -> Option<String>]) -> Self {
        let indices = functions.iter().map(|&of| Index { of, keys: BTreeMap::new() }).collect();
        Self { indices, ..Self::default() }
    }

    /// The object of that name.
    pub fn get(&self, key: &ObjectName) -> Option<&Arc<T>> {
        self.objects.get(key)
    }

    /// All objects, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.objects.values()
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a Arc<T>> + use<'a, T> {
        let first = ObjectName::new(namespace, "");
        let name = first.namespace.clone();
        self.objects.range(first..).take_while(move |(k, _)| k.namespace == name).map(|(_, o)| o)
    }

    /// The objects to which the index of that number gives `value`.
    pub fn by_index<'a>(
        &'a self,
        index: usize,
        value: &str,
    ) -> impl Iterator<Item = &'a Arc<T>> + use<'a, T> {
        self.indices[index].keys.get(value).into_iter().flatten().filter_map(|k| self.objects.get(k))
    }

    /// Takes in an object; `None` if it told nothing new.
    pub fn upsert(&mut self, object: T) -> Option<Accepted<T>> {
        let key = object.key();
        if self.gone.contains(object.uid()) {
            return None;
        }
        if let Some(seen) = &mut self.listing {
            seen.insert(key.clone());
        }
        let version = object.version();
        if let Some(known) = self.objects.get(&key)
            && version != 0
            && version <= known.version()
        {
            return None;
        }
        let new = Arc::new(object);
        let old = self.objects.insert(key.clone(), new.clone());
        self.reindex(&key, old.as_deref(), Some(&new));
        Some((old, new))
    }

    /// Takes out an object because the watch said so.
    pub fn deleted(&mut self, object: &T) -> Option<Arc<T>> {
        self.gone.remove(object.uid());
        self.take(&object.key(), object.uid())
    }

    /// Takes out an object because the answer to our deletion said so.
    pub fn deleted_by_us(&mut self, key: &ObjectName, uid: &str) -> Option<Arc<T>> {
        let old = self.take(key, uid)?;
        self.gone.insert(uid.to_owned());
        Some(old)
    }

    /// A list begins.
    pub fn list_begins(&mut self) {
        self.listing = Some(BTreeSet::new());
    }

    /// A list has ended: what it didn't hold is gone.
    pub fn list_ends(&mut self) -> Vec<Arc<T>> {
        self.gone.clear();
        let seen = self.listing.take().unwrap_or_default();
        let absent: Vec<_> = self.objects.keys().filter(|k| !seen.contains(*k)).cloned().collect();
        absent.iter().filter_map(|k| self.take(k, "")).collect()
    }

    fn take(&mut self, key: &ObjectName, uid: &str) -> Option<Arc<T>> {
        let known = self.objects.get(key)?;
        if !uid.is_empty() && known.uid() != uid {
            return None;
        }
        let old = self.objects.remove(key)?;
        self.reindex(key, Some(&old), None);
        Some(old)
    }

    fn reindex(&mut self, key: &ObjectName, old: Option<&T>, new: Option<&T>) {
        for index in &mut self.indices {
            let (before, after) = (old.and_then(index.of), new.and_then(index.of));
            if before == after {
                continue;
            }
            if let Some(value) = before
                && let Some(keys) = index.keys.get_mut(&value)
            {
                keys.remove(key);
                if keys.is_empty() {
                    index.keys.remove(&value);
                }
            }
            if let Some(value) = after {
                index.keys.entry(value).or_default().insert(key.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, uid: &str, version: &str) -> ConfigMap {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "n", "name": name, "uid": uid, "resourceVersion": version}
        }))
        .unwrap()
    }

    #[test]
    fn older_versions_are_not_taken() {
        let mut store = Store::default();
        assert!(store.upsert(object("a", "1", "5")).is_some());
        assert!(store.upsert(object("a", "1", "5")).is_none());
        assert!(store.upsert(object("a", "1", "4")).is_none());
        assert!(store.upsert(object("a", "1", "6")).is_some());
    }

    #[test]
    fn what_we_deleted_does_not_come_back() {
        let mut store = Store::default();
        store.upsert(object("a", "1", "5"));
        assert!(store.deleted_by_us(&ObjectName::new("n", "a"), "1").is_some());
        assert!(store.upsert(object("a", "1", "6")).is_none(), "a late watch event");
        store.deleted(&object("a", "1", "7"));
        assert!(store.upsert(object("a", "2", "8")).is_some(), "a new object of that name");
    }

    #[test]
    fn a_list_removes_what_it_does_not_hold() {
        let mut store = Store::indexed(&[|o: &ConfigMap| o.metadata.uid.clone()]);
        store.upsert(object("a", "1", "5"));
        store.upsert(object("b", "2", "6"));
        store.list_begins();
        store.upsert(object("a", "1", "5"));
        let absent: Vec<_> = store.list_ends().iter().map(|o| o.uid().to_owned()).collect();
        assert_eq!(absent, ["2"]);
        assert_eq!(store.by_index(0, "2").count(), 0);
        assert_eq!(store.by_index(0, "1").count(), 1);
        assert_eq!(store.in_namespace("n").count(), 1);
        assert_eq!(store.in_namespace("m").count(), 0);
    }
}
