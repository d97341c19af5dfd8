//! Why an image could not be had, in kubelet's terms.

/// A failed image operation. The message names the image, the cause and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The name is not an image reference.
    #[error("couldn't parse image name {image:?}: {cause}")]
    InvalidName {
        /// As given.
        image: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Not in the store, and the policy is `Never`.
    #[error(
        "container image {image:?} is not present with pull policy of Never; load it with `daymark image load FILE`"
    )]
    NeverPull {
        /// As given.
        image: String,
    },
    /// The registry doesn't have it.
    #[error("image {image:?} not found: {cause}")]
    NotFound {
        /// Normalised name.
        image: String,
        /// The registry's answer.
        cause: String,
    },
    /// The registry refuses to give it.
    #[error("image {image:?}: pull access denied, it may not exist or may need imagePullSecrets: {cause}")]
    Unauthorized {
        /// Normalised name.
        image: String,
        /// The registry's answer.
        cause: String,
    },
    /// The registry did not answer or broke off.
    #[error("image {image:?}: failed to pull from {registry}: {cause}")]
    Registry {
        /// Normalised name.
        image: String,
        /// Who was asked.
        registry: String,
        /// What happened.
        cause: String,
    },
    /// No variant for this machine.
    #[error("image {image:?} is for {found}, not for {wanted}")]
    WrongPlatform {
        /// Name or archive.
        image: String,
        /// Platforms it has.
        found: String,
        /// The machine's platform.
        wanted: String,
    },
    /// Content that doesn't match its digest, or an archive that makes no sense.
    #[error("image {image:?} is corrupt: {cause}")]
    Corrupt {
        /// Name or archive.
        image: String,
        /// What is wrong.
        cause: String,
    },
    /// Asked to remove or use an image that isn't there.
    #[error("image {image:?} is not in the store")]
    NotPresent {
        /// As given.
        image: String,
    },
    /// The image may not be removed.
    #[error("image {image:?} cannot be removed: {cause}")]
    InUse {
        /// As given.
        image: String,
        /// By whom.
        cause: String,
    },
    /// A file of the store could not be read or written.
    #[error("image store: {what}: {cause}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's answer.
        cause: std::io::Error,
    },
}

impl ImageError {
    /// The `reason` that kubelet puts into a waiting container status. The caller turns a repeated
    /// `ErrImagePull` into `ImagePullBackOff`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidImageName",
            Self::NeverPull { .. } => "ErrImageNeverPull",
            Self::Registry { .. } => "ErrImagePull",
            Self::NotPresent { .. } | Self::InUse { .. } | Self::Io { .. } => "ImageInspectError",
            _ => "ErrImagePull",
        }
    }
}
