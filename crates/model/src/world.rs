//! The [`World`]: everything that is known of the cluster, changed by one [`Change`] at a time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::{Node, ObjectName, Service, Slice};

/// One object that appeared, changed or went away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Service(Service),
    ServiceGone(ObjectName),
    Slice(Slice),
    SliceGone(ObjectName),
    Node(Node),
    NodeGone(Arc<str>),
}

/// What a [`Change`] bears on. Empty if it changed nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services that changed, or whose slices did; also those that are gone.
    pub services: BTreeSet<ObjectName>,
    pub nodes: BTreeSet<Arc<str>>,
}

impl Touched {
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.nodes.is_empty()
    }

    /// Adds everything that `other` touched.
    pub fn merge(&mut self, other: Touched) {
        self.services.extend(other.services);
        self.nodes.extend(other.nodes);
    }

    fn service(name: ObjectName) -> Self {
        Self { services: BTreeSet::from([name]), ..Self::default() }
    }

    fn node(name: Arc<str>) -> Self {
        Self { nodes: BTreeSet::from([name]), ..Self::default() }
    }
}

/// The Services, EndpointSlices and nodes of the cluster. Equal worlds hold equal objects, however
/// they came to be: the order of changes to different objects does not matter.
#[derive(Clone, Debug, Default)]
pub struct World {
    services: BTreeMap<ObjectName, Service>,
    /// Slices by the Service that they belong to, then by their own name.
    slices: BTreeMap<ObjectName, BTreeMap<Arc<str>, Slice>>,
    /// The Service that each slice belongs to.
    slice_service: BTreeMap<ObjectName, Arc<str>>,
    nodes: BTreeMap<Arc<str>, Node>,
    strings: HashSet<Arc<str>>,
}

impl World {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name)
    }

    /// All Services, in order of their names.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The slices of one Service, in order of their names.
    pub fn slices(&self, service: &ObjectName) -> impl Iterator<Item = &Slice> {
        self.slices.get(service).into_iter().flat_map(BTreeMap::values)
    }

    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All nodes, in order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Takes one change over and says what it bears on. A change to what is already known touches nothing.
    pub fn apply(&mut self, change: Change) -> Touched {
        match change {
            Change::Service(service) => self.put_service(service),
            Change::ServiceGone(name) => match self.services.remove(&name) {
                Some(_) => Touched::service(name),
                None => Touched::default(),
            },
            Change::Slice(slice) => self.put_slice(slice),
            Change::SliceGone(name) => self.remove_slice(&name),
            Change::Node(node) => self.put_node(node),
            Change::NodeGone(name) => match self.nodes.remove(&name) {
                Some(_) => Touched::node(name),
                None => Touched::default(),
            },
        }
    }

    fn put_service(&mut self, mut service: Service) -> Touched {
        if self.services.get(&service.name) == Some(&service) {
            return Touched::default();
        }
        self.intern_name(&mut service.name);
        for port in &mut service.ports {
            self.intern(&mut port.name);
        }
        let name = service.name.clone();
        self.services.insert(name.clone(), service);
        Touched::service(name)
    }

    fn put_slice(&mut self, mut slice: Slice) -> Touched {
        let owner = ObjectName { namespace: slice.name.namespace.clone(), name: slice.service.clone() };
        if self.slices.get(&owner).and_then(|of| of.get(&slice.name.name)) == Some(&slice) {
            return Touched::default();
        }
        let mut touched = Touched::default();
        if self.slice_service.get(&slice.name).is_some_and(|before| *before != slice.service) {
            touched = self.remove_slice(&slice.name);
        }
        self.intern_slice(&mut slice);
        let owner = ObjectName { namespace: slice.name.namespace.clone(), name: slice.service.clone() };
        self.slice_service.insert(slice.name.clone(), slice.service.clone());
        self.slices.entry(owner.clone()).or_default().insert(slice.name.name.clone(), slice);
        touched.services.insert(owner);
        touched
    }

    fn remove_slice(&mut self, name: &ObjectName) -> Touched {
        let Some(service) = self.slice_service.remove(name) else {
            return Touched::default();
        };
        let owner = ObjectName { namespace: name.namespace.clone(), name: service };
        if let Some(of) = self.slices.get_mut(&owner) {
            of.remove(&name.name);
            if of.is_empty() {
                self.slices.remove(&owner);
            }
        }
        Touched::service(owner)
    }

    fn put_node(&mut self, node: Node) -> Touched {
        if self.nodes.get(&node.name) == Some(&node) {
            return Touched::default();
        }
        let name = node.name.clone();
        self.nodes.insert(name.clone(), node);
        Touched::node(name)
    }

    /// Replaces strings that repeat over many endpoints by one shared copy.
    fn intern_slice(&mut self, slice: &mut Slice) {
        self.intern_name(&mut slice.name);
        self.intern(&mut slice.service);
        for port in &mut slice.ports {
            self.intern(&mut port.name);
        }
        for endpoint in &mut slice.endpoints {
            for text in [&mut endpoint.node, &mut endpoint.zone].into_iter().flatten() {
                self.intern(text);
            }
            for text in endpoint.hint_zones.iter_mut().chain(&mut endpoint.hint_nodes) {
                self.intern(text);
            }
            if let Some(pod) = &mut endpoint.pod {
                self.intern(&mut pod.namespace);
            }
        }
    }

    fn intern_name(&mut self, name: &mut ObjectName) {
        self.intern(&mut name.namespace);
        self.intern(&mut name.name);
    }

    fn intern(&mut self, text: &mut Arc<str>) {
        match self.strings.get(text) {
            Some(known) => *text = known.clone(),
            None => {
                if self.strings.len() == self.strings.capacity() {
                    self.strings.retain(|text| Arc::strong_count(text) > 1);
                }
                self.strings.insert(text.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
