//! TLS, request parsing, content types and responses.

pub mod body;
pub mod listen;
mod meta_routes;
pub mod request;
mod resource_routes;
pub mod respond;
pub mod route;
pub mod watch;
