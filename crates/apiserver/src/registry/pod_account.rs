//! New pods and their ServiceAccounts, as Kubernetes' admission plugin of that name: the account has to
//! exist, its token is mounted into every container, and its pull secrets are the pod's.

use std::time::Duration;

use serde_json::{Value, json};

use super::lifecycle::generate_name;
use super::object::{self, text};
use super::{Registry, storage};
use crate::error::ApiError;
use crate::http::request::Target;
use crate::kinds;
use crate::schema::schema;

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
/// Seconds; the node renews the token well before.
const TOKEN_LIFE: i64 = 3607;
const ROOT_CA: &str = "kube-root-ca.crt";
/// How long a pod waits for the account `default` of a new namespace, which a controller makes.
const PATIENCE: Duration = Duration::from_secs(2);

impl Registry {
    /// Completes a new pod; other objects stay as they are.
    pub(super) async fn admit_pod(&self, target: &Target, pod: &mut Value) -> Result<(), ApiError> {
        let resource = &target.resource;
        let is_pod = resource.group.is_empty() && resource.plural == "pods" && target.subresource.is_empty();
        if !self.pods_need_accounts || !is_pod || !pod["spec"].is_object() {
            return Ok(());
        }
        let refuse = |why: String| ApiError::forbidden("", "pods", text(pod, "/metadata/name"), &why);
        if pod["metadata"]["annotations"].get(MIRROR).is_some() {
            return check_mirror(pod).map_err(refuse);
        }
        let given = [text(pod, "/spec/serviceAccountName"), text(pod, "/spec/serviceAccount")];
        let name = given.into_iter().find(|n| !n.is_empty()).unwrap_or(DEFAULT).to_owned();
        let namespace = target.namespace.as_str();
        let account = self.account(namespace, &name).await.ok_or_else(|| {
            refuse(format!(
                "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
            ))
        })?;
        pod["spec"]["serviceAccountName"] = name.into();
        let wish = |object: &Value| object.get("automountServiceAccountToken").and_then(Value::as_bool);
        if wish(&pod["spec"]).or(wish(&account)).unwrap_or(true) {
            mount_token(&mut pod["spec"]);
        }
        let own = pod["spec"]["imagePullSecrets"].as_array().is_some_and(|secrets| !secrets.is_empty());
        if let (false, Some(secrets)) = (own, account["imagePullSecrets"].as_array()) {
            pod["spec"]["imagePullSecrets"] = json!(secrets);
        }
        // What was added has defaults too.
        kinds::default(resource, pod);
        if text(&account["metadata"]["annotations"], &format!("/{}", ENFORCE.replace('/', "~1"))) == "true" {
            let refuse = |why: String| ApiError::forbidden("", "pods", text(pod, "/metadata/name"), &why);
            check_secrets(&account, &pod["spec"]).map_err(refuse)?;
        }
        Ok(())
    }

    async fn account(&self, namespace: &str, name: &str) -> Option<Value> {
        let resource = schema().resource("", "v1", "serviceaccounts")?;
        let key = storage::key(resource, namespace, name);
        let find = || object::parse(&self.store.get(&key)?.bytes).ok();
        if let Some(account) = find() {
            return Some(account);
        }
        if name != DEFAULT {
            return None;
        }
        let mut watcher =
            self.store.watch(&storage::prefix(resource, namespace), self.store.revision()).ok()?;
        tokio::time::timeout(PATIENCE, async {
            loop {
                // Looked for after the watch began, so that none is missed.
                if let Some(account) = find() {
                    return Some(account);
                }
                watcher.next().await.ok()?;
            }
        })
        .await
        .ok()?
    }
}

fn items<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    object.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn mount_token(spec: &mut Value) {
    let present = items(spec, "volumes").find(|v| text(v, "/name").starts_with(VOLUME));
    let present = present.map(|v| text(v, "/name").to_owned());
    let name = present.clone().unwrap_or_else(|| generate_name(VOLUME));
    let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let taken = items(container, "volumeMounts").any(|m| text(m, "/mountPath") == MOUNT_PATH);
            if !taken && container.is_object() {
                push(container, "volumeMounts", mount.clone());
                mounted = true;
            }
        }
    }
    if mounted && present.is_none() {
        push(
            spec,
            "volumes",
            json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_LIFE, "path": "token"}},
                {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ]}}),
        );
    }
}

fn push(object: &mut Value, key: &str, item: Value) {
    match object.get_mut(key).and_then(Value::as_array_mut) {
        Some(list) => list.push(item),
        None => object[key] = json!([item]),
    }
}

/// A node's picture of a pod that it runs by itself may hold nothing of the API.
fn check_mirror(pod: &Value) -> Result<(), String> {
    let spec = &pod["spec"];
    if !text(spec, "/serviceAccountName").is_empty() {
        return Err("a mirror pod may not reference service accounts".into());
    }
    if !secrets_of(spec).is_empty() {
        return Err("a mirror pod may not reference secrets".into());
    }
    let sources =
        items(spec, "volumes").filter_map(|v| v.pointer("/projected/sources")?.as_array()).flatten();
    if sources.into_iter().any(|s| s.get("serviceAccountToken").is_some()) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections".into());
    }
    Ok(())
}

/// The Secrets that a pod names, and how to say where.
fn secrets_of(spec: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for volume in items(spec, "volumes") {
        let name = text(volume, "/secret/secretName");
        if !name.is_empty() {
            found.push((name.to_owned(), format!("volume with secret.secretName=\"{name}\"")));
        }
    }
    for (list, what) in [("initContainers", "init container"), ("containers", "container")] {
        for container in items(spec, list) {
            let own = text(container, "/name");
            for env in items(container, "env") {
                let (name, var) = (text(env, "/valueFrom/secretKeyRef/name"), text(env, "/name"));
                if !name.is_empty() {
                    let place =
                        format!("{what} {own} with envVar {var} referencing secret.secretName=\"{name}\"");
                    found.push((name.to_owned(), place));
                }
            }
            for from in items(container, "envFrom") {
                let name = text(from, "/secretRef/name");
                if !name.is_empty() {
                    let place = format!("{what} {own} with envFrom referencing secret.secretName=\"{name}\"");
                    found.push((name.to_owned(), place));
                }
            }
        }
    }
    found
}

/// An account may say that its pods use no Secrets but those that it names.
fn check_secrets(account: &Value, spec: &Value) -> Result<(), String> {
    let named = |list: &str, name: &str| items(account, list).any(|s| text(s, "/name") == name);
    let own = text(account, "/metadata/name");
    for (name, place) in secrets_of(spec) {
        if !named("secrets", &name) {
            let why = format!(
                "{place} is not allowed because service account {own} does not reference that secret"
            );
            return Err(why);
        }
    }
    for (i, secret) in items(spec, "imagePullSecrets").enumerate() {
        let name = text(secret, "/name");
        if !named("imagePullSecrets", name) {
            return Err(format!(
                "imagePullSecrets[{i}].name=\"{name}\" is not allowed because service account {own} does not \
                 reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_mounted_where_nothing_else_is() {
        let mut spec = json!({
            "initContainers": [{"name": "i"}],
            "containers": [
                {"name": "a", "volumeMounts": [{"name": "x", "mountPath": "/x"}]},
                {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]},
            ],
        });
        mount_token(&mut spec);
        let name = spec["volumes"][0]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with(VOLUME) && name.len() == VOLUME.len() + 5);
        assert_eq!(spec["initContainers"][0]["volumeMounts"][0]["name"], *name);
        assert_eq!(spec["containers"][0]["volumeMounts"][1]["mountPath"], MOUNT_PATH);
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
        let once = spec.clone();
        mount_token(&mut spec);
        assert_eq!(spec, once, "a volume of that name is used, and mounted once");
        let mut none = json!({"containers": [{"volumeMounts": [{"mountPath": MOUNT_PATH}]}]});
        mount_token(&mut none);
        assert_eq!(none.get("volumes"), None);
    }

    #[test]
    fn secrets_of_pods_may_be_limited() {
        let account = json!({"metadata": {"name": "a"}, "secrets": [{"name": "ok"}],
            "imagePullSecrets": [{"name": "pull"}]});
        let fine =
            json!({"volumes": [{"secret": {"secretName": "ok"}}], "imagePullSecrets": [{"name": "pull"}]});
        assert_eq!(check_secrets(&account, &fine), Ok(()));
        let from = json!({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "no"}}]}]});
        assert_eq!(
            check_secrets(&account, &from).unwrap_err(),
            "container c with envFrom referencing secret.secretName=\"no\" is not allowed because service account a \
             does not reference that secret"
        );
        let pull = json!({"imagePullSecrets": [{"name": "no"}]});
        assert!(check_secrets(&account, &pull).unwrap_err().starts_with("imagePullSecrets[0].name"));
    }
}
