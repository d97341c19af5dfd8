//! What the plan cannot do as the objects ask: each issue says in one sentence what is wrong with which
//! object and how to mend it, fit for a Kubernetes Event.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use daymark_model::ObjectName;

use crate::tables::{FrontendKey, FrontendKind};

/// Most values that one message names; of others it says how many there are.
const MOST_NAMED: usize = 3;

/// Something that an object asks for and does not get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Issue {
    /// Another Service has these frontends. A frontend goes to the first by kind (cluster IP, node port,
    /// LoadBalancer IP, external IP, host port), then by name.
    FrontendTaken { service: ObjectName, kind: FrontendKind, holder: ObjectName, frontends: Vec<FrontendKey> },
    /// A slice names addresses that are no pod's or server's; they get no traffic.
    EndpointRefused {
        service: ObjectName,
        slice: ObjectName,
        problem: SpecialAddress,
        addresses: Vec<IpAddr>,
    },
    /// External IPs outside the CIDRs that the administrator allows (CVE-2020-8554).
    ExternalIpRefused { service: ObjectName, addresses: Vec<IpAddr> },
}

impl Issue {
    /// The kind and name of the object that an Event about this regards.
    pub fn regarding(&self) -> (&'static str, &ObjectName) {
        match self {
            Issue::FrontendTaken { service, kind: FrontendKind::HostPort, .. } => ("Pod", service),
            Issue::FrontendTaken { service, .. } | Issue::ExternalIpRefused { service, .. } => {
                ("Service", service)
            }
            Issue::EndpointRefused { slice, .. } => ("EndpointSlice", slice),
        }
    }

    /// The `reason` of an Event about this.
    pub const fn reason(&self) -> &'static str {
        match self {
            Issue::FrontendTaken { .. } => "FrontendTaken",
            Issue::EndpointRefused { .. } => "EndpointRefused",
            Issue::ExternalIpRefused { .. } => "ExternalIPRefused",
        }
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (object_kind, object) = self.regarding();
        write!(f, "{object_kind} {object}: ")?;
        match self {
            Issue::FrontendTaken { kind, holder, frontends, .. } => {
                let (field, advice) = match kind {
                    FrontendKind::ClusterIp => ("spec.clusterIPs", "create one of the two anew"),
                    FrontendKind::NodePort => ("spec.ports[].nodePort", "give one of the two another number"),
                    FrontendKind::LoadBalancerIp => {
                        ("status.loadBalancer.ingress", "give one of the two another address or port")
                    }
                    FrontendKind::ExternalIp => {
                        ("spec.externalIPs", "give one of the two another address or port")
                    }
                    FrontendKind::HostPort => {
                        ("spec.containers[].ports[].hostPort", "give the pod another host port")
                    }
                };
                let mut values: Vec<String> = frontends.iter().map(|key| named(*kind, key)).collect();
                values.dedup();
                write!(
                    f,
                    "{field}: {} served for Service {holder}, not for this one; {advice}",
                    some(&values)
                )
            }
            Issue::EndpointRefused { service, problem, addresses, .. } => write!(
                f,
                "endpoints[].addresses: {} {problem}, so Service {service} sends nothing there; correct the \
                 slice, or allow such endpoints",
                some(addresses)
            ),
            Issue::ExternalIpRefused { addresses, .. } => write!(
                f,
                "spec.externalIPs: {} not within the CIDRs allowed for external IPs, so not served; remove \
                 it, use a LoadBalancer Service, or allow its CIDR",
                some(addresses)
            ),
        }
    }
}

/// A node port is the same on every address.
fn named(kind: FrontendKind, key: &FrontendKey) -> String {
    match kind {
        FrontendKind::NodePort => format!("{}/{}", key.port, key.protocol),
        _ => format!("{}/{}", std::net::SocketAddr::new(key.ip, key.port), key.protocol),
    }
}

/// The first of several values and the verb that goes with them: `A is`, `A, B are`, `A, B, C and 7 more are`.
fn some<T: ToString>(values: &[T]) -> String {
    let named: Vec<String> = values.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let more = match values.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more} {}", named.join(", "), if values.len() == 1 { "is" } else { "are" })
}

/// Why an address cannot be an endpoint's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpecialAddress {
    Unspecified,
    /// Every node's and every pod's own.
    Loopback,
    /// Of one link only; IPv4's range includes the metadata servers of clouds.
    LinkLocal,
    /// Includes IPv4's broadcast address.
    Multicast,
    /// An IPv4 address written as an IPv6 one.
    MappedIpv4,
}

impl SpecialAddress {
    /// What is special about `address`, if anything.
    pub fn of(address: &IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(ip) if ip.is_unspecified() => Some(Self::Unspecified),
            IpAddr::V4(ip) if ip.is_loopback() => Some(Self::Loopback),
            IpAddr::V4(ip) if ip.is_link_local() => Some(Self::LinkLocal),
            IpAddr::V4(ip) if ip.is_multicast() || ip.is_broadcast() => Some(Self::Multicast),
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) if ip.is_unspecified() => Some(Self::Unspecified),
            IpAddr::V6(ip) if ip.is_loopback() => Some(Self::Loopback),
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(Self::LinkLocal),
            IpAddr::V6(ip) if ip.is_multicast() => Some(Self::Multicast),
            IpAddr::V6(ip) => Ipv6Addr::to_ipv4_mapped(ip).map(|_| Self::MappedIpv4),
        }
    }
}

/// Follows "is" or "are".
impl fmt::Display for SpecialAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified (no address at all)",
            Self::Loopback => "loopback (each node's and pod's own)",
            Self::LinkLocal => "link-local (not reachable over a router)",
            Self::Multicast => "multicast or broadcast",
            Self::MappedIpv4 => "IPv4 written as IPv6",
        })
    }
}

#[cfg(test)]
mod tests;
