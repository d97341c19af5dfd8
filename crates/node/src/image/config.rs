//! Image manifests and configurations, as Docker and OCI write them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{ImageConfig, ImageError};

/// What an image's configuration file says, checked for this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedConfig {
    /// How to run it.
    pub config: ImageConfig,
    /// Digest of each uncompressed layer, lowest first.
    pub diff_ids: Vec<String>,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<RunConfig>,
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Deserialize, Default)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RunConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, Value>>,
    stop_signal: Option<String>,
}

/// The machine's platform in OCI's words, e.g. `linux/amd64`.
pub fn platform() -> String {
    format!("linux/{}", architecture())
}

/// The machine's architecture in OCI's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Parses a configuration file; `image` names it in errors.
pub fn parse(image: &str, bytes: &[u8]) -> Result<ParsedConfig, ImageError> {
    let corrupt = |cause: String| ImageError::Corrupt { image: image.to_owned(), cause };
    let file: ConfigFile =
        serde_json::from_slice(bytes).map_err(|error| corrupt(format!("its configuration: {error}")))?;
    if file.os != "linux" || file.architecture != architecture() {
        return Err(ImageError::WrongPlatform {
            image: image.to_owned(),
            found: format!("{}/{}", file.os, file.architecture),
            wanted: platform(),
        });
    }
    for digest in &file.rootfs.diff_ids {
        if !is_digest(digest) {
            return Err(corrupt(format!("layer digest {digest:?} is not sha256")));
        }
    }
    let run = file.config.unwrap_or_default();
    Ok(ParsedConfig {
        config: ImageConfig {
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            exposed_ports: run.exposed_ports.unwrap_or_default().into_keys().collect(),
            stop_signal: run.stop_signal.unwrap_or_default(),
        },
        diff_ids: file.rootfs.diff_ids,
    })
}

/// Whether this is `sha256:` and 64 lower-case hexadecimal digits; such a text is a safe file name.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// A content descriptor.
#[derive(Clone, Debug, Deserialize)]
pub struct Descriptor {
    /// `sha256:…` of the content.
    pub digest: String,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
    /// For whom it is.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// Free-form facts, such as names.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The platform of a descriptor.
#[derive(Clone, Debug, Deserialize)]
pub struct Platform {
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
}

/// An image manifest, or an index of manifests for several platforms.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    /// The configuration, in an image manifest.
    #[serde(default)]
    pub config: Option<Descriptor>,
    /// Layers, lowest first, in an image manifest.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// Choices, in an index.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// Chooses the manifest for this machine from an index; an entry without platform fits any machine.
pub fn choose<'a>(image: &str, manifests: &'a [Descriptor]) -> Result<&'a Descriptor, ImageError> {
    let fits = |entry: &&Descriptor| {
        entry.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == architecture())
    };
    let unspecific = |entry: &&Descriptor| entry.platform.is_none();
    let chosen = manifests.iter().find(fits).or_else(|| manifests.iter().find(unspecific));
    chosen.ok_or_else(|| {
        let platforms = manifests.iter().filter_map(|entry| entry.platform.as_ref());
        let names = platforms.filter(|p| p.os != "unknown").map(|p| format!("{}/{}", p.os, p.architecture));
        let found = names.collect::<Vec<_>>().join(", ");
        ImageError::WrongPlatform { image: image.to_owned(), found, wanted: platform() }
    })
}
