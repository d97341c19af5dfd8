//! What is served at one moment: the built-in resources and those of established definitions.

use std::cmp::Reverse;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use super::{Custom, names};
use crate::kinds::value::{list, strings, text, truth};
use crate::schema::{Resource, intern, intern_all, schema};

/// In the order in which Kubernetes tells those of custom resources.
const VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

/// Every resource, custom ones last.
#[derive(Debug)]
pub struct Served {
    resources: Vec<Arc<Resource>>,
    /// Tells the state of the custom resources of a group version apart from others, for document hashes.
    stamp: u64,
}

impl Served {
    pub fn built_in() -> Self {
        Self { resources: schema().resources().to_vec(), stamp: 0 }
    }

    /// With the established ones among `definitions`.
    pub fn with(definitions: &[Value]) -> Self {
        let mut served = Self::built_in();
        let mut hasher = DefaultHasher::new();
        let mut custom: Vec<Arc<Resource>> = Vec::new();
        for definition in definitions.iter().filter(|definition| names::is_established(definition)) {
            definition["spec"].to_string().hash(&mut hasher);
            let versions =
                list(definition, "spec.versions").iter().filter(|version| truth(version, "served"));
            custom.extend(versions.map(|version| Arc::new(resource(definition, version))));
        }
        custom.sort_by_key(|resource| (resource.group, Reverse(priority(resource.version)), resource.plural));
        served.resources.extend(custom);
        served.stamp = hasher.finish();
        served
    }

    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
    }

    /// Group versions in the order in which discovery lists them, each once.
    pub fn group_versions(&self) -> Vec<(&'static str, &'static str)> {
        let mut seen = Vec::new();
        for resource in &self.resources {
            let gv = (resource.group, resource.version);
            if !seen.contains(&gv) {
                seen.push(gv);
            }
        }
        seen
    }

    /// Differs when anything custom does.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }
}

fn resource(definition: &Value, version: &Value) -> Resource {
    let accepted = &definition["status"]["acceptedNames"];
    let custom = Custom::parse(definition, version);
    let mut subresources = Vec::new();
    if custom.scale.is_some() {
        subresources.push("scale");
    }
    if custom.has_status {
        subresources.push("status");
    }
    Resource {
        group: intern(text(definition, "spec.group")),
        version: intern(text(version, "name")),
        kind: intern(text(accepted, "kind")),
        plural: intern(text(accepted, "plural")),
        singular: intern(text(accepted, "singular")),
        short_names: intern_all(&strings(accepted, "shortNames")),
        categories: intern_all(&strings(accepted, "categories")),
        namespaced: text(definition, "spec.scope") == "Namespaced",
        verbs: VERBS,
        subresources: intern_all(&subresources),
        custom: Some(Arc::new(custom)),
    }
}

/// Kubernetes' order of versions: stable ones first, then beta, then alpha, newer before older.
fn priority(version: &str) -> (u8, u32, u32) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u32 = rest[..digits].parse().ok()?;
        let (stage, rest) = match &rest[digits..] {
            "" => return Some((3, major, 0)),
            rest if rest.starts_with("beta") => (2, &rest[4..]),
            rest if rest.starts_with("alpha") => (1, &rest[5..]),
            _ => return None,
        };
        Some((stage, major, rest.parse().ok()?))
    };
    parse().unwrap_or((0, 0, 0))
}

/// The one [`Served`] of now.
#[derive(Debug)]
pub struct Catalog(RwLock<Arc<Served>>);

impl Catalog {
    pub fn new(served: Served) -> Self {
        Self(RwLock::new(Arc::new(served)))
    }

    pub fn now(&self) -> Arc<Served> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn replace(&self, served: Served) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first() {
        let mut versions = vec!["v1alpha1", "foo", "v2", "v1beta2", "v10", "v1beta10", "v1"];
        versions.sort_by_key(|version| Reverse(priority(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta10", "v1beta2", "v1alpha1", "foo"]);
    }
}
