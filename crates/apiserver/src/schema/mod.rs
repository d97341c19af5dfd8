//! What the built-in kinds look like: the resource table, the types of their fields, and checks against both.

use serde_json::Value;

use crate::error::ApiError;

/// Group, version and kind; the core group is `""`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gvk<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

/// One served resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `""` is the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [&'static str],
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods` or `deployments.apps`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub fn gvk(&self) -> Gvk<'static> {
        Gvk { group: self.group, version: self.version, kind: self.kind }
    }
}

/// The table of everything built in.
pub struct Schema {
    resources: Vec<Resource>,
}

static SCHEMA: Schema = Schema { resources: Vec::new() };

/// The built-in table.
pub fn schema() -> &'static Schema {
    &SCHEMA
}

impl Schema {
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
    }

    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.group == group && r.version == version && r.kind == kind)
    }

    /// Prunes unknown fields from `obj` and tells of them; a wrong type is an error.
    pub fn check_fields(
        &self,
        _group: &str,
        _version: &str,
        _kind: &str,
        _obj: &mut Value,
    ) -> Result<Vec<String>, ApiError> {
        Err(ApiError::internal("the schema is not loaded"))
    }
}

/// Parses a JSON body and tells of duplicate fields.
pub fn parse_json(_body: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    Err(ApiError::internal("the schema is not loaded"))
}
