//! Field selectors: the fields each kind supports, as Kubernetes does; others are refused.

use std::borrow::Cow;

use serde_json::Value;

use crate::{error::ApiError, schema::Resource};

/// The fields of kinds that support more than `metadata.name` and `metadata.namespace`.
const FIELDS: &[(&str, &str, &[&str])] = &[
    (
        "",
        "Pod",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
    ),
    ("", "Node", &["spec.unschedulable"]),
    ("", "ReplicationController", &["status.replicas"]),
    ("", "Namespace", &["status.phase"]),
    ("", "Secret", &["type"]),
    ("", "Service", &["spec.clusterIP", "spec.type"]),
    ("", "Event", EVENT_FIELDS),
    ("events.k8s.io", "Event", EVENT_FIELDS),
    ("batch", "Job", &["status.successful"]),
    ("certificates.k8s.io", "CertificateSigningRequest", &["spec.signerName"]),
];

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    value: String,
    negated: bool,
}

/// A parsed `fieldSelector`; all terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

impl FieldSelector {
    /// Mistakes are 400, an unknown field `field label not supported: X`.
    pub fn parse(res: &Resource, text: &str) -> Result<Self, ApiError> {
        let mut terms = Vec::new();
        for part in split_terms(text).into_iter().filter(|p| !p.is_empty()) {
            let Some((field, op, value)) = split_term(part) else {
                let why = format!("invalid selector: '{text}'; can't understand '{part}'");
                return Err(ApiError::bad_request(why));
            };
            let value = unescape(value).map_err(ApiError::bad_request)?;
            let field = supported(res, field)?;
            terms.push(Term { field, value, negated: op == "!=" });
        }
        Ok(Self { terms })
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that `field` must have, if the selector says so; lets a list by name become a get.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.field == field && !t.negated).map(|t| t.value.as_str())
    }

    pub fn matches(&self, obj: &Value) -> bool {
        self.terms.iter().all(|term| {
            let equal = if term.field == "status.podIPs" {
                let ips = obj["status"]["podIPs"].as_array().map(Vec::as_slice).unwrap_or_default();
                ips.iter().any(|ip| ip["ip"].as_str() == Some(&term.value))
            } else {
                value_of(obj, &term.field) == term.value
            };
            equal != term.negated
        })
    }
}

/// The name that a field selector of whatever kind asks for, if it asks for one.
pub fn name_selected(text: &str) -> Option<String> {
    let terms: Option<Vec<_>> =
        split_terms(text).into_iter().filter(|p| !p.is_empty()).map(split_term).collect();
    let name = terms?.into_iter().find(|(field, op, _)| *field == "metadata.name" && *op != "!=");
    unescape(name?.2).ok()
}

/// The field's name as stored objects have it.
fn supported(res: &Resource, field: &str) -> Result<String, ApiError> {
    let field = match (res.kind, field) {
        ("Pod", "spec.host") => Cow::from("spec.nodeName"),
        ("Event", "reportingController") if res.group == "events.k8s.io" => Cow::from("reportingComponent"),
        ("Event", other) if other.starts_with("regarding.") => {
            Cow::from(other.replacen("regarding.", "involvedObject.", 1))
        }
        (_, other) => Cow::from(other),
    };
    let own = FIELDS.iter().find(|(group, kind, _)| *group == res.group && *kind == res.kind);
    let common = field == "metadata.name" || (field == "metadata.namespace" && res.namespaced);
    let custom = res.custom.as_ref().is_some_and(|c| c.selectable.iter().any(|(name, _)| *name == field));
    if common || custom || own.is_some_and(|(_, _, fields)| fields.contains(&field.as_ref())) {
        return Ok(field.into_owned());
    }
    let why = match res.kind {
        _ if own.is_none() && res.custom.is_none() => {
            let known = "only \"metadata.name\", \"metadata.namespace\"";
            format!("{field:?} is not a known field selector: {known}")
        }
        "Job" => format!("field label {field:?} not supported for Job"),
        _ => format!("field label not supported: {field}"),
    };
    Err(ApiError::bad_request(why))
}

/// The text of a field; a missing field has the text that Go's zero value would have.
fn value_of<'a>(obj: &'a Value, field: &str) -> Cow<'a, str> {
    let at = |path: &str| path.split('.').try_fold(obj, |v, key| v.get(key));
    let found = match field {
        // events.k8s.io and the core group name these differently.
        "source" => {
            at("source.component").filter(|v| v.as_str() != Some("")).or_else(|| at("reportingComponent"))
        }
        "reportingComponent" => at(field).or_else(|| at("reportingController")),
        _ => {
            at(field).or_else(|| field.strip_prefix("involvedObject.").and_then(|f| at("regarding")?.get(f)))
        }
    };
    match found {
        Some(Value::String(text)) => Cow::from(text),
        Some(Value::Null) | None => Cow::from(zero_value(field)),
        Some(other) => Cow::from(other.to_string()),
    }
}

fn zero_value(field: &str) -> &'static str {
    match field {
        "spec.unschedulable" | "spec.hostNetwork" => "false",
        "status.replicas" | "status.successful" => "0",
        _ => "",
    }
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn split_term(term: &str) -> Option<(&str, &str, &str)> {
    term.char_indices().find_map(|(i, _)| {
        let rest = &term[i..];
        let op = ["!=", "==", "="].into_iter().find(|op| rest.starts_with(op))?;
        Some((&term[..i], op, &rest[op.len()..]))
    })
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence: String = other.into_iter().collect();
                    return Err(format!("invalid field selector: invalid escape sequence: \\{sequence}"));
                }
            },
            ',' | '=' => {
                let code = u32::from(c);
                return Err(format!("invalid field selector: unescaped character in value: {code}"));
            }
            other => out.push(other),
        }
    }
    Ok(out)
}
