//! Compiles one Service into the entries and frontends that it wants on one node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use daymark_model::{AddressFamily, ObjectName, Protocol, Service, ServicePort, ServiceType, Slices, World};
use ipnet::IpNet;

use crate::choose;
use crate::host_ports;
use crate::issue::{Issue, SpecialAddress};
use crate::tables::{Frontend, FrontendKey, FrontendKind, ServiceEntry, ServiceId};
use crate::view::NodeView;

/// Names a service entry in terms of the cluster: one port of one Service in one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    pub service: ObjectName,
    pub port: u16,
    pub protocol: Protocol,
    pub family: AddressFamily,
}

/// A frontend that a Service wants; another Service may want the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedFrontend {
    pub key: FrontendKey,
    pub kind: FrontendKind,
    pub local_only: bool,
    pub source_checked: bool,
}

impl WantedFrontend {
    pub fn leading_to(&self, service: ServiceId) -> Frontend {
        let Self { kind, local_only, source_checked, .. } = *self;
        Frontend { service, kind, local_only, source_checked }
    }
}

/// One port of a Service in one family, with everything that points to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledEntry {
    pub key: EntryKey,
    /// Of generation 0.
    pub entry: ServiceEntry,
    /// The cluster IP first.
    pub frontends: Vec<WantedFrontend>,
    /// `Some` where frontends are source-checked; empty then means nobody of this family.
    pub source_ranges: Option<Vec<IpNet>>,
}

/// What a Service wants on one node. Empty for one that the data plane does not serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompiledService {
    pub cluster_ips: Vec<IpAddr>,
    pub entries: Vec<CompiledEntry>,
    /// What it asks for in vain, other Services aside.
    pub issues: Vec<Issue>,
}

/// Compiles the Service of that name, or the pod with host ports; one that does not exist wants nothing.
pub fn compile_service(world: &World, view: &NodeView, name: &ObjectName) -> CompiledService {
    if let Some(ports) = world.host_ports(name) {
        return host_ports::compile(view, ports);
    }
    let served = world.service_with_slices(name).filter(|(service, _)| is_served(service));
    let Some((service, slices)) = served else {
        return CompiledService::default();
    };
    let nodeport_ips = if has_node_ports(service) { view.nodeport_ips() } else { Vec::new() };
    let mut entries = Vec::with_capacity(service.ports.len());
    for port in &service.ports {
        // A family that a Service lacks is not served, whatever addresses of it the node or a load balancer has.
        let families = AddressFamily::BOTH.into_iter().filter(|family| has_family(service, *family));
        for family in families {
            let frontends = frontends(service, port, family, &nodeport_ips, view);
            let checked = frontends.iter().any(|frontend| frontend.source_checked);
            let ranges = service.source_ranges.iter().copied();
            let maglev = frontends.iter().any(|frontend| frontend.kind != FrontendKind::ClusterIp);
            entries.push(CompiledEntry {
                key: EntryKey { service: name.clone(), port: port.port, protocol: port.protocol, family },
                entry: ServiceEntry { maglev, ..choose::entry(slices, view, service, port, family) },
                frontends,
                source_ranges: checked
                    .then(|| ranges.filter(|range| AddressFamily::of(&range.addr()) == family).collect()),
            });
        }
    }
    let issues = issues(slices, view, service);
    CompiledService { cluster_ips: service.cluster_ips.clone(), entries, issues }
}

pub(crate) fn is_served(service: &Service) -> bool {
    let external_name = matches!(service.service_type, ServiceType::ExternalName(_));
    !service.excluded && !service.headless && !external_name && !service.cluster_ips.is_empty()
}

fn has_node_ports(service: &Service) -> bool {
    matches!(service.service_type, ServiceType::NodePort | ServiceType::LoadBalancer)
}

fn has_family(service: &Service, family: AddressFamily) -> bool {
    service.cluster_ips.iter().any(|ip| AddressFamily::of(ip) == family)
}

fn issues(slices: Slices<'_>, view: &NodeView, service: &Service) -> Vec<Issue> {
    let mut issues = Vec::new();
    let refused = service.external_ips.iter().copied().filter(|ip| !view.allows_external_ip(ip));
    let addresses: Vec<IpAddr> = refused.collect();
    if !addresses.is_empty() {
        issues.push(Issue::ExternalIpRefused { service: service.name.clone(), addresses });
    }
    for slice in slices.iter() {
        let mut refused: BTreeMap<SpecialAddress, BTreeSet<IpAddr>> = BTreeMap::new();
        for endpoint in slice.endpoints() {
            if let Some(problem) = view.refuses_endpoint(&endpoint.address) {
                refused.entry(problem).or_default().insert(endpoint.address);
            }
        }
        issues.extend(refused.into_iter().map(|(problem, addresses)| Issue::EndpointRefused {
            service: service.name.clone(),
            slice: ObjectName { namespace: service.name.namespace.clone(), name: slice.name().clone() },
            problem,
            addresses: addresses.into_iter().collect(),
        }));
    }
    issues
}

fn frontends(
    service: &Service,
    port: &ServicePort,
    family: AddressFamily,
    nodeport_ips: &[IpAddr],
    view: &NodeView,
) -> Vec<WantedFrontend> {
    let mut found: Vec<WantedFrontend> = Vec::new();
    let mut want = |ip: IpAddr, number: u16, kind: FrontendKind| {
        let key = FrontendKey { ip, port: number, protocol: port.protocol };
        if AddressFamily::of(&ip) == family && !found.iter().any(|known| known.key == key) {
            let local_only = match kind {
                FrontendKind::ClusterIp => service.internal_local,
                _ => service.external_local,
            };
            let source_checked = kind == FrontendKind::LoadBalancerIp && !service.source_ranges.is_empty();
            found.push(WantedFrontend { key, kind, local_only, source_checked });
        }
    };
    for ip in &service.cluster_ips {
        want(*ip, port.port, FrontendKind::ClusterIp);
    }
    if has_node_ports(service)
        && let Some(number) = port.node_port
    {
        for ip in nodeport_ips {
            want(*ip, number, FrontendKind::NodePort);
        }
    }
    // A proxying load balancer sends to node ports itself; what pods send to its address must reach it.
    for ingress in service.load_balancer_ips.iter().filter(|ingress| !ingress.proxy) {
        want(ingress.ip, port.port, FrontendKind::LoadBalancerIp);
    }
    for ip in service.external_ips.iter().filter(|ip| view.allows_external_ip(ip)) {
        want(*ip, port.port, FrontendKind::ExternalIp);
    }
    found.shrink_to_fit();
    found
}
