//! The image store on disk: `index.json`, unpacked `layers/`, `leases/` of containers, `tmp/`.
//!
//! Several node processes share it. The index changes under an exclusive lock and is replaced
//! atomically, so reading needs no lock. A layer appears by rename, complete or not at all. Whoever
//! imports holds `imports.lock` shared; layers are only deleted by one who holds it exclusively.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::{self, ParsedConfig};
use super::index::{Index, LayerRef, Record};
use super::layer::{self, LayerError};
use super::reference::ImageName;
use super::stream::{HashReader, decompress, digest_of};
use super::{ImageError, ImageInfo};

/// An image store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) root: Arc<PathBuf>,
}

/// Which layers a container needs, so that they aren't deleted under it.
#[derive(Serialize, Deserialize)]
struct Lease {
    image: String,
    layers: Vec<String>,
    /// The container's directory; a lease whose owner is gone is stale.
    owner: PathBuf,
}

/// A new image whose content is at hand.
pub(super) struct Import<'a> {
    /// Names it in errors.
    pub label: &'a str,
    /// Its configuration file.
    pub config: &'a [u8],
    /// Normalised names it gets.
    pub tags: Vec<String>,
    /// `repository@digest` it gets.
    pub digests: Vec<String>,
    /// Opens the (compressed) layer at an index.
    pub open: &'a mut dyn FnMut(usize) -> Result<Box<dyn Read>, ImageError>,
    /// How many layers there are.
    pub layers: usize,
}

impl Store {
    /// Opens a store, making it if it doesn't exist, and clears what interrupted imports left.
    pub fn open(root: &Path) -> Result<Self, ImageError> {
        for part in ["layers", "leases", "tmp"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(|cause| io_error("making", &path, cause))?;
        }
        let store = Self { root: Arc::new(root.to_owned()) };
        store.clear_leftovers();
        Ok(store)
    }

    /// All images, by id.
    pub fn list(&self) -> Result<Vec<ImageInfo>, ImageError> {
        let index = self.index()?;
        Ok(index.images.keys().filter_map(|id| index.info(id)).collect())
    }

    /// The image that a name, digest or id leads to.
    pub fn find(&self, image: &str) -> Result<Option<ImageInfo>, ImageError> {
        let index = self.index()?;
        Ok(index.find(image)?.and_then(|id| index.info(&id)))
    }

    /// Removes a name, and the image and its layers with the last name; by id removes all names.
    /// Returns whether the image itself went.
    pub fn remove(&self, image: &str) -> Result<bool, ImageError> {
        let gone = self.change(|index| {
            let leases = self.leases();
            index.remove(image, |id| {
                leases.iter().find(|(_, lease)| lease.image == id).map(|(container, _)| container.clone())
            })
        })?;
        if gone {
            self.collect();
        }
        Ok(gone)
    }

    /// The layer directories of an image, lowest first, kept for `container` until [`Store::release`]
    /// or until `owner` doesn't exist any more.
    pub fn lease(&self, id: &str, container: &str, owner: &Path) -> Result<Vec<PathBuf>, ImageError> {
        let layers = self.change(|index| {
            let missing = || ImageError::NotPresent { image: id.to_owned() };
            let record = index.images.get(id).ok_or_else(missing)?;
            let layers = record.layers.iter().map(|layer| layer.name.clone()).collect::<Vec<_>>();
            let lease = Lease { image: id.to_owned(), layers: layers.clone(), owner: owner.to_owned() };
            let path = self.root.join("leases").join(container);
            let text = serde_json::to_vec(&lease).unwrap_or_default();
            fs::write(&path, text).map_err(|cause| io_error("writing", &path, cause))?;
            Ok(layers)
        })?;
        Ok(layers.iter().map(|layer| self.root.join("layers").join(layer)).collect())
    }

    /// A container needs its layers no more.
    pub fn release(&self, container: &str) {
        let _ = fs::remove_file(self.root.join("leases").join(container));
    }

    /// Brings an image into the store: checks platform and digests, unpacks what is missing.
    pub(super) fn import(&self, import: Import<'_>) -> Result<ImageInfo, ImageError> {
        let _busy = self.lock("imports.lock", rustix::fs::FlockOperation::LockShared)?;
        let parsed = config::parse(import.label, import.config)?;
        if parsed.diff_ids.len() != import.layers {
            let cause = format!(
                "it has {} layers but its configuration names {}",
                import.layers,
                parsed.diff_ids.len()
            );
            return Err(ImageError::Corrupt { image: import.label.to_owned(), cause });
        }
        let mut layers = Vec::new();
        for (position, diff_id) in parsed.diff_ids.iter().enumerate() {
            layers.push(self.layer(import.label, diff_id, &mut || (import.open)(position))?);
        }
        let id = digest_of(import.config);
        self.publish(&id, parsed, layers, import.tags, import.digests)
    }

    fn publish(
        &self,
        id: &str,
        parsed: ParsedConfig,
        layers: Vec<LayerRef>,
        tags: Vec<String>,
        digests: Vec<String>,
    ) -> Result<ImageInfo, ImageError> {
        self.change(|index| {
            for tag in &tags {
                let taken = index.find(tag)?.and_then(|id| index.images.get(&id)).is_some_and(|r| r.builtin);
                if taken {
                    let cause = "the name belongs to an image that is part of daymark itself".to_owned();
                    return Err(ImageError::InUse { image: tag.clone(), cause });
                }
            }
            let record = Record {
                config: parsed.config,
                layers,
                tags: tags.into_iter().collect(),
                digests: digests.into_iter().collect(),
                builtin: false,
            };
            index.insert(id, record);
            index.info(id).ok_or_else(|| ImageError::NotPresent { image: id.to_owned() })
        })
    }

    fn layer(
        &self,
        label: &str,
        diff_id: &str,
        open: &mut dyn FnMut() -> Result<Box<dyn Read>, ImageError>,
    ) -> Result<LayerRef, ImageError> {
        let name = layer_name(diff_id);
        let place = self.root.join("layers").join(&name);
        let sizes = self.root.join("layers").join(format!("{name}.size"));
        if place.is_dir() {
            let size = fs::read_to_string(&sizes).ok().and_then(|text| text.trim().parse().ok());
            return Ok(LayerRef { name, size: size.unwrap_or(0) });
        }
        let corrupt = |cause: String| ImageError::Corrupt { image: label.to_owned(), cause };
        let scratch = self.scratch()?;
        let target = scratch.directory()?;
        let stream = decompress(open()?).map_err(|error| corrupt(error.to_string()))?;
        let mut stream = HashReader::new(stream);
        let size = layer::unpack(&mut stream, &target).map_err(|error| match error {
            LayerError::Corrupt(cause) => corrupt(cause),
            LayerError::Io { path, cause } => {
                ImageError::Io { what: format!("unpacking {path} of {label}"), cause }
            }
        })?;
        let found = stream.finish().map_err(|error| corrupt(error.to_string()))?;
        if found != diff_id {
            return Err(corrupt(format!("a layer has digest {found} instead of {diff_id}")));
        }
        self.install_layer(&target, &name, size)
    }

    /// Moves an unpacked layer to its place; if another process was faster, theirs is as good.
    pub(super) fn install_layer(&self, from: &Path, name: &str, size: u64) -> Result<LayerRef, ImageError> {
        let layers = self.root.join("layers");
        let (place, sizes) = (layers.join(name), layers.join(format!("{name}.size")));
        fs::write(&sizes, size.to_string()).map_err(|cause| io_error("writing", &sizes, cause))?;
        match fs::rename(from, &place) {
            Ok(()) => {}
            Err(_) if place.is_dir() => {}
            Err(cause) => return Err(io_error("moving a layer to", &place, cause)),
        }
        Ok(LayerRef { name: name.to_owned(), size })
    }

    /// Applies a change to the index under its lock.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let _lock = self.lock("index.lock", rustix::fs::FlockOperation::LockExclusive)?;
        let before = self.index()?;
        let mut index = before.clone();
        let result = change(&mut index)?;
        if index != before {
            let path = self.root.join("index.json");
            let text = serde_json::to_vec(&index).unwrap_or_default();
            crate::runtime::files::write_atomic(&path, &text)
                .map_err(|cause| io_error("writing", &path, cause))?;
        }
        Ok(result)
    }

    pub(super) fn index(&self) -> Result<Index, ImageError> {
        let path = self.root.join("index.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::default()),
            Err(cause) => return Err(io_error("reading", &path, cause)),
        };
        serde_json::from_slice(&text).map_err(|error| {
            let cause = io::Error::new(io::ErrorKind::InvalidData, error);
            io_error("the index is damaged; remove the directory to start with an empty store:", &path, cause)
        })
    }

    /// Deletes layers that neither an image nor a living container needs. Skipped while an import
    /// runs: the next removal does it.
    pub(super) fn collect(&self) {
        let Ok(_quiet) = self.lock("imports.lock", rustix::fs::FlockOperation::NonBlockingLockExclusive)
        else {
            return;
        };
        let Ok(_lock) = self.lock("index.lock", rustix::fs::FlockOperation::LockExclusive) else { return };
        let Ok(index) = self.index() else { return };
        let mut needed = index.layers();
        needed.extend(self.leases().into_iter().flat_map(|(_, lease)| lease.layers));
        let Ok(entries) = fs::read_dir(self.root.join("layers")) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if needed.contains(name.trim_end_matches(".size")) {
                continue;
            }
            let removed = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
                _ => fs::remove_file(entry.path()),
            };
            if let Err(error) = removed {
                tracing::warn!(layer = name, %error, "cannot delete an unused layer");
            }
        }
    }

    fn leases(&self) -> Vec<(String, Lease)> {
        let Ok(entries) = fs::read_dir(self.root.join("leases")) else { return Vec::new() };
        let mut living = Vec::new();
        for entry in entries.flatten() {
            let lease =
                fs::read(entry.path()).ok().and_then(|text| serde_json::from_slice::<Lease>(&text).ok());
            match lease {
                Some(lease) if lease.owner.exists() => {
                    living.push((entry.file_name().to_string_lossy().into_owned(), lease));
                }
                _ => drop(fs::remove_file(entry.path())),
            }
        }
        living
    }

    fn lock(&self, name: &str, operation: rustix::fs::FlockOperation) -> Result<File, ImageError> {
        let path = self.root.join(name);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(|cause| io_error("opening", &path, cause))?;
        rustix::fs::flock(&file, operation).map_err(|cause| io_error("locking", &path, cause.into()))?;
        Ok(file)
    }

    /// A private directory below `tmp/`, deleted when dropped or, after a crash, by the next open.
    pub(super) fn scratch(&self) -> Result<Scratch, ImageError> {
        // Until the new directory is locked, another process would take it for a leftover.
        let _unseen = self.lock("scratch.lock", rustix::fs::FlockOperation::LockExclusive)?;
        let path = self.root.join("tmp").join(uuid::Uuid::new_v4().to_string());
        fs::create_dir(&path).map_err(|cause| io_error("making", &path, cause))?;
        let file = File::create(path.join("lock")).map_err(|cause| io_error("making", &path, cause))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|cause| io_error("locking", &path, cause.into()))?;
        Ok(Scratch { path, _lock: file })
    }

    fn clear_leftovers(&self) {
        let Ok(_quiet) = self.lock("scratch.lock", rustix::fs::FlockOperation::LockExclusive) else { return };
        let Ok(entries) = fs::read_dir(self.root.join("tmp")) else { return };
        for entry in entries.flatten() {
            let Ok(file) = File::open(entry.path().join("lock")) else { continue };
            if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// See [`Store::scratch`].
pub(super) struct Scratch {
    pub path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// An empty directory for a root file system.
    pub fn directory(&self) -> Result<PathBuf, ImageError> {
        let path = self.path.join("fs");
        fs::create_dir(&path).map_err(|cause| io_error("making", &path, cause))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(|cause| io_error("making", &path, cause))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Directory of a layer: 128 bits of its digest, short because mount options are.
pub(super) fn layer_name(diff_id: &str) -> String {
    diff_id.trim_start_matches("sha256:").chars().take(32).collect()
}

/// The normalised form of a name, for tags.
pub(super) fn tag(image: &str) -> Result<String, ImageError> {
    ImageName::parse(image).map(|name| name.full())
}

pub(super) fn io_error(doing: &str, path: &Path, cause: io::Error) -> ImageError {
    ImageError::Io { what: format!("{doing} {}", path.display()), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_a_store_never_clears_what_another_is_making() {
        let dir = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let store = Store::open(dir.path()).expect("a store");
                        store.scratch().and_then(|scratch| scratch.directory()).expect("a place of its own");
                    }
                });
            }
        });
    }
}
