//! A Kubernetes API server with an embedded store: objects are generic JSON driven by a schema
//! table, and per-kind code exists only where Kubernetes has per-kind behaviour.

pub mod access;
pub mod addresses;
pub mod admission;
pub mod apply;
pub mod bootstrap;
pub mod custom;
pub mod discovery;
pub mod error;
pub mod http;
pub mod kinds;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod proxy;
pub mod registry;
pub mod schema;
pub mod selector;
pub mod server;
pub mod store;
pub mod table;
mod upkeep;

pub use server::{Config, Server};
