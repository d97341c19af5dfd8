//! What every namespace must have, and how one ends.

use std::collections::BTreeMap;

use daymark_model::ObjectName;
use futures::StreamExt;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, NamespaceCondition, ServiceAccount};
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
/// Pods go first, so that they end with all that they read still there. Of the rest the order doesn't matter: each
/// kind's collection is deleted, and what must wait (pods ending gracefully, finalizers) is found again at the next look.
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
    let (pods, others): (Vec<_>, Vec<_>) =
        kinds.into_iter().partition(|kind| kind.group.is_empty() && kind.plural == "pods");
    let mut left = delete_kinds(client, name, pods).await?;
    if left.is_empty() {
        left = delete_kinds(client, name, others).await?;
    }
    if !left.is_empty() {
        tell(client, &live, &left).await?;
        return Err(Failure::NotYet(describe(&left)));
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

/// Deletes all objects of these kinds; answers what remains.
async fn delete_kinds(client: &Client, name: &str, kinds: Vec<ApiResource>) -> Result<Left, Failure> {
    let counts = futures::stream::iter(kinds.into_iter().map(|kind| delete_all(client, name, kind)))
        .buffer_unordered(SIDE_BY_SIDE)
        .collect::<Vec<_>>()
        .await;
    let counts = counts.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(counts.into_iter().filter(|(_, remaining)| !remaining.is_empty()).collect())
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

/// What remains of a namespace, by kind.
type Left = BTreeMap<String, Remaining>;

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

fn describe(left: &Left) -> String {
    let kinds: Vec<_> =
        left.iter().map(|(kind, r)| format!("{kind} has {} resource instances", r.len())).collect();
    format!("Some resources are remaining: {}", kinds.join(", "))
}

/// The conditions of a namespace that something keeps: all five that Kubernetes has, as it words them.
fn conditions(left: &Left, known: &[NamespaceCondition], now: Timestamp) -> Vec<NamespaceCondition> {
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    for finalizer in left.values().flatten().flat_map(|(_, finalizers)| finalizers) {
        *holders.entry(finalizer).or_default() += 1;
    }
    let held: Vec<_> = holders.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect();
    let held = match held.is_empty() {
        true => (false, "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned()),
        false => {
            let message =
                format!("Some content in the namespace has finalizers remaining: {}", held.join(", "));
            (true, "SomeFinalizersRemain", message)
        }
    };
    let fine = |reason, message: &str| (false, reason, message.to_owned());
    let deleted = "All content successfully deleted, may be waiting on finalization";
    let wanted = [
        (
            "NamespaceDeletionDiscoveryFailure",
            fine("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            fine("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        ("NamespaceDeletionContentFailure", fine("ContentDeleted", deleted)),
        ("NamespaceContentRemaining", (true, "SomeResourcesRemain", describe(left))),
        ("NamespaceFinalizersRemaining", held),
    ];
    let condition = |(kind, (is, reason, message)): (&str, (bool, &str, String))| {
        let status = if is { "True" } else { "False" };
        let same = known.iter().find(|c| c.type_ == kind && c.status == status);
        NamespaceCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(seconds(now))),
        }
    };
    wanted.into_iter().map(condition).collect()
}

/// Writes the conditions that say what keeps the namespace.
async fn tell(client: &Client, live: &Namespace, left: &Left) -> Result<(), Failure> {
    let known = live.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let conditions = conditions(left, &known, Timestamp::now());
    if conditions == known {
        return Ok(());
    }
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

    #[test]
    fn what_keeps_a_namespace_is_told_once() {
        let left: Left = [(
            "pods".to_owned(),
            vec![("a".to_owned(), vec!["x.example/y".to_owned()]), ("b".into(), vec![])],
        )]
        .into();
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let first = conditions(&left, &[], at("2026-01-01T00:00:00Z"));
        let said: Vec<_> = first
            .iter()
            .map(|c| format!("{} {} {}", c.type_, c.status, c.message.as_deref().unwrap_or_default()))
            .collect();
        assert_eq!(
            said,
            [
                "NamespaceDeletionDiscoveryFailure False All resources successfully discovered",
                "NamespaceDeletionGroupVersionParsingFailure False All legacy kube types successfully parsed",
                "NamespaceDeletionContentFailure False All content successfully deleted, may be waiting on finalization",
                "NamespaceContentRemaining True Some resources are remaining: pods has 2 resource instances",
                "NamespaceFinalizersRemaining True Some content in the namespace has finalizers remaining: x.example/y in 1 resource instances",
            ]
        );
        assert_eq!(conditions(&left, &first, at("2026-01-01T00:00:09Z")), first);
    }
}
