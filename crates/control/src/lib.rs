//! The only user of the Kubernetes client: the watches that agents follow, the controllers of the
//! embedded cluster, and what both write.
//!
//! Each controller is a pure function from what is known ([`View`](view::View)) about one object to
//! actions; one runner feeds them all from one set of watches and carries their actions out.

mod account_secrets;
mod action;
mod aggregation;
mod changes;
mod claim;
mod config;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod dns;
mod endpoints;
mod endpointslice;
mod events;
mod following;
mod gc;
mod job;
mod loadbalancer;
mod meta;
mod namespace;
mod node;
mod object;
mod reading;
mod replicaset;
mod revisions;
mod runner;
mod scheduler;
mod state;
mod statefulset;
mod task;
mod template;
#[cfg(test)]
mod testing;
mod view;
mod watching;

pub use account_secrets::TokenSigner;
pub use action::EventNote;
pub use changes::{ChangeEvent, changes};
pub use config::{AddressRange, ControllersConfig};
pub use dns::publish_dns;
pub use events::EventRecorder;
pub use runner::run_controllers;
