//! The image store: pulled, loaded and built-in images, shared by the nodes of a machine.

mod archive;
mod builtin;
mod config;
mod error;
mod index;
mod layer;
mod pull;
mod reference;
mod store;
mod stream;
mod types;

pub use error::ImageError;
pub use pull::{Progress, pull};
pub use reference::ImageName;
pub use store::Store;
pub use types::{ImageConfig, ImageInfo, PullPolicy, PullSecrets, RegistryConfig, RegistryCredential};
