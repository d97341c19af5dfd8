//! Pulls images from registries: mirrors, credentials, platform choice, digests checked twice.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use oci_client::secrets::RegistryAuth;

use super::config::{self, Descriptor, Manifest};
use super::reference::ImageName;
use super::store::{Import, Store, io_error};
use super::stream::{HashReader, digest_of};
use super::{ImageError, ImageInfo, PullSecrets, RegistryConfig};

const ACCEPTED: [&str; 4] = [
    OCI_IMAGE_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// Told how far a pull is: bytes had, bytes in all (0 until known).
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Pulls an image into the store and tags it with its name. Must run where the registry can be reached.
/// Mirrors of the registry are asked first; what they don't have comes from the registry itself.
pub async fn pull(
    store: &Store,
    image: &str,
    secrets: &PullSecrets,
    registries: &RegistryConfig,
    progress: Option<Progress>,
) -> Result<ImageInfo, ImageError> {
    let name = ImageName::parse(image)?;
    let mut last = None;
    for source in sources(&name, registries) {
        for auth in credentials(&source, secrets) {
            let attempt = Attempt { store, name: &name, source: &source, auth: &auth, progress: &progress };
            match attempt.run().await {
                Ok(info) => return Ok(info),
                Err(error) => {
                    tracing::debug!(image, source = source.host, %error, "pull attempt failed");
                    let final_word = matches!(
                        error,
                        ImageError::Io { .. } | ImageError::WrongPlatform { .. } | ImageError::InUse { .. }
                    );
                    if final_word {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
    }
    let cause = "no registry to ask".to_owned();
    Err(last.unwrap_or(ImageError::Registry { image: name.full(), registry: name.registry().into(), cause }))
}

/// A registry to ask, in the order of asking.
#[derive(Clone, Debug, PartialEq)]
struct Source {
    host: String,
    plain_http: bool,
    reference: Reference,
    /// The registry of the name, whose credentials count (mirrors are asked without).
    registry: Option<String>,
}

fn sources(name: &ImageName, registries: &RegistryConfig) -> Vec<Source> {
    let mut sources = Vec::new();
    for mirror in registries.mirrors.get(name.registry()).into_iter().flatten() {
        let (plain_http, host) = match mirror.split_once("://") {
            Some((scheme, host)) => (scheme == "http", host.trim_end_matches('/')),
            None => (is_plain(mirror, registries), mirror.as_str()),
        };
        let mut reference = name.reference().clone();
        reference.set_mirror_registry(host.to_owned());
        sources.push(Source { host: host.to_owned(), plain_http, reference, registry: None });
    }
    sources.push(Source {
        host: name.registry().to_owned(),
        plain_http: is_plain(name.registry(), registries),
        reference: name.reference().clone(),
        registry: Some(name.registry().to_owned()),
    });
    sources
}

/// Loopback registries and configured ones are spoken to by plain HTTP.
fn is_plain(host: &str, registries: &RegistryConfig) -> bool {
    let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
    let loopback = bare == "localhost"
        || bare.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    loopback || registries.insecure.iter().any(|entry| entry == host || entry == bare)
}

/// Credentials that match the registry, longest path first; without any, anonymous.
fn credentials(source: &Source, secrets: &PullSecrets) -> Vec<RegistryAuth> {
    let Some(registry) = &source.registry else { return vec![RegistryAuth::Anonymous] };
    let wanted = format!("{registry}/{}", source.reference.repository());
    let mut matching = secrets
        .credentials
        .iter()
        .filter_map(|credential| {
            let key = credential.registry.split_once("://").map_or(&*credential.registry, |(_, rest)| rest);
            let key = key.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
            let key = key.replacen("index.docker.io", "docker.io", 1);
            let fits = wanted == key || wanted.strip_prefix(&*key).is_some_and(|rest| rest.starts_with('/'));
            fits.then_some((key.len(), credential))
        })
        .collect::<Vec<_>>();
    matching.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    if matching.is_empty() {
        return vec![RegistryAuth::Anonymous];
    }
    let basic = |c: &super::RegistryCredential| RegistryAuth::Basic(c.username.clone(), c.password.clone());
    matching.into_iter().map(|(_, credential)| basic(credential)).collect()
}

struct Attempt<'a> {
    store: &'a Store,
    name: &'a ImageName,
    source: &'a Source,
    auth: &'a RegistryAuth,
    progress: &'a Option<Progress>,
}

impl Attempt<'_> {
    async fn run(&self) -> Result<ImageInfo, ImageError> {
        let client = self.client()?;
        let (manifest, digest) = self.manifest(&client).await?;
        let described = manifest.config.clone();
        let described = described.ok_or_else(|| self.corrupt("its manifest has no config".into()))?;
        let total = manifest.layers.iter().map(|layer| layer.size).sum();
        let scratch = self.store.scratch()?;
        let config_path = scratch.path.join("config");
        self.blob(&client, &described, &config_path, &mut 0, 0).await?;
        let config = std::fs::read(&config_path).map_err(|cause| io_error("reading", &config_path, cause))?;
        // Refuse a wrong platform before its layers are fetched.
        config::parse(&self.name.full(), &config)?;
        let mut had = 0;
        for (position, layer) in manifest.layers.iter().enumerate() {
            let path = scratch.path.join(position.to_string());
            self.blob(&client, layer, &path, &mut had, total).await?;
        }
        let (store, name) = (self.store.clone(), self.name.clone());
        let layers = manifest.layers.len();
        let unpack = move || {
            let mut open = |position: usize| {
                let path = scratch.path.join(position.to_string());
                let file = File::open(&path).map_err(|cause| io_error("opening", &path, cause))?;
                Ok(Box::new(file) as Box<dyn std::io::Read>)
            };
            let tags = if name.digest().is_some() { Vec::new() } else { vec![name.full()] };
            let digests = vec![format!("{}@{digest}", name.repository())];
            let label = name.full();
            let result = store.import(Import {
                label: &label,
                config: &config,
                tags,
                digests,
                open: &mut open,
                layers,
            });
            if result.is_err() {
                store.collect();
            }
            result
        };
        let done = tokio::task::spawn_blocking(unpack).await;
        done.unwrap_or_else(|error| Err(self.failed(error.to_string())))
    }

    fn client(&self) -> Result<Client, ImageError> {
        // Another part of the program may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig {
            protocol: if self.source.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            platform_resolver: None,
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: Some(Duration::from_secs(30)),
            user_agent: concat!("daymark/", env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        Client::try_from(config).map_err(|error| self.failed(error.to_string()))
    }

    /// The image manifest for this machine, and the digest that the name led to.
    async fn manifest(&self, client: &Client) -> Result<(Manifest, String), ImageError> {
        let mut reference = self.source.reference.clone();
        let mut named = None;
        for _ in 0..4 {
            let answer = client.pull_manifest_raw(&reference, self.auth, &ACCEPTED).await;
            let (bytes, _) = answer.map_err(|error| self.translate(error))?;
            let digest = digest_of(&bytes);
            if reference.digest().is_some_and(|wanted| wanted != digest) {
                return Err(self.corrupt(format!("the registry gave a manifest with digest {digest}")));
            }
            let manifest: Manifest = serde_json::from_slice(&bytes)
                .map_err(|error| self.corrupt(format!("its manifest: {error}")))?;
            let named = named.get_or_insert(digest).clone();
            if manifest.manifests.is_empty() {
                return Ok((manifest, named));
            }
            let chosen = config::choose(&self.name.full(), &manifest.manifests)?;
            if !config::is_digest(&chosen.digest) {
                return Err(self.corrupt(format!("digest {:?} is not sha256", chosen.digest)));
            }
            reference = self.source.reference.clone_with_digest(chosen.digest.clone());
        }
        Err(self.corrupt("its indexes are nested too deeply".into()))
    }

    /// Fetches one blob into a file and checks its digest.
    async fn blob(
        &self,
        client: &Client,
        described: &Descriptor,
        path: &Path,
        had: &mut u64,
        total: u64,
    ) -> Result<(), ImageError> {
        if !config::is_digest(&described.digest) {
            return Err(self.corrupt(format!("digest {:?} is not sha256", described.digest)));
        }
        let answer = client.pull_blob_stream(&self.source.reference, &*described.digest).await;
        let mut stream = answer.map_err(|error| self.translate(error))?.stream;
        let mut file = File::create(path).map_err(|cause| io_error("making", path, cause))?;
        while let Some(chunk) = stream.try_next().await.map_err(|error| self.failed(error.to_string()))? {
            file.write_all(&chunk).map_err(|cause| io_error("writing", path, cause))?;
            *had += chunk.len() as u64;
            if let Some(progress) = self.progress {
                progress(*had, total);
            }
        }
        drop(file);
        let (path, wanted) = (path.to_owned(), described.digest.clone());
        let hash = move || File::open(&path).and_then(|file| HashReader::new(file).finish());
        match tokio::task::spawn_blocking(hash).await {
            Ok(Ok(found)) if found == wanted => Ok(()),
            Ok(Ok(found)) => Err(self.corrupt(format!("the registry gave content {found} for {wanted}"))),
            Ok(Err(cause)) => Err(ImageError::Io { what: "checking a digest".into(), cause }),
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    fn corrupt(&self, cause: String) -> ImageError {
        ImageError::Corrupt { image: self.name.full(), cause }
    }

    fn failed(&self, cause: String) -> ImageError {
        ImageError::Registry { image: self.name.full(), registry: self.source.host.clone(), cause }
    }

    fn translate(&self, error: OciDistributionError) -> ImageError {
        let (image, cause) = (self.name.full(), with_sources(&error));
        match &error {
            OciDistributionError::ImageManifestNotFoundError(_) => ImageError::NotFound { image, cause },
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => ImageError::Unauthorized { image, cause },
            OciDistributionError::RegistryError { envelope, .. } => {
                let code = envelope.errors.first().map(|first| &first.code);
                match code {
                    Some(
                        OciErrorCode::ManifestUnknown
                        | OciErrorCode::NameUnknown
                        | OciErrorCode::NotFound
                        | OciErrorCode::ManifestBlobUnknown
                        | OciErrorCode::BlobUnknown,
                    ) => ImageError::NotFound { image, cause },
                    Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => {
                        ImageError::Unauthorized { image, cause }
                    }
                    _ => self.failed(cause),
                }
            }
            OciDistributionError::ServerError { code: 404, .. } => ImageError::NotFound { image, cause },
            OciDistributionError::ServerError { code: 401 | 403, .. } => {
                ImageError::Unauthorized { image, cause }
            }
            OciDistributionError::DigestError(_) => self.corrupt(cause),
            _ => self.failed(cause),
        }
    }
}

/// An error with all its causes: "connection refused" is often the innermost.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}
