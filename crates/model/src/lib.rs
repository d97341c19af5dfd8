//! What the cluster *is*, reduced to what Services need: Services, EndpointSlices, nodes, and the
//! [`World`] that holds them. No I/O, no clock, no randomness, no logging.

pub mod endpoints;
pub mod family;
pub mod host_ports;
pub mod name;
pub mod node;
mod packed;
pub mod reduce;
pub mod service;
pub mod wire;
pub mod world;

pub use endpoints::{AddressFamily, Endpoint, Hints, Slice, SlicePort};
pub use family::{HasFamily, PerFamily};
pub use host_ports::{HostPort, HostPorts};
pub use name::{ObjectName, Protocol};
pub use node::Node;
pub use packed::{EndpointView, SliceView};
pub use service::{LoadBalancerIp, Service, ServicePort, ServiceType, TrafficDistribution};
pub use world::{Change, Slices, Touched, World};
