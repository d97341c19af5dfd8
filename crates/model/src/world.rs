//! The [`World`]: everything that is known of the cluster, changed by one [`Change`] at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::sync::Arc;

use crate::packed::{NodeNumbers, PackedSlice, SliceView};
use crate::{Hints, HostPorts, Node, ObjectName, Service, Slice, SlicePort};

/// Hash tables of what may be a hundred thousand names.
pub type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
pub type HashSet<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;

/// One object that appeared, changed or went away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Service(Service),
    ServiceGone(ObjectName),
    Slice(Slice),
    SliceGone(ObjectName),
    Node(Node),
    NodeGone(Arc<str>),
    HostPorts(HostPorts),
    /// By [`HostPorts::name`].
    HostPortsGone(ObjectName),
}

impl Change {
    /// Makes the object share an equal name that somebody keeps.
    pub fn share_name(&mut self, kept: &ObjectName) {
        let name = match self {
            Change::Service(service) => &mut service.name,
            Change::Slice(slice) => &mut slice.name,
            _ => return,
        };
        if name == kept {
            name.clone_from(kept);
        }
    }
}

/// What a [`Change`] bears on. Empty if it changed nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services that changed, or whose slices did, and pods with host ports, by [`HostPorts::name`]; also those
    /// that are gone.
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

/// The Services, EndpointSlices and nodes of the cluster, and the host ports of a node's pods. Equal worlds hold equal objects, however
/// they came to be: the order of changes to different objects does not matter.
#[derive(Clone, Debug, Default)]
pub struct World {
    services: HashMap<ObjectName, Box<Service>>,
    /// Slices by the Service that they belong to, then in order of their own names.
    slices: HashMap<ObjectName, Vec<PackedSlice>>,
    /// The Service that each slice belongs to.
    slice_service: HashMap<ObjectName, Arc<str>>,
    nodes: BTreeMap<Arc<str>, Node>,
    /// Of the pods of one node.
    host_ports: BTreeMap<ObjectName, HostPorts>,
    strings: HashSet<Arc<str>>,
    hints: HashSet<Arc<Hints>>,
    slice_ports: HashSet<Arc<[SlicePort]>>,
    node_numbers: NodeNumbers,
}

impl World {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name).map(Box::as_ref)
    }

    /// All Services, in order of their names.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        let mut services: Vec<&Service> = self.services.values().map(Box::as_ref).collect();
        services.sort_unstable_by_key(|service| &service.name);
        services.into_iter()
    }

    /// The slices of one Service, in order of their names.
    pub fn slices(&self, service: &ObjectName) -> impl Iterator<Item = Slice> {
        let of = self.slices.get_key_value(service);
        of.into_iter().flat_map(move |(service, of)| {
            of.iter().map(move |slice| slice.unpack(service, &self.node_numbers))
        })
    }

    /// As [`World::slices`], without a copy.
    pub fn slice_views(&self, service: &ObjectName) -> impl Iterator<Item = SliceView<'_>> {
        let of = self.slices.get(service).map(Vec::as_slice).unwrap_or_default();
        of.iter().map(|slice| slice.view(&self.node_numbers))
    }

    /// Everything that may want frontends or names, and all nodes.
    pub fn everything(&self) -> Touched {
        let services = self.services().map(|service| service.name.clone());
        let nodes = self.nodes.keys().cloned().collect();
        Touched { services: services.chain(self.host_ports.keys().cloned()).collect(), nodes }
    }

    /// The host ports of one pod, by [`HostPorts::name`].
    pub fn host_ports(&self, name: &ObjectName) -> Option<&HostPorts> {
        self.host_ports.get(name)
    }

    /// All pods with host ports, in order of their names.
    pub fn all_host_ports(&self) -> impl Iterator<Item = &HostPorts> {
        self.host_ports.values()
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
            Change::HostPorts(ports) => self.put_host_ports(ports),
            Change::HostPortsGone(name) => match self.host_ports.remove(&name) {
                Some(_) => Touched::service(name),
                None => Touched::default(),
            },
        }
    }

    fn put_service(&mut self, mut service: Service) -> Touched {
        if self.service(&service.name) == Some(&service) {
            return Touched::default();
        }
        self.share_name(&mut service.name);
        for port in &mut service.ports {
            share(&mut self.strings, &mut port.name);
        }
        service.ports.shrink_to_fit();
        service.cluster_ips.shrink_to_fit();
        let name = service.name.clone();
        self.services.insert(name.clone(), Box::new(service));
        Touched::service(name)
    }

    fn put_slice(&mut self, mut slice: Slice) -> Touched {
        self.share_slice(&mut slice);
        let (name, service) = (slice.name.clone(), slice.service.clone());
        let owner = ObjectName { namespace: name.namespace.clone(), name: service.clone() };
        let mut ports: Arc<[SlicePort]> = slice.ports.as_slice().into();
        share(&mut self.slice_ports, &mut ports);
        let packed = PackedSlice::pack(slice, ports, &mut self.node_numbers);
        let known = self.slices.get(&owner).and_then(|of| Some(&of[position(of, &name.name).ok()?]));
        if known == Some(&packed) {
            return Touched::default();
        }
        let mut touched = Touched::default();
        if self.slice_service.get(&name).is_some_and(|before| *before != service) {
            touched = self.remove_slice(&name);
        }
        self.slice_service.insert(name, service);
        let of = self.slices.entry(owner.clone()).or_default();
        match position(of, &packed.name) {
            Ok(index) => of[index] = packed,
            Err(index) => {
                of.reserve_exact(1); // Nearly every Service has one slice for good.
                of.insert(index, packed);
            }
        }
        touched.services.insert(owner);
        touched
    }

    fn remove_slice(&mut self, name: &ObjectName) -> Touched {
        let Some(service) = self.slice_service.remove(name) else {
            return Touched::default();
        };
        let owner = ObjectName { namespace: name.namespace.clone(), name: service };
        if let Some(of) = self.slices.get_mut(&owner) {
            if let Ok(index) = position(of, &name.name) {
                of.remove(index);
            }
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

    fn put_host_ports(&mut self, ports: HostPorts) -> Touched {
        if self.host_ports.get(&ports.name) == Some(&ports) {
            return Touched::default();
        }
        let name = ports.name.clone();
        self.host_ports.insert(name.clone(), ports);
        Touched::service(name)
    }

    /// Replaces what repeats over many slices by one shared copy.
    fn share_slice(&mut self, slice: &mut Slice) {
        self.share_name(&mut slice.name);
        share(&mut self.strings, &mut slice.service);
        for port in &mut slice.ports {
            share(&mut self.strings, &mut port.name);
        }
        for endpoint in &mut slice.endpoints {
            if let Some(hints) = &mut endpoint.hints {
                share(&mut self.hints, hints);
            }
        }
    }

    fn share_name(&mut self, name: &mut ObjectName) {
        share(&mut self.strings, &mut name.namespace);
        share(&mut self.strings, &mut name.name);
    }
}

/// Where the slice of that name is, or would be.
fn position(slices: &[PackedSlice], name: &str) -> Result<usize, usize> {
    slices.binary_search_by(|slice| (*slice.name).cmp(name))
}

/// Replaces `value` by the copy of it in `pool`, which holds one of each that somebody has.
fn share<T: ?Sized + Eq + Hash>(pool: &mut HashSet<Arc<T>>, value: &mut Arc<T>) {
    if let Some(known) = pool.get(&**value) {
        *value = known.clone();
        return;
    }
    if pool.len() == pool.capacity() {
        pool.retain(|value| Arc::strong_count(value) > 1);
    }
    pool.insert(value.clone());
}

#[cfg(test)]
mod tests;
