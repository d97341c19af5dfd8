//! An EndpointSlice, reduced.

use std::net::IpAddr;
use std::sync::Arc;

use crate::{ObjectName, Protocol};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressFamily {
    Ipv4,
    Ipv6,
}

impl AddressFamily {
    pub const BOTH: [AddressFamily; 2] = [AddressFamily::Ipv4, AddressFamily::Ipv6];

    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => AddressFamily::Ipv4,
            IpAddr::V6(_) => AddressFamily::Ipv6,
        }
    }
}

/// One EndpointSlice of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub name: ObjectName,
    /// The Service it belongs to, by label `kubernetes.io/service-name`, in the same namespace.
    pub service: Arc<str>,
    pub family: AddressFamily,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlicePort {
    /// Matches [`crate::ServicePort::name`]; empty for an unnamed port.
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub port: u16,
}

/// One endpoint; its conditions per KEP-1672.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<Arc<str>>,
    pub hostname: Option<Arc<str>>,
    /// `None` where the API has no hints. Endpoints with equal hints share them in a [`crate::World`].
    pub hints: Option<Arc<Hints>>,
}

/// Whose clients an endpoint is meant for: `hints.forZones` and `hints.forNodes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    pub zones: Vec<Arc<str>>,
    pub nodes: Vec<Arc<str>>,
}

impl Endpoint {
    /// A ready endpoint of which nothing but its address is known.
    pub fn ready(address: IpAddr) -> Self {
        Self {
            address,
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            hostname: None,
            hints: None,
        }
    }
}
