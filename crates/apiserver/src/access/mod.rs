//! Who asks, and what they may do: identities, tokens, RBAC, impersonation, and the reviews that tell about them.

pub mod accounts;
pub mod attributes;
pub mod bearer;
pub mod bootstrap;
mod cover;
mod escalation;
pub mod identity;
pub mod impersonate;
pub mod index;
pub mod policy;
mod request;
pub mod review;
pub mod rule;
pub mod token;
mod token_review;

pub use attributes::Attributes;
pub use identity::Identity;
