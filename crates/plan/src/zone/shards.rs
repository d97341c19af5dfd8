//! A map that is cheap to snapshot and cheap to change: many small maps, copied one by one when written.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hash::fnv1a;

const SHARDS: usize = 512;

/// A map by name. A clone shares all shards; changing one entry afterwards copies its shard alone.
#[derive(Clone, Debug)]
pub(super) struct Shards<V> {
    shards: Arc<[Shard<V>]>,
}

type Shard<V> = Arc<BTreeMap<Box<str>, V>>;

impl<V> Default for Shards<V> {
    fn default() -> Self {
        let empty: Shard<V> = Arc::default();
        Self { shards: vec![empty; SHARDS].into() }
    }
}

impl<V: Clone> Shards<V> {
    pub fn get(&self, key: &str) -> Option<&V> {
        self.shards[shard(key)].get(key)
    }

    pub fn insert(&mut self, key: &str, value: V) -> Option<V> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard(key)]).insert(key.into(), value)
    }

    pub fn remove(&mut self, key: &str) -> Option<V> {
        self.get(key)?;
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard(key)]).remove(key)
    }
}

fn shard(key: &str) -> usize {
    let hash = fnv1a(key.bytes());
    (hash ^ (hash >> 32)) as usize % SHARDS
}
