//! Pods on one node: sandboxes, images, containers, probes, volumes, exec, logs and the kubelet API.

pub mod config;
pub mod env;
pub mod image;
pub mod pod;
pub mod probe;
pub mod register;
mod run;
pub mod runtime;
pub mod sandbox;
pub mod server;
pub mod shim;
pub mod volume;
pub mod web;

pub use config::NodeConfig;
pub use run::{run, run_with};
