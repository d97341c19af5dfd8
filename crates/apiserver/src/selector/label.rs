//! Label selectors: equality and set-based requirements.

use std::fmt;

use serde_json::{Map, Value};

use super::parser;
use crate::{
    error::ApiError,
    kinds::{
        field::{Errors, Path},
        format,
    },
};

/// How a requirement relates a label to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Exists,
    DoesNotExist,
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    GreaterThan,
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted, without repetition.
    pub values: Vec<String>,
}

impl Requirement {
    fn holds(&self, labels: Option<&Map<String, Value>>) -> bool {
        let label = labels.and_then(|l| l.get(&self.key)).and_then(Value::as_str);
        let among = |label: &str| self.values.iter().any(|v| v == label);
        match self.operator {
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::Equals | Operator::DoubleEquals | Operator::In => label.is_some_and(among),
            Operator::NotEquals | Operator::NotIn => !label.is_some_and(among),
            Operator::GreaterThan => self.compares(label, |label, bound| label > bound),
            Operator::LessThan => self.compares(label, |label, bound| label < bound),
        }
    }

    fn compares(&self, label: Option<&str>, holds: fn(i64, i64) -> bool) -> bool {
        let label = label.and_then(|l| l.parse().ok());
        let bound = self.values.first().and_then(|v| v.parse().ok());
        label.zip(bound).is_some_and(|(label, bound)| holds(label, bound))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A parsed label selector; all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    /// A missing selector object selects nothing.
    nothing: bool,
}

impl LabelSelector {
    /// From a `labelSelector` query parameter; mistakes are 400.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut requirements = parser::parse(text).map_err(ApiError::bad_request)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// From a `metav1.LabelSelector` object that passed [`validate_selector`]; null selects nothing and `{}`
    /// everything.
    pub fn from_object(object: &Value) -> Self {
        let Some(object) = object.as_object() else {
            return Self { requirements: Vec::new(), nothing: true };
        };
        let mut requirements = match object.get("matchLabels") {
            Some(Value::Object(labels)) => equalities(labels),
            _ => Vec::new(),
        };
        for expression in object.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.extend(from_expression(expression));
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// From a plain map as Services and ReplicationControllers have; an empty or missing one selects nothing.
    pub fn from_map(map: &Value) -> Self {
        match map.as_object() {
            Some(labels) if !labels.is_empty() => Self { requirements: equalities(labels), nothing: false },
            _ => Self { requirements: Vec::new(), nothing: true },
        }
    }

    /// Whether it lets everything through.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether the labels in the object's metadata fulfil every requirement.
    pub fn matches(&self, obj: &Value) -> bool {
        self.matches_labels(&obj["metadata"]["labels"])
    }

    /// Whether a map of labels fulfils every requirement.
    pub fn matches_labels(&self, labels: &Value) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.holds(labels.as_object()))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

fn equalities(labels: &Map<String, Value>) -> Vec<Requirement> {
    let mut out: Vec<Requirement> = labels
        .iter()
        .map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.as_str().unwrap_or_default().to_owned()],
        })
        .collect();
    out.sort_by(|a, b| a.key.cmp(&b.key));
    out
}

fn from_expression(expression: &Value) -> Option<Requirement> {
    let operator = match expression["operator"].as_str()? {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return None,
    };
    let listed = expression["values"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut values: Vec<String> = listed.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    values.sort();
    values.dedup();
    Some(Requirement { key: expression["key"].as_str()?.to_owned(), operator, values })
}

/// Checks a `metav1.LabelSelector` object.
pub fn validate_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    validate_labels(&selector["matchLabels"], &path.child("matchLabels"), errors);
    let expressions = selector["matchExpressions"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (i, expression) in expressions.iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let values = expression["values"].as_array().map(Vec::as_slice).unwrap_or_default();
        match expression["operator"].as_str().unwrap_or_default() {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'")
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        let key = expression["key"].as_str().unwrap_or_default();
        errors.invalid_each(&path.child("key"), key, &format::qualified_name(key));
        for (j, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            errors.invalid_each(&path.child("values").index(j), value, &format::label_value(value));
        }
    }
}

/// Checks the keys and values of a map of labels.
pub fn validate_labels(labels: &Value, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.invalid_each(path, key, &format::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        errors.invalid_each(path, value, &format::label_value(value));
    }
}
