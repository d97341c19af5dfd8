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

/// A Service and its slices; either may come first.
#[derive(Clone, Debug, Default)]
struct Known {
    service: Option<Box<Service>>,
    /// In order of their names.
    slices: Vec<PackedSlice>,
}

impl Known {
    /// False if it is known already.
    fn put(&mut self, slice: PackedSlice) -> bool {
        let slices = &mut self.slices;
        match position(slices, &slice.name) {
            Ok(index) if slices[index] == slice => return false,
            Ok(index) => slices[index] = slice,
            Err(index) => {
                slices.reserve_exact(1); // Nearly every Service has one slice for good.
                slices.insert(index, slice);
            }
        }
        true
    }
}

/// The slices of one Service where they are kept, in order of their names.
#[derive(Clone, Copy, Debug)]
pub struct Slices<'a> {
    packed: &'a [PackedSlice],
    nodes: &'a NodeNumbers,
}

impl<'a> Slices<'a> {
    pub fn iter(self) -> impl Iterator<Item = SliceView<'a>> {
        self.packed.iter().map(move |slice| slice.view(self.nodes))
    }
}

/// The Services, EndpointSlices and nodes of the cluster, and the host ports of a node's pods. Equal worlds hold equal objects, however
/// they came to be: the order of changes to different objects does not matter.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// By the name of the Service; of those that have slices or exist.
    services: HashMap<ObjectName, Known>,
    /// The Service that each slice belongs to.
    slice_service: HashMap<ObjectName, Arc<str>>,
    nodes: BTreeMap<Arc<str>, Node>,
    /// Of the pods of one node.
    host_ports: BTreeMap<ObjectName, HostPorts>,
    /// Names of namespaces and ports.
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
        self.services.get(name)?.service.as_deref()
    }

    /// All Services, in order of their names.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        let mut services: Vec<&Service> =
            self.services.values().filter_map(|known| known.service.as_deref()).collect();
        services.sort_unstable_by_key(|service| &service.name);
        services.into_iter()
    }

    /// A Service with its slices.
    pub fn service_with_slices(&self, name: &ObjectName) -> Option<(&Service, Slices<'_>)> {
        let known = self.services.get(name)?;
        Some((known.service.as_deref()?, Slices { packed: &known.slices, nodes: &self.node_numbers }))
    }

    /// The slices of one Service, in order of their names.
    pub fn slices(&self, service: &ObjectName) -> impl Iterator<Item = Slice> {
        let of = self.services.get_key_value(service);
        of.into_iter().flat_map(move |(service, known)| {
            known.slices.iter().map(move |slice| slice.unpack(service, &self.node_numbers))
        })
    }

    /// Everything that may want frontends or names, and all nodes.
    pub fn everything(&self) -> Touched {
        let existing = self.services.iter().filter(|(_, known)| known.service.is_some());
        let mut services: Vec<ObjectName> = existing.map(|(name, _)| name.clone()).collect();
        services.extend(self.host_ports.keys().cloned());
        // As trees are made of what is in order at once.
        services.sort_unstable();
        Touched { services: services.into_iter().collect(), nodes: self.nodes.keys().cloned().collect() }
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
            Change::ServiceGone(name) => self.remove_service(name),
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
        share(&mut self.strings, &mut service.name.namespace);
        let entry = self.services.entry(service.name.clone());
        service.name.clone_from(entry.key());
        let known = entry.or_default();
        if known.service.as_deref() == Some(&service) {
            return Touched::default();
        }
        for port in &mut service.ports {
            share(&mut self.strings, &mut port.name);
        }
        service.ports.shrink_to_fit();
        service.cluster_ips.shrink_to_fit();
        let name = service.name.clone();
        known.service = Some(Box::new(service));
        Touched::service(name)
    }

    fn remove_service(&mut self, name: ObjectName) -> Touched {
        let Some(known) = self.services.get_mut(&name) else { return Touched::default() };
        if known.service.take().is_none() {
            return Touched::default();
        }
        if known.slices.is_empty() {
            self.services.remove(&name);
        }
        Touched::service(name)
    }

    fn put_slice(&mut self, mut slice: Slice) -> Touched {
        self.share_within(&mut slice);
        let ports = self.slice_ports.get(&slice.ports[..]).cloned().unwrap_or_else(|| {
            let mut ports = slice.ports.as_slice().into();
            share(&mut self.slice_ports, &mut ports);
            ports
        });
        let name = slice.name.clone();
        let entry = self
            .services
            .entry(ObjectName { namespace: name.namespace.clone(), name: slice.service.clone() });
        let owner = entry.key().clone();
        let packed = PackedSlice::pack(slice, ports, &mut self.node_numbers);
        let known = entry.or_default();
        let changed = known.put(packed);
        let mut touched = Touched::default();
        match self.slice_service.insert(name.clone(), owner.name.clone()) {
            Some(before) if before != owner.name => {
                let before = ObjectName { namespace: name.namespace.clone(), name: before };
                self.take_slice(&before, &name);
                touched = Touched::service(before);
            }
            _ => {}
        }
        if changed {
            touched.services.insert(owner);
        }
        touched
    }

    fn remove_slice(&mut self, name: &ObjectName) -> Touched {
        let Some(service) = self.slice_service.remove(name) else {
            return Touched::default();
        };
        let owner = ObjectName { namespace: name.namespace.clone(), name: service };
        self.take_slice(&owner, name);
        Touched::service(owner)
    }

    fn take_slice(&mut self, owner: &ObjectName, name: &ObjectName) {
        let Some(known) = self.services.get_mut(owner) else { return };
        if let Ok(index) = position(&known.slices, &name.name) {
            known.slices.remove(index);
        }
        if known.slices.is_empty() && known.service.is_none() {
            self.services.remove(owner);
        }
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

    /// Replaces what repeats over many slices by one shared copy. Their Services' names are shared by way of those.
    fn share_within(&mut self, slice: &mut Slice) {
        share(&mut self.strings, &mut slice.name.namespace);
        for port in &mut slice.ports {
            share(&mut self.strings, &mut port.name);
        }
        for endpoint in &mut slice.endpoints {
            if let Some(hints) = &mut endpoint.hints {
                share(&mut self.hints, hints);
            }
        }
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
