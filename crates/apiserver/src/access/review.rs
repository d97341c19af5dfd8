//! Reviews: who am I, may I, what may I. Nothing is stored.

use serde_json::{Value, json};

use super::rule::Rule;
use super::{Attributes, Identity};
use crate::error::ApiError;
use crate::http::request::Target;
use crate::kinds::field::{Errors, Path};
use crate::registry::object::{text, time};
use crate::registry::{Call, Registry};

/// Whether `resource` is one of the create-only reviews.
pub fn is_review(resource: &str) -> bool {
    matches!(
        resource,
        "selfsubjectreviews"
            | "selfsubjectaccessreviews"
            | "selfsubjectrulesreviews"
            | "subjectaccessreviews"
            | "localsubjectaccessreviews"
            | "tokenreviews"
    )
}

impl Registry {
    /// Fills in the status of a review that `identity` asks for.
    pub fn review(
        &self,
        target: &Target,
        identity: &Identity,
        mut review: Value,
        duplicates: &[String],
        call: &mut Call,
    ) -> Result<Value, ApiError> {
        let resource = &target.resource;
        crate::registry::lifecycle::check_kind(resource, &mut review)?;
        self.check_fields(resource, &mut review, duplicates, call)?;
        let status = match resource.plural {
            "selfsubjectreviews" => json!({"userInfo": identity.user_info()}),
            "selfsubjectrulesreviews" => self.rules(identity, text(&review, "/spec/namespace"))?,
            "tokenreviews" => self.review_token(&review, call.now)?,
            plural => {
                check_access(target, &review)?;
                let own = plural.starts_with("self");
                let subject = if own { identity.clone() } else { reviewed(&review) };
                self.access(&subject, &review)
            }
        };
        match resource.plural {
            "selfsubjectreviews" => review["metadata"] = json!({"creationTimestamp": time(call.now)}),
            "selfsubjectrulesreviews" => {
                review["spec"] = json!({});
                review["metadata"] = json!({});
            }
            _ if review.get("metadata").is_none() => review["metadata"] = json!({}),
            _ => {}
        }
        review["status"] = status;
        crate::schema::schema().normalise(resource.gvk(), &mut review);
        Ok(review)
    }

    fn access(&self, subject: &Identity, review: &Value) -> Value {
        let asked = match review.pointer("/spec/nonResourceAttributes") {
            Some(path) => Attributes {
                verb: text(path, "/verb").into(),
                path: text(path, "/path"),
                ..Attributes::default()
            },
            None => {
                let part =
                    |field: &str| text(review, &format!("/spec/resourceAttributes/{field}")).to_owned();
                let (verb, name) = (part("verb"), part("name"));
                let found = |field: &str| {
                    review.pointer("/spec/resourceAttributes").map_or("", |a| text(a, &format!("/{field}")))
                };
                Attributes {
                    verb: verb.into(),
                    is_resource: true,
                    group: found("group"),
                    resource: found("resource"),
                    subresource: found("subresource"),
                    namespace: found("namespace"),
                    name: name.into(),
                    path: "",
                }
            }
        };
        let decision = self.decide(subject, &asked);
        let mut status = json!({"allowed": decision.allowed});
        if !decision.reason.is_empty() {
            status["reason"] = decision.reason.into();
        }
        status
    }

    fn rules(&self, identity: &Identity, namespace: &str) -> Result<Value, ApiError> {
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let (rules, error) = self.policy(|policy| policy.rules_for(identity, namespace));
        let chosen = |wanted: fn(&Rule) -> bool| {
            rules.iter().filter(|r| wanted(r)).map(Rule::to_value).collect::<Vec<_>>()
        };
        let mut status = json!({
            "resourceRules": chosen(|r| !r.resources.is_empty()),
            "nonResourceRules": chosen(|r| !r.urls.is_empty()),
            "incomplete": false,
        });
        if !error.is_empty() {
            status["evaluationError"] = error.into();
        }
        Ok(status)
    }
}

fn reviewed(review: &Value) -> Identity {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let spec = &review["spec"];
    let extra = spec["extra"].as_object().into_iter().flatten();
    Identity {
        user: text(review, "/spec/user").to_owned(),
        uid: text(review, "/spec/uid").to_owned(),
        groups: list(&spec["groups"]),
        extra: extra.map(|(key, values)| (key.to_lowercase(), list(values))).collect(),
    }
}

/// One question must be asked, about somebody.
fn check_access(target: &Target, review: &Value) -> Result<(), ApiError> {
    let mut errors = Errors::default();
    let (spec, plural) = (&review["spec"], target.resource.plural);
    let given = |field: &str| spec.get(field).filter(|v| !v.is_null());
    let path = Path::new("spec");
    match (given("resourceAttributes"), given("nonResourceAttributes")) {
        (Some(_), Some(both)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.invalid(&path.child("nonResourceAttributes"), both.clone(), why);
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.invalid(&path.child("resourceAttributes"), Value::Null, why);
        }
        _ => {}
    }
    let nobody = text(review, "/spec/user").is_empty()
        && spec["groups"].as_array().is_none_or(|groups| groups.is_empty());
    if !plural.starts_with("self") && nobody {
        errors.invalid(&path.child("user"), "", "at least one of user or group must be specified");
    }
    if plural == "localsubjectaccessreviews" {
        let namespace = text(review, "/spec/resourceAttributes/namespace");
        if given("resourceAttributes").is_some() && namespace != target.namespace {
            let at = Path::new("spec.resourceAttributes.namespace");
            errors.invalid(&at, namespace, "must match metadata.namespace");
        }
        if let Some(path) = given("nonResourceAttributes") {
            let at = Path::new("spec.nonResourceAttributes");
            errors.invalid(&at, path.clone(), "disallowed on this kind of request");
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(target.resource.group, target.resource.kind, "", errors.into_causes()))
}
