//! Replacing all files of a volume at once: they live in a dated directory that the link `..data`
//! names, and each visible name is a link through `..data`. One rename switches the whole volume.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use super::payload::{File, Files};

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Writes the files; returns without touching anything when they are there already.
pub fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    let old = fs::read_link(dir.join(DATA)).ok();
    if old.as_ref().is_some_and(|old| same(&dir.join(old), files, group)) {
        return Ok(());
    }
    let fresh = make_fresh(dir, files, group)?;
    let next = dir.join(NEXT);
    let _ = fs::remove_file(&next);
    symlink(&fresh, &next)?;
    fs::rename(&next, dir.join(DATA))?;
    link_names(dir, files)?;
    if let Some(old) = old {
        fs::remove_dir_all(dir.join(old)).or_else(missing_is_fine)?;
    }
    Ok(())
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Makes the dated directory; returns its name.
fn make_fresh(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<String> {
    let now = jiff::Timestamp::now();
    let name = format!("..{}.{:09}", now.strftime("%Y_%m_%d_%H_%M_%S"), now.subsec_nanosecond());
    let root = dir.join(&name);
    fs::DirBuilder::new().mode(0o755).create(&root)?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let at = root.join(path);
        if let Some(parent) = at.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at)?;
        out.write_all(&file.data)?;
        if group.is_some() || file.owner.is_some() {
            chown(&at, file.owner, group)?;
        }
        out.set_permissions(fs::Permissions::from_mode(mode_of(file, group)))?;
    }
    Ok(name)
}

/// With a pod's `fsGroup`, the group may read what the owner may.
fn mode_of(file: &File, group: Option<u32>) -> u32 {
    if group.is_some() { file.mode | ((file.mode & 0o700) >> 3) & 0o050 } else { file.mode }
}

fn same(root: &Path, files: &Files, group: Option<u32>) -> bool {
    let mut present = BTreeSet::new();
    collect(root, root, &mut present);
    present.len() == files.len()
        && files.iter().all(|(path, file)| {
            let at = root.join(path);
            let mode = fs::metadata(&at).map(|m| m.permissions().mode() & 0o777);
            mode.is_ok_and(|m| m == mode_of(file, group)) && fs::read(&at).is_ok_and(|d| d == file.data)
        })
}

fn collect(root: &Path, at: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(at).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.insert(relative.to_string_lossy().into_owned());
        }
    }
}

/// One link per first path component, and none for what is gone.
fn link_names(dir: &Path, files: &Files) -> io::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().map(|p| p.split('/').next().unwrap_or(p)).collect();
    for name in &wanted {
        let at = dir.join(name);
        if fs::symlink_metadata(&at).is_err() {
            symlink(Path::new(DATA).join(name), &at)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
