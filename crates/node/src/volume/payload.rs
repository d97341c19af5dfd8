//! What configMap, secret, downwardAPI and projected volumes contain, purely.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume,
    VolumeProjection,
};

use super::fs_group;
use crate::env::fields::{self, Place};
use crate::env::vars::Kind;
use crate::env::{Sources, TokenAsk, identity};
use crate::pod::spec;

const DEFAULT_MODE: i32 = 0o644;
/// Of tokens in pods that say who may read their volumes.
const PRIVATE_MODE: i32 = 0o600;
const TOKEN_LIFE: i64 = 3600;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// A user id; `None` is root.
    pub owner: Option<u32>,
}

/// Files by their path relative to the volume.
pub type Files = BTreeMap<String, File>;

/// The objects that a pod's volumes are made of.
pub fn references(pod: &Pod) -> Vec<(Kind, String)> {
    let mut found = Vec::new();
    for v in pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default() {
        found.extend(v.config_map.as_ref().map(|c| (Kind::ConfigMap, c.name.clone())));
        found.extend(v.secret.as_ref().and_then(|s| s.secret_name.clone()).map(|n| (Kind::Secret, n)));
        for source in v.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            found.extend(source.config_map.as_ref().map(|c| (Kind::ConfigMap, c.name.clone())));
            found.extend(source.secret.as_ref().map(|s| (Kind::Secret, s.name.clone())));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The tokens that a pod's volumes are made of.
pub fn tokens(pod: &Pod) -> Vec<TokenAsk> {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
    let sources = volumes.iter().filter_map(|v| v.projected.as_ref()?.sources.as_ref()).flatten();
    let mut found: Vec<TokenAsk> =
        sources.filter_map(|s| s.service_account_token.as_ref()).map(ask).collect();
    found.sort();
    found.dedup();
    found
}

fn ask(token: &ServiceAccountTokenProjection) -> TokenAsk {
    TokenAsk {
        audience: token.audience.clone().unwrap_or_default(),
        seconds: token.expiration_seconds.unwrap_or(TOKEN_LIFE),
    }
}

/// The files of a volume, `None` if it is not made of objects.
pub fn files(volume: &Volume, pod: &Pod, place: &Place, sources: &Sources) -> Result<Option<Files>, String> {
    let mut files = Files::new();
    let from = From { pod, place, sources };
    if let Some(c) = &volume.config_map {
        let mode = c.default_mode.unwrap_or(DEFAULT_MODE);
        from.object(&mut files, Kind::ConfigMap, &c.name, c.items.as_deref(), mode, c.optional)?;
    } else if let Some(s) = &volume.secret {
        let name = s.secret_name.as_deref().unwrap_or_default();
        let mode = s.default_mode.unwrap_or(DEFAULT_MODE);
        from.object(&mut files, Kind::Secret, name, s.items.as_deref(), mode, s.optional)?;
    } else if let Some(d) = &volume.downward_api {
        let mode = d.default_mode.unwrap_or(DEFAULT_MODE);
        from.downward(&mut files, d.items.as_deref().unwrap_or_default(), mode)?;
    } else if let Some(p) = &volume.projected {
        from.projected(&mut files, p)?;
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

struct From<'a> {
    pod: &'a Pod,
    place: &'a Place,
    sources: &'a Sources,
}

impl From<'_> {
    fn object(
        &self,
        files: &mut Files,
        kind: Kind,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: i32,
        optional: Option<bool>,
    ) -> Result<(), String> {
        let optional = optional.unwrap_or(false);
        let Some(data) = self.sources.get(kind, name) else {
            if optional {
                return Ok(());
            }
            return Err(format!("{} \"{name}\" not found", kind.word()));
        };
        let Some(items) = items.filter(|i| !i.is_empty()) else {
            for (key, value) in data.iter() {
                put(files, key, value.clone(), mode)?;
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(value) => put(files, &item.path, value.clone(), item.mode.unwrap_or(mode))?,
                None if optional => {}
                None => {
                    let namespace = spec::namespace(self.pod);
                    return Err(format!(
                        "{} references non-existent {} key: {}",
                        kind.word(),
                        if kind == Kind::ConfigMap { "config" } else { "secret" },
                        item.key
                    ) + &format!(" (in {namespace}/{name})"));
                }
            }
        }
        Ok(())
    }

    fn downward(&self, files: &mut Files, items: &[DownwardAPIVolumeFile], mode: i32) -> Result<(), String> {
        for item in items {
            let value = if let Some(field) = &item.field_ref {
                fields::field(self.pod, self.place, &field.field_path)?
            } else if let Some(resource) = &item.resource_field_ref {
                let owner = spec::containers(self.pod).first().ok_or("the pod has no containers")?;
                fields::resource(self.pod, owner, self.place, resource)?
            } else {
                return Err(format!(
                    "downwardAPI item {} has neither fieldRef nor resourceFieldRef",
                    item.path
                ));
            };
            put(files, &item.path, value.into_bytes(), item.mode.unwrap_or(mode))?;
        }
        Ok(())
    }

    fn projected(&self, files: &mut Files, volume: &ProjectedVolumeSource) -> Result<(), String> {
        let mode = volume.default_mode.unwrap_or(DEFAULT_MODE);
        for source in volume.sources.iter().flatten() {
            self.projection(files, source, mode)?;
        }
        Ok(())
    }

    fn projection(&self, files: &mut Files, source: &VolumeProjection, mode: i32) -> Result<(), String> {
        if let Some(c) = &source.config_map {
            return self.object(files, Kind::ConfigMap, &c.name, c.items.as_deref(), mode, c.optional);
        }
        if let Some(s) = &source.secret {
            return self.object(files, Kind::Secret, &s.name, s.items.as_deref(), mode, s.optional);
        }
        if let Some(d) = &source.downward_api {
            return self.downward(files, d.items.as_deref().unwrap_or_default(), mode);
        }
        if let Some(wanted) = &source.service_account_token {
            let token = self.sources.tokens.get(&ask(wanted)).ok_or("the token has not been issued")?;
            let owner = one_user(self.pod);
            let private = owner.is_some() || fs_group(self.pod).is_some();
            put(files, &wanted.path, token.clone().into_bytes(), if private { PRIVATE_MODE } else { mode })?;
            if let Some(file) = files.get_mut(&wanted.path) {
                file.owner = owner;
            }
            return Ok(());
        }
        Err("this kind of projection is not supported by this node".into())
    }
}

/// The user that all containers of a pod run as, if there is one.
fn one_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut users = all.map(|c| identity::security(pod, c).run_as_user);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}

fn put(files: &mut Files, path: &str, data: Vec<u8>, mode: i32) -> Result<(), String> {
    let inside = !path.is_empty()
        && !path.starts_with('/')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !path.starts_with("..");
    if !inside {
        return Err(format!("invalid path in a volume: {path:?}"));
    }
    files.insert(path.to_owned(), File { data, mode: mode as u32 & 0o777, owner: None });
    Ok(())
}
