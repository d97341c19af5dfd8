//! The host ports of a pod, reduced.

use std::net::IpAddr;

use crate::{ObjectName, Protocol};

/// What stands before a pod's name in [`HostPorts::name`]: no Service can be called so.
const MARK: &str = "pod/";

/// A pod that serves ports of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPorts {
    /// The pod's, marked by [`HostPorts::name_of`], so that it is told from a Service's.
    pub name: ObjectName,
    /// The pod's addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<HostPort>,
}

/// One entry of a container's `ports` that has a `hostPort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `hostIP`; `None` is every address of the node.
    pub ip: Option<IpAddr>,
    /// `hostPort`.
    pub port: u16,
    pub protocol: Protocol,
    /// `containerPort`.
    pub target: u16,
}

impl HostPorts {
    /// The name that stands for this pod's host ports.
    pub fn name_of(pod: &ObjectName) -> ObjectName {
        ObjectName::new(pod.namespace.clone(), format!("{MARK}{}", pod.name))
    }

    /// The pod that a name stands for, if it was made by [`HostPorts::name_of`].
    pub fn pod_of(name: &ObjectName) -> Option<ObjectName> {
        Some(ObjectName::new(name.namespace.clone(), name.name.strip_prefix(MARK)?))
    }
}
