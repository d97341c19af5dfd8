//! A container's environment variables, resolved in the order that Kubernetes gives them precedence:
//! Services, then `envFrom`, then `env`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod};

use super::expand::expand;
use super::fields::{self, Place};

/// Contents of a ConfigMap or Secret.
pub type Data = BTreeMap<String, Vec<u8>>;

/// Objects that a pod's containers and volumes refer to; `None` is an object that does not exist.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub config_maps: BTreeMap<String, Option<Arc<Data>>>,
    pub secrets: BTreeMap<String, Option<Arc<Data>>>,
    pub tokens: BTreeMap<TokenAsk, String>,
}

/// A token of a pod's ServiceAccount, as a projected volume asks for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenAsk {
    /// Whom it is for; empty is the API server itself.
    pub audience: String,
    /// How long it is good.
    pub seconds: i64,
}

/// Why variables cannot be made; shown as `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EnvError(pub String);

/// Kinds of objects that can be referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

impl Sources {
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Data>> {
        let map = match kind {
            Kind::ConfigMap => &self.config_maps,
            Kind::Secret => &self.secrets,
        };
        map.get(name).and_then(Option::as_ref)
    }

    pub fn put(&mut self, kind: Kind, name: &str, data: Option<Arc<Data>>) {
        let map = match kind {
            Kind::ConfigMap => &mut self.config_maps,
            Kind::Secret => &mut self.secrets,
        };
        map.insert(name.to_owned(), data);
    }
}

/// The objects that a container's variables refer to.
pub fn references(container: &Container) -> Vec<(Kind, String)> {
    let mut found = Vec::new();
    for from in container.env_from.iter().flatten() {
        found.extend(from.config_map_ref.as_ref().map(|r| (Kind::ConfigMap, r.name.clone())));
        found.extend(from.secret_ref.as_ref().map(|r| (Kind::Secret, r.name.clone())));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        found.extend(source.config_map_key_ref.as_ref().map(|r| (Kind::ConfigMap, r.name.clone())));
        found.extend(source.secret_key_ref.as_ref().map(|r| (Kind::Secret, r.name.clone())));
    }
    found.sort();
    found.dedup();
    found
}

/// All variables of a container, later ones overriding earlier ones of the same name.
pub fn container_env(
    pod: &Pod,
    container: &Container,
    place: &Place,
    sources: &Sources,
    services: &[(String, String)],
) -> Result<Vec<(String, String)>, EnvError> {
    let mut env = Ordered::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(r) = &from.config_map_ref {
            env_from(&mut env, sources, Kind::ConfigMap, &r.name, prefix, r.optional)?;
        }
        if let Some(r) = &from.secret_ref {
            env_from(&mut env, sources, Kind::Secret, &r.name, prefix, r.optional)?;
        }
    }
    for var in container.env.iter().flatten() {
        let known = |name: &str| {
            env.get(name).or_else(|| services.iter().find(|(k, _)| k == name).map(|(_, v)| v)).cloned()
        };
        let value = match (&var.value, &var.value_from) {
            (Some(value), _) if !value.is_empty() => Some(expand(value, known)),
            (_, Some(source)) => value_from(pod, container, place, sources, var, source)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            env.set(&var.name, value);
        }
    }
    let mut all: Vec<(String, String)> =
        services.iter().filter(|(name, _)| env.get(name).is_none()).cloned().collect();
    all.extend(env.into_vec());
    Ok(all)
}

fn env_from(
    env: &mut Ordered,
    sources: &Sources,
    kind: Kind,
    name: &str,
    prefix: &str,
    optional: Option<bool>,
) -> Result<(), EnvError> {
    let Some(data) = sources.get(kind, name) else {
        if optional == Some(true) {
            return Ok(());
        }
        return Err(EnvError(format!("{} \"{name}\" not found", kind.word())));
    };
    for (key, value) in data.iter() {
        env.set(&format!("{prefix}{key}"), String::from_utf8_lossy(value).into_owned());
    }
    Ok(())
}

/// `Ok(None)` is an optional reference to something that is not there.
fn value_from(
    pod: &Pod,
    container: &Container,
    place: &Place,
    sources: &Sources,
    var: &EnvVar,
    source: &EnvVarSource,
) -> Result<Option<String>, EnvError> {
    if let Some(field) = &source.field_ref {
        return fields::field(pod, place, &field.field_path).map(Some).map_err(EnvError);
    }
    if let Some(resource) = &source.resource_field_ref {
        return fields::resource(pod, container, place, resource).map(Some).map_err(EnvError);
    }
    let (kind, name, key, optional) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(r), _) => (Kind::ConfigMap, &r.name, &r.key, r.optional),
        (_, Some(r)) => (Kind::Secret, &r.name, &r.key, r.optional),
        _ => return Err(EnvError(format!("the valueFrom of variable {} is not supported", var.name))),
    };
    let optional = optional == Some(true);
    let found = sources.get(kind, name);
    match (found, found.and_then(|data| data.get(key))) {
        (_, Some(value)) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        _ if optional => Ok(None),
        (None, _) => Err(EnvError(format!("{} \"{name}\" not found", kind.word()))),
        (Some(_), None) => {
            let title = if kind == Kind::ConfigMap { "ConfigMap" } else { "Secret" };
            Err(EnvError(format!(
                "couldn't find key {key} in {title} {}/{name}",
                crate::pod::spec::namespace(pod)
            )))
        }
    }
}

/// Variables in the order of their first definition.
#[derive(Default)]
struct Ordered {
    names: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Ordered {
    fn get(&self, name: &str) -> Option<&String> {
        self.values.get(name)
    }

    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.names.push(name.to_owned());
        }
    }

    fn into_vec(mut self) -> Vec<(String, String)> {
        self.names.iter().filter_map(|n| self.values.remove_entry(n)).collect()
    }
}

#[cfg(test)]
#[path = "vars_tests.rs"]
mod tests;
