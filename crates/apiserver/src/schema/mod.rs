//! What the built-in kinds look like: the resource table, the types of their fields, and checks against both.

mod check;
mod intern;
mod json;
mod normalise;
pub mod quantity;
mod resources;
mod types;

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::error::ApiError;
pub(crate) use check::format_time;
pub(crate) use intern::{intern, intern_all};
pub use json::{MAX_DEPTH, is_deeper, parse_json, parse_yaml};
pub use resources::{Resource, Subresource};
pub use types::{Field, ListKind, Simpler, Ty, Type, TypeId};

/// Group, version and kind; the core group is `""`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gvk<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

impl Gvk<'_> {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// The table of everything built in.
pub struct Schema {
    resources: Vec<Arc<Resource>>,
    types: types::Types,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema {
    resources: resources::parse(include_str!("../../schema/resources.txt")),
    types: types::parse(include_str!("../../schema/types.txt")),
});

/// The built-in table.
pub fn schema() -> &'static Schema {
    &SCHEMA
}

impl Schema {
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
    }

    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Resource> {
        self.resources
            .iter()
            .find(|r| r.group == group && r.version == version && r.kind == kind)
            .map(|r| &**r)
    }

    /// The type of a kind, served as a resource or not (`DeleteOptions`, `Scale`, lists…).
    pub fn type_of(&self, gvk: Gvk<'_>) -> Option<&Type> {
        self.types.of_kind(gvk)
    }

    /// The type behind a reference from a field.
    pub fn get(&self, id: TypeId) -> &Type {
        self.types.get(id)
    }

    /// Finds a field by its JSON name, also in types that are inlined.
    pub fn field<'a>(&'a self, ty: &'a Type, name: &str) -> Option<&'a Field> {
        self.types.field(ty, name)
    }

    /// Every JSON field of a type in Kubernetes' order, with inlined types opened up.
    pub fn fields<'a>(&'a self, ty: &'a Type) -> Vec<&'a Field> {
        let mut found = Vec::new();
        self.types.flatten(ty, &mut found);
        found
    }

    /// Prunes unknown fields and nulls from `obj` and brings quantities and times to their canonical
    /// form. Answers one message per unknown field, in kube-apiserver's wording; a value of a wrong type
    /// is an error (400). Kinds that are not built in pass unchanged.
    pub fn check_fields(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        obj: &mut Value,
    ) -> Result<Vec<String>, ApiError> {
        let gvk = Gvk { group, version, kind };
        match self.type_of(gvk) {
            Some(ty) => check::check(self, ty, gvk, obj),
            None => Ok(Vec::new()),
        }
    }

    /// The type of `metadata`.
    pub fn metadata(&self) -> Option<&Type> {
        self.types.named("meta.v1.ObjectMeta")
    }

    /// As [`Self::check_fields`], for the metadata of an object whose kind is not built in.
    pub fn check_metadata(&self, gvk: Gvk<'_>, obj: &mut Value) -> Result<Vec<String>, ApiError> {
        match (self.metadata(), obj.get_mut("metadata")) {
            (Some(ty), Some(metadata)) => check::check_metadata(self, ty, gvk, metadata),
            _ => Ok(Vec::new()),
        }
    }

    /// As [`Self::normalise`], for the metadata of an object whose kind is not built in.
    pub fn normalise_metadata(&self, obj: &mut Value) {
        if let (Some(ty), Some(metadata)) = (self.metadata(), obj.get_mut("metadata")) {
            normalise::normalise(self, ty, metadata);
        }
    }

    /// An object of a kind with nothing in it, as Go encodes it.
    pub fn empty(&self, gvk: Gvk<'_>) -> Value {
        let mut map = serde_json::Map::new();
        map.insert("kind".to_owned(), gvk.kind.into());
        map.insert("apiVersion".to_owned(), gvk.api_version().into());
        if let Some(ty) = self.type_of(gvk) {
            map.extend(normalise::empty_struct(self, ty));
        }
        Value::Object(map)
    }

    /// Gives `obj` the shape that Kubernetes would give it on encoding: fields in order, empty values
    /// left out where they are optional, zero values filled in where they are not. Not for apply
    /// configurations, where what is absent carries meaning. Expects an object that passed `check_fields`.
    pub fn normalise(&self, gvk: Gvk<'_>, obj: &mut Value) {
        if let Some(ty) = self.type_of(gvk) {
            normalise::normalise(self, ty, obj);
        }
    }
}

/// The error of a strict request, from the messages of [`parse_json`] and [`Schema::check_fields`].
pub fn strict_error(gvk: Gvk<'_>, messages: &[String]) -> ApiError {
    ApiError::bad_request(format!(
        "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
        gvk.kind,
        gvk.version,
        gvk.kind,
        messages.join(", ")
    ))
}
