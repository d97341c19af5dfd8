//! What surrounds every object: names, namespaces, unique ids, and the rule that nothing new comes
//! into a namespace that is missing or going away.

use rand::Rng;
use serde_json::{Value, json};

use super::object::{is_being_deleted, metadata, set_metadata, text, time};
use super::{Call, Registry, storage};
use crate::error::{ApiError, Cause};
use crate::http::request::Target;
use crate::schema::{Resource, schema};

/// Kubernetes' alphabet for generated names: no vowels, nothing that looks like another.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// The longest generated name is 63 characters.
const BASE: usize = 63 - SUFFIX;

pub fn generate_name(base: &str) -> String {
    let mut cut = base.len().min(BASE);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut rng = rand::rng();
    let suffix = (0..SUFFIX).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    base[..cut].chars().chain(suffix).collect()
}

/// Checks that the body is of the kind and in the namespace that the path says, and fills in both.
pub fn match_target(target: &Target, object: &mut Value) -> Result<(), ApiError> {
    let resource = &target.resource;
    check_kind(resource, object)?;
    let namespace = text(object, "/metadata/namespace").to_owned();
    if !resource.namespaced {
        set_metadata(object, "namespace", None);
    } else if namespace.is_empty() {
        set_metadata(object, "namespace", Some(target.namespace.as_str().into()));
    } else if namespace != target.namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(message));
    }
    let name = text(object, "/metadata/name").to_owned();
    if target.name.is_empty() {
        return Ok(());
    }
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            target.name
        )));
    } else if name != target.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}

pub fn check_kind(resource: &Resource, object: &mut Value) -> Result<(), ApiError> {
    let Some(fields) = object.as_object_mut() else {
        return Err(ApiError::bad_request("the body is not an object"));
    };
    let expected = resource.api_version();
    let version = fields.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version.is_empty() {
        fields.insert("apiVersion".into(), expected.as_str().into());
    } else if version != expected {
        let kind = fields.get("kind").and_then(Value::as_str).filter(|kind| !kind.is_empty());
        let (kind, short) = (kind.unwrap_or(resource.kind), version.rsplit('/').next().unwrap_or_default());
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{short}\" cannot be handled as a {}: no kind \"{kind}\" is registered for version \
             \"{version}\" in scheme \"pkg/runtime/scheme.go:111\"",
            resource.kind
        )));
    }
    let kind = fields.get("kind").and_then(Value::as_str).unwrap_or_default();
    if kind.is_empty() {
        fields.insert("kind".into(), resource.kind.into());
    } else if kind != resource.kind {
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{}\" cannot be handled as a {}: no kind \"{kind}\" is registered for version \
             \"{expected}\" in scheme \"pkg/runtime/scheme.go:111\"",
            resource.version, resource.kind
        )));
    }
    Ok(())
}

/// Gives a new object its identity.
pub fn begin(object: &mut Value, call: &Call) {
    let generated = text(object, "/metadata/generateName").to_owned();
    if text(object, "/metadata/name").is_empty() && !generated.is_empty() {
        set_metadata(object, "name", Some(generate_name(&generated).into()));
    }
    let metadata = metadata(object);
    for server_owned in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        metadata.shift_remove(server_owned);
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), time(call.now).into());
}

/// What an update may never change goes back to what it was.
pub fn keep_identity(target: &Target, old: &Value, new: &mut Value) -> Result<(), ApiError> {
    let (was, is) = (text(old, "/metadata/uid"), text(new, "/metadata/uid"));
    if !is.is_empty() && was != is {
        let why = format!("Precondition failed: UID in precondition: {is}, UID in object meta: {was}");
        let resource = &target.resource;
        return Err(ApiError::conflict(resource.group, resource.plural, &target.name, &why));
    }
    for kept in [
        "name",
        "generateName",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
    ] {
        let before = old.pointer("/metadata").and_then(|m| m.get(kept)).cloned();
        set_metadata(new, kept, before);
    }
    set_metadata(new, "selfLink", None);
    Ok(())
}

/// An object that is being deleted loses finalizers but never gains any.
pub fn check_finalizers(target: &Target, old: &Value, new: &Value) -> Result<(), ApiError> {
    if !is_being_deleted(old) {
        return Ok(());
    }
    let before = super::object::finalizers(old);
    let added: Vec<String> =
        super::object::finalizers(new).into_iter().filter(|f| !before.contains(f)).collect();
    if added.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
    let message = format!(
        "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        listed.join(", ")
    );
    let cause = Cause { reason: "FieldValueForbidden", message, field: "metadata.finalizers".into() };
    let resource = &target.resource;
    Err(ApiError::invalid(resource.group, resource.kind, &target.name, vec![cause]))
}

impl Registry {
    /// Refuses new content in a namespace that does not exist or is being deleted.
    pub(super) fn check_namespace(&self, target: &Target, name: &str) -> Result<(), ApiError> {
        if !target.resource.namespaced {
            return Ok(());
        }
        let namespace = target.namespace.as_str();
        let Some(namespaces) = schema().resource("", "v1", "namespaces") else { return Ok(()) };
        let stored = self.store.get(&storage::key(namespaces, "", namespace));
        let stored = stored.ok_or_else(|| ApiError::not_found("", "namespaces", namespace))?;
        let object = super::object::parse(&stored.bytes)?;
        if !is_being_deleted(&object) {
            return Ok(());
        }
        let resource = &target.resource;
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = json!({
            "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        });
        let details = json!({
            "name": name, "group": resource.group, "kind": resource.plural, "causes": [cause],
        });
        Err(ApiError::forbidden(resource.group, resource.plural, name, &why).with_details(details))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_and_differ() {
        let long = "x".repeat(80);
        let name = generate_name(&long);
        assert_eq!(name.len(), 63);
        assert!(name[58..].bytes().all(|b| ALPHABET.contains(&b)));
        assert_ne!(generate_name("web-"), generate_name("web-"));
    }

    #[test]
    fn a_body_of_another_kind_or_place_is_refused() {
        let target = crate::http::request::target("/api/v1/namespaces/a/configmaps/c").unwrap();
        let refused = |mut object: Value| match_target(&target, &mut object).unwrap_err().message;
        assert_eq!(
            refused(json!({"apiVersion": "v2"})),
            "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for \
             version \"v2\" in scheme \"pkg/runtime/scheme.go:111\""
        );
        assert!(refused(json!({"kind": "Pod"})).contains("cannot be handled as a ConfigMap"));
        assert!(
            refused(json!({"metadata": {"namespace": "b"}})).starts_with("the namespace of the provided")
        );
        assert_eq!(
            refused(json!({"metadata": {"name": "d"}})),
            "the name of the object (d) does not match the name on the URL (c)"
        );
        assert!(refused(json!({})).ends_with("was undeterminable: name must be provided"));
        let mut object = json!({"metadata": {"name": "c"}});
        match_target(&target, &mut object).unwrap();
        assert_eq!(object["metadata"], json!({"name": "c", "namespace": "a"}));
    }
}
