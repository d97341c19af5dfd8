//! What readers see: every present object, and per resource the newest events for watches.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Event, EventKind, Object};

/// The state after the newest committed revision.
pub struct Memory {
    pub revision: u64,
    /// Events up to here may be gone; watches and pages can start here or later.
    pub compacted: u64,
    pub objects: BTreeMap<Arc<str>, Object>,
    channels: HashMap<Arc<str>, Channel>,
    ring: usize,
}

/// Of the events of one resource, this much stays in memory, however few they are; watches that are further behind read the disk.
const MAX_BYTES: usize = 8 << 20;

/// The newest events of one resource, and who waits for more.
pub struct Channel {
    pub events: VecDeque<Arc<Event>>,
    /// The size of their objects.
    bytes: usize,
    /// Every event of the resource after this revision is in `events`.
    pub floor: u64,
    pub newest: watch::Sender<u64>,
}

impl Channel {
    fn push(&mut self, event: Arc<Event>, most: usize) {
        self.bytes += event.object.len();
        self.events.push_back(event);
        while self.events.len() > most || self.bytes > MAX_BYTES {
            let Some(evicted) = self.events.pop_front() else { break };
            self.bytes -= evicted.object.len();
            self.floor = evicted.revision;
        }
    }
}

/// The part of a key that names its resource: `core/pods/` of `core/pods/default/web`.
pub fn resource_of(key: &str) -> &str {
    let end = key.match_indices('/').nth(1).map_or(key.len(), |(at, _)| at + 1);
    &key[..end]
}

impl Memory {
    pub fn new(revision: u64, compacted: u64, objects: BTreeMap<Arc<str>, Object>, ring: usize) -> Self {
        Self { revision, compacted, objects, channels: HashMap::new(), ring }
    }

    /// Present objects whose key begins with `prefix`, in order, those after `after` if given.
    pub fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Object)> + use<'a> {
        let start = match after {
            Some(key) => Bound::Excluded(key),
            None => Bound::Included(prefix),
        };
        self.objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// The channel of a resource. One made now has seen everything up to the present, so its floor is
    /// the present revision.
    pub fn channel(&mut self, resource: &str) -> &mut Channel {
        let revision = self.revision;
        if !self.channels.contains_key(resource) {
            let (newest, _) = watch::channel(revision);
            let channel = Channel { events: VecDeque::new(), bytes: 0, floor: revision, newest };
            self.channels.insert(resource.into(), channel);
        }
        self.channels.get_mut(resource).expect("inserted above if it was missing")
    }

    pub fn existing_channel(&self, resource: &str) -> Option<&Channel> {
        self.channels.get(resource)
    }

    /// Applies committed events, in order. The revision moves first, then the watchers are told.
    pub fn apply(&mut self, changes: Vec<(Arc<Event>, Option<Object>)>) {
        let mut touched: Vec<String> = Vec::new();
        for (event, object) in changes {
            let resource = resource_of(&event.key);
            let ring = self.ring;
            let channel = self.channel(resource);
            channel.push(event.clone(), ring);
            if !touched.iter().any(|t| t == resource) {
                touched.push(resource.to_owned());
            }
            match object {
                Some(object) => {
                    self.objects.insert(event.key.clone(), object);
                }
                None => {
                    self.objects.remove(&event.key);
                }
            }
            debug_assert!(event.kind != EventKind::Deleted || !self.objects.contains_key(&event.key));
            self.revision = event.revision;
        }
        for resource in touched {
            let revision = self.revision;
            self.channel(&resource).newest.send_replace(revision);
        }
    }
}
