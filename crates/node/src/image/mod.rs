//! The image store: pulled, loaded and built-in images, shared by the nodes of a machine.

mod error;
mod types;

pub use error::ImageError;
pub use types::{ImageConfig, ImageInfo, PullPolicy, PullSecrets, RegistryConfig, RegistryCredential};
