//! Reduces Kubernetes objects to the model. Only here do the API's optional fields get their meaning.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::discovery::v1::EndpointHints;

use crate::wire;
use crate::{
    AddressFamily, Change, Endpoint, Hints, HostPort, HostPorts, LoadBalancerIp, Node, ObjectName, Protocol,
    Service, ServicePort, ServiceType, Slice, SlicePort, TrafficDistribution,
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Annotation of an EndpointSlice: when that happened which its latest change answers.
pub const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Annotation of the bookmark that ends a streaming list (KEP-3157).
pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
const EXCLUDE_FROM_LOAD_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Labels and annotations that have a meaning here; [`wire`] reads no others.
pub(crate) const ASKED_FOR: [&str; 7] =
    [SERVICE_NAME, PROXY_NAME, HEADLESS, ZONE, EXCLUDE_FROM_LOAD_BALANCERS, LAST_CHANGE, INITIAL_EVENTS_END];
const LEAVING_TAINT: &str = "ToBeDeletedByClusterAutoscaler";
const NO_ADDRESS: &str = "is no IP address or CIDR";
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// A value that the API server should not have admitted. The object cannot be used until it is corrected;
/// trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {object}: {field}: {value:?} {problem}")]
pub struct ReduceError {
    pub kind: &'static str,
    /// `namespace/name`, or `name` of a Node.
    pub object: String,
    /// E.g. `spec.ports[0].port`.
    pub field: String,
    pub value: String,
    pub problem: &'static str,
}

/// A Service, for the data plane, DNS and announcing.
pub fn service(object: &wire::Service<'_>) -> Result<Service, ReduceError> {
    let name = object_name(&object.metadata);
    let at = Source { kind: "Service", object: &name };
    let none = wire::ServiceSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&none);
    let service_type = match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ClusterIP" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        "ExternalName" => ServiceType::ExternalName(spec.external_name.as_deref().unwrap_or_default().into()),
        other => return Err(at.error("spec.type", other, "is no Service type")),
    };
    let external_name = matches!(service_type, ServiceType::ExternalName(_));
    let external_ips = at.parse_all("spec.externalIPs", spec.external_ips.iter().flatten())?;
    let externally_reachable = matches!(service_type, ServiceType::NodePort | ServiceType::LoadBalancer)
        || (service_type == ServiceType::ClusterIp && !external_ips.is_empty());
    let load_balancer_ips = match service_type {
        ServiceType::LoadBalancer => load_balancer_ips(&at, object)?,
        _ => Vec::new(),
    };
    let affinity_seconds = match spec.session_affinity.as_deref() {
        Some("ClientIP") => Some(affinity_seconds(&at, spec)?),
        _ => None,
    };
    Ok(Service {
        headless: !external_name && spec.cluster_ip.as_deref() == Some("None"),
        cluster_ips: if external_name { Vec::new() } else { cluster_ips(&at, spec)? },
        source_ranges: source_ranges(&at, spec)?,
        ports: service_ports(&at, spec)?,
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local: externally_reachable && spec.external_traffic_policy.as_deref() == Some("Local"),
        health_check_node_port: match spec.health_check_node_port {
            None | Some(0) => None,
            Some(port) => Some(at.port(|| "spec.healthCheckNodePort".to_owned(), port)?),
        },
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        traffic_distribution: match spec.traffic_distribution.as_deref() {
            Some("PreferClose" | "PreferSameZone") => Some(TrafficDistribution::PreferSameZone),
            Some("PreferSameNode") => Some(TrafficDistribution::PreferSameNode),
            _ => None,
        },
        excluded: has_label(&object.metadata, PROXY_NAME) || has_label(&object.metadata, HEADLESS),
        name,
        service_type,
        external_ips,
        load_balancer_ips,
        affinity_seconds,
    })
}

/// The change that an added or modified EndpointSlice means. It is gone if it belongs to no Service, or holds host
/// names, which nothing here serves.
pub fn slice(object: wire::EndpointSlice<'_>) -> Result<Change, ReduceError> {
    let name = object_name(&object.metadata);
    let at = Source { kind: "EndpointSlice", object: &name };
    let Some(service) = object.metadata.label(SERVICE_NAME).filter(|service| !service.is_empty()) else {
        return Ok(Change::SliceGone(name));
    };
    let family = match &*object.address_type {
        "IPv4" => AddressFamily::Ipv4,
        "IPv6" => AddressFamily::Ipv6,
        "FQDN" => return Ok(Change::SliceGone(name)),
        other => return Err(at.error("addressType", other, "is none of IPv4, IPv6, FQDN")),
    };
    let (service, ports) = (service.into(), slice_ports(&at, &object.ports)?);
    let mut endpoints = Vec::with_capacity(object.endpoints.as_ref().map_or(0, Vec::len));
    for (index, endpoint) in object.endpoints.into_iter().flatten().enumerate() {
        endpoints.extend(slice_endpoint(&at, index, endpoint, family)?);
    }
    Ok(Change::Slice(Slice { service, family, ports, endpoints, name }))
}

/// A Node.
pub fn node(object: &wire::Node<'_>) -> Result<Node, ReduceError> {
    let name: Arc<str> = object.metadata.name.as_deref().unwrap_or_default().into();
    let at = Source { kind: "Node", object: &name };
    let (no_spec, no_status) = (wire::NodeSpec::default(), wire::NodeStatus::default());
    let spec = object.spec.as_ref().unwrap_or(&no_spec);
    let status = object.status.as_ref().unwrap_or(&no_status);
    let internal = status.addresses.iter().flatten().filter(|address| address.type_ == "InternalIP");
    let internal_ips = at.parse_all("status.addresses", internal.map(|address| &address.address))?;
    let pod_cidrs = match (&spec.pod_cidrs, &spec.pod_cidr) {
        (Some(cidrs), _) if !cidrs.is_empty() => at.parse_all("spec.podCIDRs", cidrs.iter())?,
        (_, cidr) => at.parse_all("spec.podCIDR", cidr.iter().filter(|cidr| !cidr.is_empty()))?,
    };
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    Ok(Node {
        internal_ips,
        pod_cidrs,
        zone: object.metadata.label(ZONE).filter(|zone| !zone.is_empty()).map(Arc::from),
        ready,
        excluded_from_load_balancers: has_label(&object.metadata, EXCLUDE_FROM_LOAD_BALANCERS),
        leaving: object.metadata.deletion_timestamp.is_some()
            || spec.taints.iter().flatten().any(|taint| &*taint.key == LEAVING_TAINT),
        name,
    })
}

/// The host ports of a pod that has an address and has not ended; otherwise that there are none.
pub fn host_ports(object: &wire::Pod<'_>) -> Result<Change, ReduceError> {
    let pod = object_name(&object.metadata);
    let at = Source { kind: "Pod", object: &pod };
    let name = HostPorts::name_of(&pod);
    let (spec, status) = (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let mut ports = Vec::new();
    // A pod in the host's network listens there by itself.
    if !ended && spec.host_network != Some(true) {
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.is_some());
        for port in sidecars.chain(&spec.containers).flat_map(|c| c.ports.iter().flatten()) {
            let Some(number) = port.host_port.filter(|number| *number != 0) else { continue };
            let ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty());
            let ip: Option<IpAddr> =
                ip.map(|ip| at.parse(|| "spec.containers.ports.hostIP".to_owned(), ip)).transpose()?;
            ports.push(HostPort {
                ip: ip.filter(|ip| !ip.is_unspecified()),
                port: at.port(|| "spec.containers.ports.hostPort".to_owned(), number)?,
                protocol: at
                    .protocol(|| "spec.containers.ports.protocol".to_owned(), port.protocol.as_deref())?,
                target: at.port(|| "spec.containers.ports.containerPort".to_owned(), port.container_port)?,
            });
        }
    }
    let addresses: Vec<IpAddr> =
        at.parse_all("status.podIPs", status.pod_ips.iter().flatten().map(|pod_ip| &pod_ip.ip))?;
    if ports.is_empty() || addresses.is_empty() {
        return Ok(Change::HostPortsGone(name));
    }
    Ok(Change::HostPorts(HostPorts { name, addresses, ports }))
}

/// The namespace and name in an object's metadata.
pub fn object_name(metadata: &wire::Metadata<'_>) -> ObjectName {
    ObjectName {
        namespace: metadata.namespace.clone().unwrap_or_else(|| "default".into()),
        name: metadata.name.as_deref().unwrap_or_default().into(),
    }
}

fn cluster_ips(at: &Source, spec: &wire::ServiceSpec<'_>) -> Result<Vec<IpAddr>, ReduceError> {
    let listed = spec.cluster_ips.iter().flatten();
    let only = spec.cluster_ip.iter().filter(|_| spec.cluster_ips.as_ref().is_none_or(Vec::is_empty));
    at.parse_all("spec.clusterIPs", listed.chain(only).filter(|ip| !ip.is_empty() && ip.as_ref() != "None"))
}

fn load_balancer_ips(at: &Source, object: &wire::Service<'_>) -> Result<Vec<LoadBalancerIp>, ReduceError> {
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let mut ips = Vec::new();
    for ingress in status.iter().flat_map(|status| status.ingress.iter().flatten()) {
        if let Some(ip) = ingress.ip.as_deref().filter(|ip| !ip.is_empty()) {
            let ip = at.parse(|| "status.loadBalancer.ingress.ip".to_owned(), ip)?;
            ips.push(LoadBalancerIp { ip, proxy: ingress.ip_mode.as_deref() == Some("Proxy") });
        }
    }
    Ok(ips)
}

fn source_ranges(at: &Source, spec: &wire::ServiceSpec<'_>) -> Result<Vec<IpNet>, ReduceError> {
    let ranges = spec.load_balancer_source_ranges.iter().flatten().map(|range| range.trim());
    let ranges: Vec<IpNet> = at.parse_all("spec.loadBalancerSourceRanges", ranges)?;
    Ok(ranges.into_iter().map(|range| range.trunc()).collect())
}

fn affinity_seconds(at: &Source, spec: &wire::ServiceSpec<'_>) -> Result<u32, ReduceError> {
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    match config.and_then(|client_ip| client_ip.timeout_seconds) {
        None => Ok(DEFAULT_AFFINITY_SECONDS),
        Some(seconds) => {
            u32::try_from(seconds).ok().filter(|seconds| (1..=86_400).contains(seconds)).ok_or_else(|| {
                let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
                at.error(field, seconds, "is not within 1 and 86400")
            })
        }
    }
}

fn service_ports(at: &Source, spec: &wire::ServiceSpec<'_>) -> Result<Vec<ServicePort>, ReduceError> {
    let mut ports = Vec::new();
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        ports.push(ServicePort {
            name: port.name.clone().unwrap_or_default(),
            protocol: at.protocol(|| format!("spec.ports[{index}].protocol"), port.protocol.as_deref())?,
            port: at.port(|| format!("spec.ports[{index}].port"), port.port)?,
            node_port: match port.node_port {
                None | Some(0) => None,
                Some(number) => Some(at.port(|| format!("spec.ports[{index}].nodePort"), number)?),
            },
        });
    }
    Ok(ports)
}

fn slice_ports(
    at: &Source,
    listed: &Option<Vec<wire::EndpointPort<'_>>>,
) -> Result<Vec<SlicePort>, ReduceError> {
    let mut ports = Vec::new();
    for (index, port) in listed.iter().flatten().enumerate() {
        let Some(number) = port.port else { continue };
        ports.push(SlicePort {
            name: port.name.clone().unwrap_or_default(),
            protocol: at.protocol(|| format!("ports[{index}].protocol"), port.protocol.as_deref())?,
            port: at.port(|| format!("ports[{index}].port"), number)?,
        });
    }
    Ok(ports)
}

/// Absent conditions: ready, serving, not terminating.
fn slice_endpoint(
    at: &Source,
    index: usize,
    endpoint: wire::Endpoint<'_>,
    family: AddressFamily,
) -> Result<Option<Endpoint>, ReduceError> {
    let field = || format!("endpoints[{index}].addresses[0]");
    let address = match &endpoint.address {
        None => return Ok(None),
        Some(wire::Address::Ip(ip)) => *ip,
        Some(wire::Address::Other(text)) => return Err(at.error(&field(), text, NO_ADDRESS)),
    };
    if AddressFamily::of(&address) != family {
        return Err(at.error(&field(), address, "is not of the slice's addressType"));
    }
    let conditions = endpoint.conditions.unwrap_or_default();
    Ok(Some(Endpoint {
        address,
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        node: endpoint.node_name,
        hostname: endpoint.hostname.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
        hints: endpoint.hints.as_ref().and_then(hints),
    }))
}

fn hints(hints: &EndpointHints) -> Option<Arc<Hints>> {
    let zones: Vec<Arc<str>> =
        hints.for_zones.iter().flatten().map(|zone| zone.name.as_str().into()).collect();
    let nodes: Vec<Arc<str>> =
        hints.for_nodes.iter().flatten().map(|node| node.name.as_str().into()).collect();
    let any = !zones.is_empty() || !nodes.is_empty();
    any.then(|| Arc::new(Hints { zones, nodes }))
}

fn has_label(metadata: &wire::Metadata<'_>, key: &str) -> bool {
    metadata.label(key).is_some()
}

/// The object being reduced, for errors. What errors say is made when there is one.
struct Source<'a> {
    kind: &'static str,
    object: &'a dyn fmt::Display,
}

impl Source<'_> {
    fn error(&self, field: &str, value: impl ToString, problem: &'static str) -> ReduceError {
        ReduceError {
            kind: self.kind,
            object: self.object.to_string(),
            field: field.to_owned(),
            value: value.to_string(),
            problem,
        }
    }

    fn parse<T: FromStr>(&self, field: impl FnOnce() -> String, text: &str) -> Result<T, ReduceError> {
        text.parse().map_err(|_| self.error(&field(), text, NO_ADDRESS))
    }

    fn parse_all<T: FromStr>(
        &self,
        field: &str,
        texts: impl Iterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<T>, ReduceError> {
        texts.enumerate().map(|(at, text)| self.parse(|| format!("{field}[{at}]"), text.as_ref())).collect()
    }

    fn port(&self, field: impl FnOnce() -> String, number: i32) -> Result<u16, ReduceError> {
        u16::try_from(number)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| self.error(&field(), number, "is no port number (1-65535)"))
    }

    fn protocol(&self, field: impl FnOnce() -> String, text: Option<&str>) -> Result<Protocol, ReduceError> {
        match text.unwrap_or("TCP") {
            "TCP" => Ok(Protocol::Tcp),
            "UDP" => Ok(Protocol::Udp),
            "SCTP" => Ok(Protocol::Sctp),
            other => Err(self.error(&field(), other, "is none of TCP, UDP, SCTP")),
        }
    }
}

#[cfg(test)]
mod tests;
