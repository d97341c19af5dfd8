//! Images as callers see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// When to ask the registry (`imagePullPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Ask every time; fail if the registry does not answer.
    Always,
    /// Only if the store doesn't have it.
    IfNotPresent,
    /// Never ask.
    Never,
}

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// `sha256:…` of the image's configuration.
    pub id: String,
    /// Normalised names, e.g. `docker.io/library/nginx:latest`.
    pub tags: Vec<String>,
    /// `name@sha256:…` of the manifests it was pulled by.
    pub digests: Vec<String>,
    /// Bytes of the unpacked layers.
    pub size: u64,
    /// Part of the program itself: never pulled, never removed.
    pub builtin: bool,
    /// What to run.
    pub config: ImageConfig,
}

/// The part of an image's configuration that says how to run it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, `NAME=value`.
    pub env: Vec<String>,
    /// `WorkingDir`; empty means `/`.
    pub working_dir: String,
    /// `User`: `name`, `uid`, `name:group`, `uid:gid`.
    pub user: String,
    /// `ExposedPorts`, e.g. `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `StopSignal`, e.g. `SIGQUIT`.
    pub stop_signal: String,
}

/// Credentials for registries: the merged `.dockerconfigjson` of a pod's image pull secrets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PullSecrets {
    /// In the order in which they are tried.
    pub credentials: Vec<RegistryCredential>,
}

/// A user name and password (or token) for one registry or a path in it.
#[derive(Clone, PartialEq)]
pub struct RegistryCredential {
    /// Key of the `auths` entry, e.g. `registry.example.com/team` or `https://index.docker.io/v1/`.
    pub registry: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for RegistryCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegistryCredential({} at {})", self.username, self.registry)
    }
}

/// Where images come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryConfig {
    /// Registry → mirrors tried before it, each `host[:port]` or `http(s)://host[:port]`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Registries spoken to by plain HTTP; loopback ones always are tried so.
    pub insecure: Vec<String>,
}
