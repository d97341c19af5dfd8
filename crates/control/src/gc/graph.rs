//! Who owns whom: all objects that have owners, or are waiting for what they own.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Finalizer of objects that wait for their dependents to be deleted.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of objects that wait for their dependents to be let go.
pub const ORPHAN: &str = "orphan";

/// A kind as in the URL: `apps/v1` and `deployments`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    pub api_version: String,
    pub plural: String,
}

/// What the collector keeps of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub resource: Resource,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub owners: Vec<OwnerReference>,
    pub deleting: bool,
    /// [`FOREGROUND`] and [`ORPHAN`] only.
    pub finalizers: Vec<String>,
}

impl Object {
    /// Reduces metadata to what the collector needs.
    pub fn new(resource: Resource, meta: &ObjectMeta) -> Self {
        let finalizers = meta.finalizers.iter().flatten().filter(|f| *f == FOREGROUND || *f == ORPHAN);
        Self {
            resource,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: finalizers.cloned().collect(),
        }
    }

    /// Whether it is being deleted and waits with this finalizer.
    pub fn waits(&self, finalizer: &str) -> bool {
        self.deleting && self.finalizers.iter().any(|f| f == finalizer)
    }

    fn is_of_interest(&self) -> bool {
        !self.owners.is_empty() || (self.deleting && !self.finalizers.is_empty())
    }
}

/// All that is known about owning. UIDs name objects.
#[derive(Default)]
pub struct Graph {
    /// Objects of interest.
    objects: BTreeMap<String, Object>,
    /// By owner.
    dependents: BTreeMap<String, BTreeSet<String>>,
    /// All objects there are, by kind, so that an owner's existence needs no request.
    alive: BTreeMap<String, u32>,
    /// The kinds that `alive` refers to.
    kinds: Vec<Resource>,
    /// Owners that were asked for and don't exist.
    absent: BTreeSet<String>,
    /// During a list of a kind: what has been seen.
    listing: BTreeMap<Resource, BTreeSet<String>>,
}

/// Whether an owner exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Alive,
    Absent,
    Unknown,
}

impl Graph {
    /// An object was seen. Returns the UIDs that must be looked at.
    pub fn seen(&mut self, object: Object) -> BTreeSet<String> {
        if let Some(listed) = self.listing.get_mut(&object.resource) {
            listed.insert(object.uid.clone());
        }
        let mut touched = BTreeSet::new();
        let uid = object.uid.clone();
        self.absent.remove(&uid);
        let kind = self.kind(&object.resource);
        self.alive.insert(uid.clone(), kind);
        let known = self.unlink(&uid);
        if !object.is_of_interest() {
            // Those that it no longer names may have waited for that.
            touched.extend(known.into_iter().flat_map(|o| o.owners).map(|o| o.uid));
            return touched;
        }
        if known.as_ref() == Some(&object) {
            self.link(object);
            return touched;
        }
        // Its owners may have waited for this (it stopped blocking, say).
        touched.extend(known.iter().chain([&object]).flat_map(|o| &o.owners).map(|o| o.uid.clone()));
        if object.deleting && !object.finalizers.is_empty() {
            touched.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        touched.insert(uid);
        self.link(object);
        touched
    }

    /// An object is gone. Returns the UIDs that must be looked at.
    pub fn gone(&mut self, uid: &str) -> BTreeSet<String> {
        self.alive.remove(uid);
        let mut touched: BTreeSet<_> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        if let Some(old) = self.unlink(uid) {
            touched.extend(old.owners.into_iter().map(|o| o.uid));
        }
        if !touched.is_empty() {
            self.absent.insert(uid.to_owned());
        }
        touched
    }

    /// A list of a kind begins.
    pub fn list_begins(&mut self, resource: &Resource) {
        self.listing.insert(resource.clone(), BTreeSet::new());
    }

    /// A list of a kind has ended: what it didn't hold is gone.
    pub fn list_ends(&mut self, resource: &Resource) -> BTreeSet<String> {
        let Some(seen) = self.listing.remove(resource) else { return BTreeSet::new() };
        let kind = self.kind(resource);
        let of_kind = self.alive.iter().filter(|(_, k)| **k == kind).map(|(uid, _)| uid);
        let gone: Vec<_> = of_kind.filter(|uid| !seen.contains(*uid)).cloned().collect();
        gone.iter().flat_map(|uid| self.gone(uid)).collect()
    }

    /// The answer to a question about an owner.
    pub fn learn(&mut self, uid: &str, presence: Presence) {
        match presence {
            Presence::Absent => {
                self.absent.insert(uid.to_owned());
            }
            _ => {
                self.absent.remove(uid);
            }
        }
    }

    /// Whether an owner exists, as far as is known.
    pub fn presence(&self, uid: &str) -> Presence {
        if self.alive.contains_key(uid) {
            Presence::Alive
        } else if self.absent.contains(uid) {
            Presence::Absent
        } else {
            Presence::Unknown
        }
    }

    /// The object of interest with this UID.
    pub fn get(&self, uid: &str) -> Option<&Object> {
        self.objects.get(uid)
    }

    /// The objects that name `uid` as owner.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Object> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|d| self.objects.get(d))
    }

    fn kind(&mut self, resource: &Resource) -> u32 {
        let known = self.kinds.iter().position(|k| k == resource).unwrap_or_else(|| {
            self.kinds.push(resource.clone());
            self.kinds.len() - 1
        });
        u32::try_from(known).unwrap_or(u32::MAX)
    }

    fn link(&mut self, object: Object) {
        for owner in &object.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(object.uid.clone());
        }
        self.objects.insert(object.uid.clone(), object);
    }

    fn unlink(&mut self, uid: &str) -> Option<Object> {
        let object = self.objects.remove(uid)?;
        for owner in &object.owners {
            if let Some(set) = self.dependents.get_mut(&owner.uid) {
                set.remove(uid);
                if set.is_empty() {
                    self.dependents.remove(&owner.uid);
                    self.absent.remove(&owner.uid);
                }
            }
        }
        Some(object)
    }
}
