//! Custom resources: what a CustomResourceDefinition says, and serving by it.
//!
//! A definition becomes one [`Resource`](crate::schema::Resource) for each served version, which carries a
//! [`Custom`]; everything that is particular to built-in kinds asks it instead. What is served at a moment is one
//! [`Served`], replaced as a whole by the [`keeper`] when definitions change.

pub mod default;
pub mod definition;
mod formats;
pub mod keeper;
pub mod names;
pub mod path;
pub mod prune;
mod rules;
mod scale;
mod served;
pub mod structural;
mod validate;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::kinds::field::{Errors, Path};
use crate::kinds::value::{at, list, text, truth};
use path::JsonPath;
pub use scale::Scale;
pub use served::{Catalog, Served};
use structural::Structural;

/// What a definition says of one version.
#[derive(Clone, Debug)]
pub struct Custom {
    /// The definition's name.
    pub definition: String,
    pub list_kind: String,
    pub schema: Structural,
    /// As it stands in the definition.
    pub source: Value,
    pub columns: Vec<Column>,
    /// Field selectors by name, beside those of every object.
    pub selectable: Vec<(String, JsonPath)>,
    pub scale: Option<Scale>,
    pub has_status: bool,
    /// The schema has rules.
    has_rules: bool,
    /// What users of a deprecated version are warned of.
    pub deprecation: Option<String>,
    /// The definition is being deleted.
    pub terminating: bool,
}

/// A printed column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its `columnDefinitions` entry.
    pub definition: Value,
    pub of: String,
    pub path: JsonPath,
}

impl Custom {
    /// Reads one entry of `spec.versions`.
    fn parse(definition: &Value, version: &Value) -> Self {
        let source = at(version, "schema.openAPIV3Schema").cloned().unwrap_or_else(|| json!({}));
        let selectable = list(version, "selectableFields").iter().filter_map(|field| {
            let path = text(field, "jsonPath");
            Some((path.trim_start_matches('.').to_owned(), JsonPath::parse(path)?))
        });
        let gvk = format!(
            "{}/{} {}",
            text(definition, "spec.group"),
            text(version, "name"),
            text(definition, "spec.names.kind")
        );
        let warning = at(version, "deprecationWarning").and_then(Value::as_str).map(str::to_owned);
        let schema = Structural::parse(&source);
        let mut has_rules = false;
        schema.walk("", &mut |_, node| has_rules |= !node.rules.is_empty());
        Self {
            has_rules,
            definition: text(definition, "metadata.name").to_owned(),
            list_kind: text(definition, "spec.names.listKind").to_owned(),
            schema,
            source,
            columns: columns(version),
            selectable: selectable.collect(),
            scale: at(version, "subresources.scale").and_then(Scale::parse),
            has_status: at(version, "subresources.status").is_some(),
            deprecation: truth(version, "deprecated")
                .then(|| warning.unwrap_or_else(|| format!("{gvk} is deprecated"))),
            terminating: at(definition, "metadata.deletionTimestamp").is_some(),
        }
    }

    /// Prunes an object; answers what kube-apiserver says of unknown fields.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(&self.schema, object)
    }

    pub fn default(&self, object: &mut Value) {
        default::default(&self.schema, object);
    }

    /// Holds a new or changed object against schema, scale and rules.
    pub fn validate(&self, new: &Value, old: Option<&Value>, errors: &mut Errors) {
        let root = Path::new("");
        validate::check(&self.schema, new, &root, errors);
        if let Some(scale) = &self.scale {
            scale.check(new, errors);
        }
        self.check_rules(&self.schema, new, old, &root, errors);
    }

    /// Rules are for values of the right shape.
    fn check_rules(
        &self,
        schema: &Structural,
        new: &Value,
        old: Option<&Value>,
        path: &Path,
        errors: &mut Errors,
    ) {
        if !self.has_rules {
            return;
        }
        if errors.are_about_shape() {
            let why = "some validation rules were not checked because the object was invalid; correct the existing \
                       errors to complete validation";
            return errors.invalid(&Path::new("<nil>"), Value::Null, why);
        }
        rules::check(schema, new, old, path, errors);
    }

    /// Holds a changed status against its part of the schema.
    pub fn validate_status(&self, old: &Value, new: &Value, errors: &mut Errors) {
        let (Some(schema), Some(status)) = (self.schema.properties.get("status"), new.get("status")) else {
            return;
        };
        let path = Path::new("status");
        validate::check(schema, status, &path, errors);
        self.check_rules(schema, status, old.get("status"), &path, errors);
    }
}

fn columns(version: &Value) -> Vec<Column> {
    let given = list(version, "additionalPrinterColumns");
    if given.is_empty() {
        return JsonPath::parse(".metadata.creationTimestamp")
            .map(|path| Column {
                definition: json!({
                    "name": "Age", "type": "date", "format": "", "priority": 0,
                    "description": crate::table::CREATION_TIMESTAMP,
                }),
                of: "date".to_owned(),
                path,
            })
            .into_iter()
            .collect();
    }
    let column = |column: &Value| {
        let json_path = text(column, "jsonPath");
        let described = match text(column, "description") {
            "" => format!("Custom resource definition column (in JSONPath format): {json_path}"),
            text => text.to_owned(),
        };
        Some(Column {
            definition: json!({
                "name": text(column, "name"), "type": text(column, "type"), "format": text(column, "format"),
                "description": described,
                "priority": column.get("priority").and_then(Value::as_i64).unwrap_or_default(),
            }),
            of: text(column, "type").to_owned(),
            path: JsonPath::parse(json_path)?,
        })
    };
    given.iter().filter_map(column).collect()
}
