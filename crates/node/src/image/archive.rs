//! Loads `docker save` archives and OCI layout archives, plain or compressed.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::config::{self, Descriptor, Manifest};
use super::store::{Import, Store, io_error, tag};
use super::stream::{HashReader, decompress};
use super::{ImageError, ImageInfo};

/// Largest manifest or configuration that is read into memory, in bytes.
const MAX_DOCUMENT: u64 = 8 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    /// Loads all images of an archive file. Either all of them are in the store afterwards or the
    /// error says why not; layers that came in before are deleted again.
    pub fn load(&self, path: &Path) -> Result<Vec<ImageInfo>, ImageError> {
        let file = File::open(path).map_err(|cause| io_error("opening", path, cause))?;
        self.load_from(file, &path.display().to_string())
    }

    /// Like [`Store::load`] from any stream; `label` names it in errors.
    pub fn load_from(&self, stream: impl Read, label: &str) -> Result<Vec<ImageInfo>, ImageError> {
        let result = self.load_archive(stream, label);
        if result.is_err() {
            self.collect();
        }
        result
    }

    fn load_archive(&self, stream: impl Read, label: &str) -> Result<Vec<ImageInfo>, ImageError> {
        let corrupt = |cause: String| ImageError::Corrupt { image: label.to_owned(), cause };
        // The members come in any order and may be compressed as a whole: a plain copy can be searched.
        let scratch = self.scratch()?;
        let copy = scratch.path.join("archive");
        let mut file = File::create_new(&copy).map_err(|cause| io_error("making", &copy, cause))?;
        let mut plain = decompress(stream).map_err(|error| corrupt(error.to_string()))?;
        io::copy(&mut plain, &mut file).map_err(|cause| match cause.raw_os_error() {
            Some(_) => io_error("writing", &copy, cause),
            None => corrupt(cause.to_string()),
        })?;
        let file = File::open(&copy).map_err(|cause| io_error("opening", &copy, cause))?;
        let members = Members::scan(file, label)?;
        if members.has("index.json") {
            self.load_oci(&members)
        } else if members.has("manifest.json") {
            self.load_docker(&members)
        } else {
            Err(corrupt(
                "it is neither a docker archive (manifest.json) nor an OCI layout (index.json)".into(),
            ))
        }
    }

    fn load_docker(&self, members: &Members) -> Result<Vec<ImageInfo>, ImageError> {
        let entries: Vec<DockerEntry> = members.json("manifest.json")?;
        if entries.is_empty() {
            return Err(members.corrupt("manifest.json names no image".into()));
        }
        let mut loaded = Vec::new();
        for entry in entries {
            let names = entry.repo_tags.unwrap_or_default();
            let tags = names.iter().map(|name| tag(name)).collect::<Result<_, _>>()?;
            let config = members.bytes(&entry.config)?;
            let mut open = |position: usize| members.open(&entry.layers[position]);
            let import = Import {
                label: &members.label,
                config: &config,
                tags,
                digests: Vec::new(),
                open: &mut open,
                layers: entry.layers.len(),
            };
            loaded.push(self.import(import)?);
        }
        Ok(loaded)
    }

    fn load_oci(&self, members: &Members) -> Result<Vec<ImageInfo>, ImageError> {
        let index: Manifest = members.json("index.json")?;
        // Tools that write both formats put the full names into manifest.json.
        let docker: Vec<DockerEntry> =
            if members.has("manifest.json") { members.json("manifest.json")? } else { Vec::new() };
        // Entries of one name are one image for several platforms.
        let mut images: BTreeMap<Vec<String>, Vec<Descriptor>> = BTreeMap::new();
        for entry in index.manifests {
            images.entry(names_of(&entry)).or_default().push(entry);
        }
        if images.is_empty() {
            return Err(members.corrupt("index.json names no image".into()));
        }
        let mut loaded = Vec::new();
        for (names, entries) in images {
            let manifest = members.manifest(config::choose(&members.label, &entries)?)?;
            loaded.push(self.load_oci_image(members, &manifest, names, &docker)?);
        }
        Ok(loaded)
    }

    fn load_oci_image(
        &self,
        members: &Members,
        manifest: &Manifest,
        mut names: Vec<String>,
        docker: &[DockerEntry],
    ) -> Result<ImageInfo, ImageError> {
        let described =
            manifest.config.as_ref().ok_or_else(|| members.corrupt("a manifest has no config".into()))?;
        let config_path = members.blob_path(described)?;
        for entry in docker.iter().filter(|entry| entry.config == config_path) {
            names.extend(entry.repo_tags.iter().flatten().cloned());
        }
        let config = members.blob(described)?;
        let paths =
            manifest.layers.iter().map(|layer| members.blob_path(layer)).collect::<Result<Vec<_>, _>>()?;
        let mut open = |position: usize| members.open(&paths[position]);
        let import = Import {
            label: &members.label,
            config: &config,
            tags: names.iter().map(|name| tag(name)).collect::<Result<_, _>>()?,
            digests: Vec::new(),
            open: &mut open,
            layers: paths.len(),
        };
        self.import(import)
    }
}

/// Full names in an OCI layout's annotations; a bare tag (`latest`) names no image.
fn names_of(entry: &Descriptor) -> Vec<String> {
    let keys = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
    let given = keys.iter().find_map(|key| entry.annotations.get(*key));
    given.filter(|name| name.contains(['/', ':'])).cloned().into_iter().collect()
}

/// Where the members of an archive are in its file.
struct Members {
    label: String,
    file: Arc<File>,
    places: HashMap<String, (u64, u64)>,
}

impl Members {
    fn scan(file: File, label: &str) -> Result<Self, ImageError> {
        let corrupt = |error: io::Error| ImageError::Corrupt {
            image: label.to_owned(),
            cause: format!("not a proper tar archive: {error}"),
        };
        let length = file.metadata().map_err(corrupt)?.len();
        let mut archive = tar::Archive::new(&file);
        let mut places = HashMap::new();
        let mut links = Vec::new();
        for entry in archive.entries_with_seek().map_err(corrupt)? {
            let entry = entry.map_err(corrupt)?;
            let path = plain_path(&entry.path().map_err(corrupt)?);
            if let Some(target) = entry.link_name().map_err(corrupt)? {
                let base = Path::new(&path).parent().unwrap_or(Path::new(""));
                let hard = entry.header().entry_type() == tar::EntryType::Link;
                let target = if hard { plain_path(&target) } else { plain_path(&base.join(target)) };
                links.push((path, target));
                continue;
            }
            let (start, size) = (entry.raw_file_position(), entry.size());
            if start + size > length {
                let cause = io::Error::new(io::ErrorKind::UnexpectedEof, format!("{path} is cut short"));
                return Err(corrupt(cause));
            }
            places.insert(path, (start, size));
        }
        for (path, target) in links {
            if let Some(place) = places.get(&target).copied() {
                places.insert(path, place);
            }
        }
        Ok(Self { label: label.to_owned(), file: Arc::new(file), places })
    }

    fn has(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    fn corrupt(&self, cause: String) -> ImageError {
        ImageError::Corrupt { image: self.label.clone(), cause }
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read>, ImageError> {
        let place = self.places.get(&plain_path(Path::new(path)));
        let (start, size) = *place.ok_or_else(|| self.corrupt(format!("{path} is missing")))?;
        Ok(Box::new(Section { file: Arc::clone(&self.file), position: start, end: start + size }))
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, ImageError> {
        let mut content = Vec::new();
        let read = self.open(path)?.take(MAX_DOCUMENT + 1).read_to_end(&mut content);
        read.map_err(|error| self.corrupt(format!("{path}: {error}")))?;
        if content.len() as u64 > MAX_DOCUMENT {
            return Err(self.corrupt(format!("{path} is larger than {MAX_DOCUMENT} bytes")));
        }
        Ok(content)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ImageError> {
        serde_json::from_slice(&self.bytes(path)?).map_err(|error| self.corrupt(format!("{path}: {error}")))
    }

    fn blob_path(&self, descriptor: &Descriptor) -> Result<String, ImageError> {
        if !config::is_digest(&descriptor.digest) {
            return Err(self.corrupt(format!("digest {:?} is not sha256", descriptor.digest)));
        }
        Ok(format!("blobs/{}", descriptor.digest.replace(':', "/")))
    }

    /// A document whose digest was checked.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let content = self.bytes(&self.blob_path(descriptor)?)?;
        let found = HashReader::new(&*content).finish().map_err(|error| self.corrupt(error.to_string()))?;
        if found != descriptor.digest {
            return Err(
                self.corrupt(format!("a document has digest {found} instead of {}", descriptor.digest))
            );
        }
        Ok(content)
    }

    /// The image manifest of an entry, through at most a few nested indexes.
    fn manifest(&self, entry: &Descriptor) -> Result<Manifest, ImageError> {
        let mut entry = entry.clone();
        for _ in 0..4 {
            let manifest: Manifest = serde_json::from_slice(&self.blob(&entry)?)
                .map_err(|error| self.corrupt(format!("a manifest: {error}")))?;
            if manifest.manifests.is_empty() {
                return Ok(manifest);
            }
            entry = config::choose(&self.label, &manifest.manifests)?.clone();
        }
        Err(self.corrupt("its indexes are nested too deeply".into()))
    }
}

/// A part of a file, read by position so that several readers don't disturb each other.
struct Section {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let count = std::os::unix::fs::FileExt::read_at(&*self.file, &mut buffer[..left], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// A member's path without `./`, resolving `..` as text.
fn plain_path(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.to_str().unwrap_or_default().split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}
