//! ClusterRoles that are made of others: their rules are those of all roles that their selectors match.
//!
//! It keeps a watch of its own: nothing else here looks at roles.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use serde_json::json;
use tracing::{debug, warn};

use crate::watching::watch;

const MANAGER: &str = "clusterrole-aggregation-controller";
const RETRY: Duration = Duration::from_secs(1);
/// Writes between two events: roles that gather each other in a circle must not keep us for ever.
const MOST_AT_ONCE: usize = 100;

type Roles = BTreeMap<String, ClusterRole>;

/// Aggregates for ever.
pub(crate) async fn run(client: Client) {
    let api: Api<ClusterRole> = Api::all(client);
    let mut events = pin!(watch(api.clone(), Config::default()));
    let (mut roles, mut listing) = (Roles::new(), None);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listing = Some(Roles::new()),
            Ok(Event::InitApply(role)) => put(listing.get_or_insert_default(), role),
            Ok(Event::InitDone) => roles = listing.take().unwrap_or_default(),
            Ok(Event::Apply(role)) => put(&mut roles, role),
            Ok(Event::Delete(role)) => {
                roles.remove(role.metadata.name.as_deref().unwrap_or_default());
            }
            Err(error) => debug!(%error, "watching cluster roles"),
        }
        if listing.is_none() {
            mend(&api, &mut roles).await;
        }
    }
}

fn put(roles: &mut Roles, mut role: ClusterRole) {
    role.metadata.managed_fields = None;
    roles.insert(role.metadata.name.clone().unwrap_or_default(), role);
}

/// Writes every role whose rules are not what its selectors say, and those that depend on it.
async fn mend(api: &Api<ClusterRole>, roles: &mut Roles) {
    for _ in 0..MOST_AT_ONCE {
        let Some((name, rules)) = decide(roles) else { return };
        let apply = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": rules,
        });
        match api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&apply)).await {
            Ok(role) => put(roles, role),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                roles.remove(&name);
            }
            Err(error) => {
                warn!(role = name, %error, "its rules could not be gathered, will try again");
                tokio::time::sleep(RETRY).await;
                return;
            }
        }
    }
}

/// The first role that has other rules than it should, and those it should have.
fn decide(roles: &Roles) -> Option<(String, Vec<PolicyRule>)> {
    roles.iter().find_map(|(name, role)| {
        let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_ref()?;
        let wanted = gather(roles, name, selectors);
        (wanted.as_slice() != role.rules.as_deref().unwrap_or_default()).then(|| (name.clone(), wanted))
    })
}

/// In the order of selectors and then of names, each rule once.
fn gather(roles: &Roles, own: &str, selectors: &[LabelSelector]) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let matching = roles.iter().filter(|(name, role)| *name != own && matches(selector, role));
        for rule in matching.flat_map(|(_, role)| role.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

fn matches(selector: &LabelSelector, role: &ClusterRole) -> bool {
    let labels = role.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|l| l.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| label(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|e| {
            let found = label(&e.key);
            let listed = |value: &String| e.values.iter().flatten().any(|v| v == value);
            match e.operator.as_str() {
                "In" => found.is_some_and(listed),
                "NotIn" => !found.is_some_and(listed),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(objects: serde_json::Value) -> Roles {
        let mut roles = Roles::new();
        for object in objects.as_array().unwrap() {
            put(&mut roles, serde_json::from_value(object.clone()).unwrap());
        }
        roles
    }

    #[test]
    fn rules_are_gathered_once_and_what_depends_on_them_follows() {
        let rule = |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
        let mut roles = roles(json!([
            {"metadata": {"name": "admin"}, "aggregationRule": {"clusterRoleSelectors": [
                {"matchLabels": {"to-admin": "true"}},
                {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]}]}},
            {"metadata": {"name": "edit", "labels": {"to-admin": "true"}}, "aggregationRule":
                {"clusterRoleSelectors": [{"matchLabels": {"to-edit": "true"}}]}, "rules": [rule("old")]},
            {"metadata": {"name": "pods", "labels": {"to-edit": "true", "tier": "b"}}, "rules": [rule("pods")]},
            {"metadata": {"name": "nodes", "labels": {"tier": "c"}}, "rules": [rule("nodes")]},
        ]));
        let mut written = Vec::new();
        while let Some((name, rules)) = decide(&roles) {
            roles.get_mut(&name).unwrap().rules = Some(rules.clone());
            written.push((name, serde_json::to_value(rules).unwrap()));
            assert!(written.len() < 9, "it comes to an end");
        }
        assert_eq!(written.last().unwrap(), &("admin".to_owned(), json!([rule("pods")])));
        assert_eq!(roles["edit"].rules, roles["pods"].rules);
    }
}
