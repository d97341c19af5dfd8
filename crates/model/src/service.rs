//! A Service, reduced to what the data plane, DNS and announcing need.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{ObjectName, Protocol};

/// `spec.type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
    /// DNS CNAME only: `spec.externalName`.
    ExternalName(Arc<str>),
}

/// `spec.trafficDistribution` (KEP-4444, KEP-3015). `PreferClose` is `PreferSameZone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficDistribution {
    PreferSameZone,
    PreferSameNode,
}

/// One entry of `status.loadBalancer.ingress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadBalancerIp {
    pub ip: IpAddr,
    /// `ipMode: Proxy` (KEP-1860): in-cluster traffic is not short-cut.
    pub proxy: bool,
}

/// One entry of `spec.ports`. Target ports are resolved in the EndpointSlices, under the same port name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty for an unnamed port.
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

/// A Service. Fields carry the meaning of the API fields of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: ObjectName,
    pub service_type: ServiceType,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Empty for headless and ExternalName Services.
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<LoadBalancerIp>,
    /// `spec.loadBalancerSourceRanges`; empty means everybody.
    pub source_ranges: Vec<IpNet>,
    pub ports: Vec<ServicePort>,
    /// `sessionAffinity: ClientIP` and its timeout in seconds.
    pub affinity_seconds: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    pub health_check_node_port: Option<u16>,
    pub publish_not_ready: bool,
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Labels exclude it from the data plane (`service-proxy-name`, `headless`).
    pub excluded: bool,
}

impl Service {
    /// A Service of type ClusterIP without addresses and ports; all else as the API's defaults have it.
    pub fn new(name: ObjectName) -> Self {
        Self {
            name,
            service_type: ServiceType::ClusterIp,
            headless: false,
            cluster_ips: Vec::new(),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            ports: Vec::new(),
            affinity_seconds: None,
            internal_local: false,
            external_local: false,
            health_check_node_port: None,
            publish_not_ready: false,
            traffic_distribution: None,
            excluded: false,
        }
    }
}
