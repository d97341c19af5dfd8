//! What every namespace must have, and how one ends.

use std::collections::BTreeMap;

use daymark_model::ObjectName;
use futures::StreamExt;
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};
use serde_json::{Value, json};

use crate::action::{Action, Decision};
use crate::meta::seconds;
use crate::runner::write::{Failure, refused, send};
use crate::view::View;

const ROOT_CA: &str = "kube-root-ca.crt";
const FINALIZER: &str = "kubernetes";
const SIDE_BY_SIDE: usize = 16;

/// Looks at one living namespace: it has a ServiceAccount `default` and the cluster's root certificate.
pub fn decide_setup(view: &View<'_>, key: &ObjectName) -> Decision {
    let mut decision = Decision::default();
    let alive = view.state.namespaces.get(key).is_some_and(|n| n.metadata.deletion_timestamp.is_none());
    if !alive {
        return decision;
    }
    let meta = |name: &str| ObjectMeta {
        name: Some(name.into()),
        namespace: Some(key.name.to_string()),
        ..Default::default()
    };
    let name = |name: &str| ObjectName::new(&*key.name, name);
    if view.state.service_accounts.get(&name("default")).is_none() {
        let account = ServiceAccount { metadata: meta("default"), ..Default::default() };
        decision.push(Action::create(&account, None));
    }
    if view.config.root_ca.is_empty() {
        return decision;
    }
    let data: BTreeMap<_, _> = [("ca.crt".to_owned(), view.config.root_ca.clone())].into();
    match view.state.config_maps.get(&name(ROOT_CA)) {
        None => {
            let mut map = ConfigMap { metadata: meta(ROOT_CA), data: Some(data), ..Default::default() };
            let about = "Contains a CA bundle that can be used to verify the API server of this cluster.";
            map.metadata.annotations =
                Some([("kubernetes.io/description".to_owned(), about.to_owned())].into());
            decision.push(Action::create(&map, None));
        }
        Some(known) => {
            let mut right = (**known).clone();
            right.data = Some(data);
            decision.push(Action::update(&**known, &right, ""));
        }
    }
    decision
}

/// Looks at one namespace that is being deleted.
pub fn decide_end(view: &View<'_>, key: &ObjectName) -> Decision {
    let ending = view.state.namespaces.get(key).is_some_and(|namespace| {
        let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref());
        namespace.metadata.deletion_timestamp.is_some()
            && finalizers.is_some_and(|f| f.iter().any(|f| f == FINALIZER))
    });
    if !ending {
        return Decision::default();
    }
    vec![Action::EmptyNamespace { name: key.name.to_string() }].into()
}

/// Deletes everything in a namespace. When nothing is left, lets it go; until then it is [`Failure::NotYet`].
///
/// The order doesn't matter: each kind's collection is deleted, and what must wait (pods ending
/// gracefully, finalizers) is found again at the next look.
pub(crate) async fn empty(client: &Client, name: &str) -> Result<(), Failure> {
    let path = format!("/api/v1/namespaces/{name}");
    let live = match send(client, Method::GET, &path, "", None).await {
        Ok(text) => text,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    let mut live: Namespace = serde_json::from_str(&live).map_err(|e| Failure::Refused(e.to_string()))?;
    if live.metadata.deletion_timestamp.is_none() {
        return Ok(());
    }
    let kinds = deletable(client).await.map_err(refused)?;
    let counts = futures::stream::iter(kinds.into_iter().map(|kind| delete_all(client, name, kind)))
        .buffer_unordered(SIDE_BY_SIDE)
        .collect::<Vec<_>>()
        .await;
    let mut left = BTreeMap::new();
    for count in counts {
        let (kind, remaining) = count?;
        if !remaining.is_empty() {
            left.insert(kind, remaining);
        }
    }
    if !left.is_empty() {
        let message = describe(&left);
        tell(client, &live, &message, &left).await?;
        return Err(Failure::NotYet(message));
    }
    if let Some(finalizers) = live.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != FINALIZER);
    }
    let mut body = crate::action::to_value(&live);
    body["apiVersion"] = "v1".into();
    body["kind"] = "Namespace".into();
    match send(client, Method::PUT, &format!("{path}/finalize"), "application/json", Some(&body)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Err(Failure::Conflict(status.message.clone())),
        Err(error) => Err(refused(error)),
    }
}

/// All namespaced kinds whose objects can be listed and deleted.
async fn deletable(client: &Client) -> kube::Result<Vec<ApiResource>> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let kinds = discovery.groups().flat_map(|g| g.recommended_resources());
    Ok(kinds
        .filter(|(_, can)| {
            can.scope == Scope::Namespaced
                && can.supports_operation(verbs::LIST)
                && can.supports_operation(verbs::DELETE)
        })
        .map(|(kind, _)| kind)
        .collect())
}

/// Objects that remain of one kind, as (name, finalizers).
type Remaining = Vec<(String, Vec<String>)>;

async fn delete_all(
    client: &Client,
    namespace: &str,
    kind: ApiResource,
) -> Result<(String, Remaining), Failure> {
    let path = collection(namespace, &kind);
    let found = list(client, &path).await?;
    let full_name =
        if kind.group.is_empty() { kind.plural.clone() } else { format!("{}.{}", kind.plural, kind.group) };
    if found.is_empty() {
        return Ok((full_name, found));
    }
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
    match send(client, Method::DELETE, &path, "application/json", Some(&options)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => {
            for (name, _) in &found {
                let object = format!("{path}/{name}");
                match send(client, Method::DELETE, &object, "application/json", Some(&options)).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(refused(error)),
                }
            }
        }
        Err(error) => return Err(refused(error)),
    }
    Ok((full_name, list(client, &path).await?))
}

fn collection(namespace: &str, kind: &ApiResource) -> String {
    let root = if kind.group.is_empty() { "/api" } else { "/apis" };
    format!("{root}/{}/namespaces/{namespace}/{}", kind.api_version, kind.plural)
}

async fn list(client: &Client, path: &str) -> Result<Remaining, Failure> {
    let text = match send(client, Method::GET, &format!("{path}?limit=500"), "", None).await {
        Ok(text) => text,
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => return Ok(Vec::new()),
        Err(error) => return Err(refused(error)),
    };
    let list: Value = serde_json::from_str(&text).map_err(|e| Failure::Refused(e.to_string()))?;
    let of = |item: &Value| {
        let finalizers = item["metadata"]["finalizers"].as_array().into_iter().flatten();
        let finalizers = finalizers.filter_map(|f| f.as_str().map(str::to_owned)).collect();
        (item["metadata"]["name"].as_str().unwrap_or_default().to_owned(), finalizers)
    };
    Ok(list["items"].as_array().into_iter().flatten().map(of).collect())
}

fn describe(left: &BTreeMap<String, Remaining>) -> String {
    let kinds: Vec<_> =
        left.iter().map(|(kind, r)| format!("{kind} has {} resource instances", r.len())).collect();
    format!("Some resources are remaining: {}", kinds.join(", "))
}

/// Writes the conditions that say what keeps the namespace.
async fn tell(
    client: &Client,
    live: &Namespace,
    message: &str,
    left: &BTreeMap<String, Remaining>,
) -> Result<(), Failure> {
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    for finalizer in left.values().flatten().flat_map(|(_, finalizers)| finalizers) {
        *holders.entry(finalizer).or_default() += 1;
    }
    let mut wanted = vec![("NamespaceContentRemaining", "SomeResourcesRemain", message.to_owned())];
    if !holders.is_empty() {
        let said: Vec<_> = holders.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect();
        let message = format!("Some content in the namespace has finalizers remaining: {}", said.join(", "));
        wanted.push(("NamespaceFinalizersRemaining", "SomeFinalizersRemain", message));
    }
    let known = live.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let is_said = wanted.iter().all(|(kind, _, message)| {
        known.iter().any(|c| c.type_ == *kind && c.message.as_ref() == Some(message))
    });
    if is_said {
        return Ok(());
    }
    let now = crate::action::to_value(&seconds(jiff::Timestamp::now()));
    let conditions: Vec<_> = wanted
        .into_iter()
        .map(|(kind, reason, message)| {
            json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now})
        })
        .collect();
    let path = format!("/api/v1/namespaces/{}/status", live.metadata.name.as_deref().unwrap_or_default());
    let patch = json!({"status": {"conditions": conditions}});
    match send(client, Method::PATCH, &path, "application/merge-patch+json", Some(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ControllersConfig;
    use crate::testing::{self, decide_at, words};

    const NAMESPACE: &str = "kind: Namespace\nmetadata: {name: shop}\nspec: {finalizers: [kubernetes]}\n";

    #[test]
    fn a_namespace_gets_its_account_and_certificate_and_keeps_them_right() {
        let config = ControllersConfig { root_ca: "PEM".into(), ..Default::default() };
        let state = testing::state(NAMESPACE);
        assert_eq!(
            words(&decide_at(&state, decide_setup, "/shop", 0, &config)),
            ["create ServiceAccount default", "create ConfigMap kube-root-ca.crt"]
        );
        let spoilt = format!(
            "{NAMESPACE}\n---\nkind: ServiceAccount\nmetadata: {{namespace: shop, name: default}}\n---\nkind: ConfigMap\nmetadata: {{namespace: shop, name: kube-root-ca.crt}}\ndata: {{ca.crt: X}}"
        );
        assert_eq!(
            words(&decide_at(&testing::state(&spoilt), decide_setup, "/shop", 0, &config)),
            [r#"update ConfigMap kube-root-ca.crt {"data":{"ca.crt":"PEM"}}"#]
        );
    }

    #[test]
    fn a_namespace_that_ends_is_emptied_until_its_finalizer_is_gone() {
        let ending = NAMESPACE.replace("name: shop", "name: shop, deletionTimestamp: '2026-01-01T00:00:00Z'");
        let state = testing::state(&ending);
        assert_eq!(words(&testing::decide(&state, decide_end, "/shop")), ["empty namespace shop"]);
        assert_eq!(words(&testing::decide(&state, decide_setup, "/shop")), Vec::<String>::new());
        let done = ending.replace("[kubernetes]", "[]");
        assert_eq!(
            words(&testing::decide(&testing::state(&done), decide_end, "/shop")),
            Vec::<String>::new()
        );
    }
}
