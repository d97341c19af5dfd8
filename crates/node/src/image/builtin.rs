//! The image that is always there: the running program itself, as a small web server.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;

use super::ImageError;
use super::config;
use super::index::{LayerRef, Record};
use super::store::{Store, io_error, layer_name, tag};
use super::stream::digest_of;

/// Tag and the version that its page shows.
const TAGS: [(&str, &str); 3] = [("v1", "v1"), ("v2", "v2"), ("latest", "v1")];

impl Store {
    /// Makes `daymark/web` (tags `v1`, `v2` and `latest`) from `program`, a static binary with a `web`
    /// subcommand. Copies it only if this very program isn't in the store yet.
    pub fn install_builtin(&self, program: &Path) -> Result<(), ImageError> {
        let file = File::open(program).map_err(|cause| io_error("opening", program, cause))?;
        let meta = file.metadata().map_err(|cause| io_error("opening", program, cause))?;
        let identity = format!(
            "daymark web {} {} {} {}.{}",
            meta.dev(),
            meta.ino(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        let diff_id = digest_of(identity.as_bytes());
        let name = layer_name(&diff_id);
        let place = self.root.join("layers").join(&name);
        let layer = if place.is_dir() {
            LayerRef { name, size: meta.len() }
        } else {
            let scratch = self.scratch()?;
            let target = scratch.directory()?;
            fill(&target, &file).map_err(|cause| io_error("making the built-in image in", &target, cause))?;
            self.install_layer(&target, &name, meta.len())?
        };
        if self.publish_builtin(&diff_id, &layer)? {
            self.collect();
        }
        Ok(())
    }

    /// Returns whether the index changed.
    fn publish_builtin(&self, diff_id: &str, layer: &LayerRef) -> Result<bool, ImageError> {
        let mut records = Vec::new();
        for version in ["v1", "v2"] {
            let file = configuration(version, diff_id);
            let parsed = config::parse("daymark/web", &file)?;
            let mut tags = std::collections::BTreeSet::new();
            for (name, _) in TAGS.iter().filter(|(_, shown)| *shown == version) {
                tags.insert(tag(&format!("daymark/web:{name}"))?);
            }
            let record = Record {
                config: parsed.config,
                layers: vec![layer.clone()],
                tags,
                digests: Default::default(),
                builtin: true,
            };
            records.push((digest_of(&file), record));
        }
        let same = |index: &super::index::Index| {
            records.iter().all(|(id, record)| index.images.get(id) == Some(record))
        };
        if same(&self.index()?) {
            return Ok(false);
        }
        self.change(|index| {
            index.images.retain(|_, image| !image.builtin);
            for (id, record) in records {
                index.insert(&id, record);
            }
            Ok(true)
        })
    }
}

fn configuration(version: &str, diff_id: &str) -> Vec<u8> {
    let file = json!({
        "architecture": config::architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": ["/daymark", "web"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/", format!("WEB_VERSION={version}")],
            "WorkingDir": "/",
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGTERM",
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    file.to_string().into_bytes()
}

/// The root file system: the program and the least that programs expect.
fn fill(root: &Path, program: &File) -> io::Result<()> {
    let target = root.join("daymark");
    copy(program, &File::create(&target)?)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    for (directory, mode) in
        [("etc", 0o755), ("tmp", 0o1777), ("bin", 0o755), ("root", 0o700), ("run", 0o755)]
    {
        fs::create_dir(root.join(directory))?;
        fs::set_permissions(root.join(directory), fs::Permissions::from_mode(mode))?;
    }
    symlink("/daymark", root.join("bin/daymark"))?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/daymark\nnobody:x:65534:65534:nobody:/:/daymark\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    Ok(())
}

/// Shares the blocks where the file system can, otherwise copies inside the kernel.
fn copy(from: &File, to: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut left = from.metadata()?.len();
    while left > 0 {
        match rustix::fs::copy_file_range(from, None, to, None, left as usize) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => left = left.saturating_sub(count as u64),
            Err(_) => {
                io::copy(&mut &*from, &mut &*to)?;
                return Ok(());
            }
        }
    }
    Ok(())
}
