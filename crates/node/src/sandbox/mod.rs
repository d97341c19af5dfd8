//! What surrounds a pod's containers: namespaces with their shim, link, address, cgroups, files in `/etc`.

pub mod cgroup;
pub mod dial;
pub mod hosts;
pub mod ipam;
pub mod link;
mod process;

pub use process::start_shim;
