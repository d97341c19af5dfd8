//! Subresources with a shape of their own: scale, binding, eviction, a namespace's finalizers.

use serde_json::{Value, json};

use super::object::{is_being_deleted, resource_version, text};
use super::update::{Patch, Tracking, Written};
use super::{Call, Registry, conflict};
use crate::error::{ApiError, Cause};
use crate::http::body::{PatchKind, yaml};
use crate::http::request::Target;
use crate::schema::{Gvk, Resource};
use crate::{apply, patch};

const SCALE: Gvk<'static> = Gvk { group: "autoscaling", version: "v1", kind: "Scale" };

/// `autoscaling/v1 Scale` of an object with replicas.
pub fn scale_of(resource: &Resource, object: &Value) -> Value {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let selector = selector_text(object.pointer("/spec/selector"));
    match resource.custom.as_ref().and_then(|custom| custom.scale.as_ref()) {
        Some(scale) => {
            let (wanted, current, selector) = scale.read(object);
            scale_with(object, wanted, current, selector)
        }
        None => {
            let current = number("/status/replicas").unwrap_or(0);
            scale_with(object, number("/spec/replicas"), current, &selector)
        }
    }
}

fn scale_with(object: &Value, wanted: Option<i64>, current: i64, selector: &str) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer("/metadata").and_then(|m| m.get(field)) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({"replicas": current});
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": wanted.unwrap_or(0)}, "status": status,
    })
}

/// A label selector as `kubectl -l` takes it.
fn selector_text(selector: Option<&Value>) -> String {
    let Some(selector) = selector else { return String::new() };
    let labels = selector.get("matchLabels").unwrap_or(selector).as_object();
    let equal = labels.into_iter().flatten().filter_map(|(k, v)| Some(format!("{k}={}", v.as_str()?)));
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    let sets = expressions.into_iter().flatten().map(|e| {
        let key = text(e, "/key");
        let values = e["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let values = values.collect::<Vec<_>>().join(",");
        match text(e, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        }
    });
    equal.chain(sets).collect::<Vec<_>>().join(",")
}

fn wanted_replicas(target: &Target, scale: &Value) -> Result<i64, ApiError> {
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    if replicas >= 0 {
        return Ok(replicas);
    }
    let cause = Cause {
        reason: "FieldValueInvalid",
        message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
        field: "spec.replicas".into(),
    };
    Err(ApiError::invalid("autoscaling", "Scale", &target.name, vec![cause]))
}

impl Registry {
    pub fn get_scale(&self, target: &Target) -> Result<Value, ApiError> {
        Ok(scale_of(&target.resource, &self.get(target)?))
    }

    pub async fn update_scale(
        &self,
        target: &Target,
        scale: &Value,
        call: &mut Call,
    ) -> Result<Written, ApiError> {
        self.change_scale(target, call, |_, _| Ok(scale.clone())).await
    }

    pub async fn patch_scale(
        &self,
        target: &Target,
        patch: &Patch,
        call: &mut Call,
    ) -> Result<Written, ApiError> {
        let change = |current: &Value, call: &Call| match patch.kind {
            PatchKind::Json => patch::json_patch(current, &patch.body),
            PatchKind::Merge => patch::merge_patch(current, &patch.body),
            PatchKind::Strategic => patch::strategic(SCALE, current, &patch.body),
            PatchKind::Apply => {
                let (config, now) = (yaml(&patch.body)?, super::object::time(call.now));
                apply::apply(SCALE, Some(current), &config, &call.manager, patch.force, "", &now)
            }
        };
        self.change_scale(target, call, change).await
    }

    async fn change_scale(
        &self,
        target: &Target,
        call: &mut Call,
        change: impl Fn(&Value, &Call) -> Result<Value, ApiError>,
    ) -> Result<Written, ApiError> {
        let whole = |old: &Value, call: &mut Call| {
            let scale = change(&scale_of(&target.resource, old), call)?;
            let version = resource_version(&scale);
            if !matches!(version, "" | "0") && version != resource_version(old) {
                return Err(conflict(target));
            }
            let mut new = old.clone();
            let wanted = wanted_replicas(target, &scale)?;
            match target.resource.custom.as_ref().and_then(|custom| custom.scale.as_ref()) {
                Some(scale) => scale.write(&mut new, wanted),
                None => new["spec"]["replicas"] = wanted.into(),
            }
            Ok((new, Tracking::Update))
        };
        let object = self.modify(target, call, whole).await?;
        Ok(Written { object: scale_of(&target.resource, &object), created: false })
    }

    /// `pods/binding`: the scheduler's decision, taken once.
    pub async fn bind(&self, target: &Target, binding: &Value, call: &mut Call) -> Result<Value, ApiError> {
        let node = text(binding, "/target/name").to_owned();
        let kind = text(binding, "/target/kind");
        if node.is_empty() || !matches!(kind, "" | "Node") {
            let (field, message) = match node.is_empty() {
                true => ("target.name", "Required value".to_owned()),
                false => {
                    ("target.kind", format!("Unsupported value: \"{kind}\": supported values: \"Node\""))
                }
            };
            let cause = Cause { reason: "FieldValueInvalid", message, field: field.into() };
            return Err(ApiError::invalid("", "Binding", &target.name, vec![cause]));
        }
        let uid = text(binding, "/metadata/uid").to_owned();
        let now = super::object::time(call.now);
        let change = |old: &Value, _: &mut Call| {
            let refuse = |why: &str| Err(ApiError::conflict("", "pods/binding", &target.name, why));
            if is_being_deleted(old) {
                return refuse(&format!(
                    "pod {} is being deleted, cannot be assigned to a host",
                    target.name
                ));
            }
            if !uid.is_empty() && uid != text(old, "/metadata/uid") {
                return refuse("the UID in the binding is not that of the pod");
            }
            let assigned = text(old, "/spec/nodeName");
            if !assigned.is_empty() {
                let why = format!("pod {} is already assigned to node \"{assigned}\"", target.name);
                return refuse(&why);
            }
            Ok((bound(old, &node, binding, &now), Tracking::Update))
        };
        self.modify(target, call, change).await?;
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
    }
}

fn bound(old: &Value, node: &str, binding: &Value, now: &str) -> Value {
    let mut new = old.clone();
    new["spec"]["nodeName"] = node.into();
    if let Some(annotations) = binding.pointer("/metadata/annotations").and_then(Value::as_object) {
        let metadata = super::object::metadata(&mut new);
        let own = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(own) = own.as_object_mut() {
            own.extend(annotations.clone());
        }
    }
    let status = super::object::child(&mut new, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|c| text(c, "/type") != "PodScheduled");
        conditions.push(json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
        }));
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_replicas_and_selector() {
        let deployment = json!({
            "metadata": {"name": "web", "namespace": "a", "resourceVersion": "9", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {
                "matchLabels": {"app": "web"},
                "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]},
                    {"key": "old", "operator": "DoesNotExist"}],
            }},
            "status": {"replicas": 2},
        });
        let resource = crate::schema::schema().resource("apps", "v1", "deployments").unwrap();
        let scale = scale_of(resource, &deployment);
        assert_eq!(scale["metadata"], json!({"name": "web", "namespace": "a", "resourceVersion": "9"}));
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web,tier in (a,b),!old"}));
        let controller = json!({"spec": {"replicas": 1, "selector": {"app": "db"}}});
        assert_eq!(scale_of(resource, &controller)["status"]["selector"], "app=db");
    }

    #[test]
    fn a_bound_pod_is_scheduled_once() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False"}, {"type": "Ready", "status": "False"},
        ]}});
        let new = bound(&pod, "n1", &json!({}), "2024-01-01T00:00:00Z");
        assert_eq!(new["spec"]["nodeName"], "n1");
        let conditions = new["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 2);
        assert_eq!(conditions[1]["status"], "True");
    }
}
