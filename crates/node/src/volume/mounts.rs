//! What of a pod's volumes a container sees, and where.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use super::path_of;
use crate::env::expand::expand;
use crate::runtime::Mount;

/// The container's mounts, parents before what is mounted inside them. `env` is for `subPathExpr`.
pub fn container_mounts(
    pod: &Pod,
    container: &Container,
    dir: &Path,
    env: &[(String, String)],
) -> Result<Vec<Mount>, String> {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
    let mut mounts = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let Some(volume) = volumes.iter().find(|v| v.name == wanted.name) else {
            return Err(format!("no volume named {:?} for the mount at {}", wanted.name, wanted.mount_path));
        };
        let sub_path = match (wanted.sub_path.as_deref(), wanted.sub_path_expr.as_deref()) {
            (_, Some(expr)) if !expr.is_empty() => Some(expand_sub_path(expr, env)?),
            (Some(path), _) if !path.is_empty() => Some(path.to_owned()),
            _ => None,
        };
        if let Some(path) = &sub_path {
            check_sub_path(path)?;
        }
        mounts.push(Mount {
            source: source(volume, dir),
            sub_path,
            // As the kubelet does with a relative path.
            target: format!("/{}", wanted.mount_path.trim_start_matches('/')),
            read_only: wanted.read_only.unwrap_or(false) || made_of_objects(volume),
        });
    }
    mounts.sort_by_key(|m| m.target.trim_end_matches('/').matches('/').count());
    Ok(mounts)
}

fn source(volume: &Volume, dir: &Path) -> PathBuf {
    match &volume.host_path {
        Some(host) => PathBuf::from(&host.path),
        None => path_of(dir, &volume.name),
    }
}

/// These are written by the node alone.
fn made_of_objects(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

fn expand_sub_path(expr: &str, env: &[(String, String)]) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let path = expand(expr, |name| {
        let value = env.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        if value.is_none() {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        value
    });
    match missing.into_inner() {
        Some(name) => Err(format!("subPathExpr {expr:?}: variable {name:?} is not set")),
        None => Ok(path),
    }
}

fn check_sub_path(path: &str) -> Result<(), String> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("subPath {path:?} must be relative and must not contain '..'"));
    }
    Ok(())
}
