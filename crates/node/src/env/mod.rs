//! The environment of a container: variables and where they come from, name resolution, identity.

pub mod dns;
pub mod expand;
pub mod fields;
pub mod identity;
pub mod links;
pub mod quantity;
pub mod vars;

pub use vars::{EnvError, Sources, TokenAsk, container_env};
