//! The nodes' network on this machine: a bridge with the host on it, one network namespace per node.

pub mod build;
pub mod egress;
pub mod netns;
pub mod routes;
pub mod sysctl;
