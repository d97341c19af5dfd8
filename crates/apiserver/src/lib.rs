//! A Kubernetes API server with an embedded store.

pub mod error;
