//! Keeps the status of ResourceQuotas: what is allowed and what is used.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::amounts::Amounts;
use super::usage;
use crate::error::ApiError;
use crate::http::request::Target;
use crate::http::route::App;
use crate::registry::object::{is_being_deleted, text};
use crate::registry::{Call, Registry, storage};
use crate::schema::quantity::Quantity;
use crate::schema::{Resource, schema};

/// Who writes the status elsewhere.
const MANAGER: &str = "kube-controller-manager";
/// Changes that come together are counted together.
const PAUSE: Duration = Duration::from_millis(25);
/// Pods that are overdue to be gone stop counting though nothing changes.
const AGAIN: Duration = Duration::from_secs(10);

/// Follows quotas, and what they count, until the server stops.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let Some(quotas) = schema().resource("", "v1", "resourcequotas") else { return };
    let registry = &app.registry;
    loop {
        // Read before anything is counted: what comes in between is counted again.
        let seen = registry.store.revision();
        let followed = match step(registry, quotas).await {
            Ok(followed) => followed,
            Err(why) => {
                tracing::warn!("the use of ResourceQuotas could not be counted: {}", why.message);
                BTreeSet::new()
            }
        };
        let any = !followed.is_empty();
        let changed = change(registry, seen, followed.into_iter().chain([storage::prefix(quotas, "")]));
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(AGAIN), if any => {}
            () = changed => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Returns when something under one of the prefixes was written after `seen`.
async fn change(registry: &Registry, seen: u64, prefixes: impl Iterator<Item = String>) {
    let mut watchers = Vec::new();
    for prefix in prefixes {
        // What is too old to be watched has changed.
        let Ok(watcher) = registry.store.watch(&prefix, seen) else { return };
        watchers.push(watcher);
    }
    let next = watchers.iter_mut().map(|watcher| Box::pin(async move { drop(watcher.next().await) }));
    select_all(next).await;
}

/// Counts for every quota; answers the prefixes of what they count.
async fn step(registry: &Registry, quotas: &Arc<Resource>) -> Result<BTreeSet<String>, ApiError> {
    let mut followed = BTreeSet::new();
    for quota in registry.objects("", "resourcequotas", "")? {
        let namespace = text(&quota, "/metadata/namespace").to_owned();
        let status = status(registry, &quota, &namespace, &mut followed)?;
        if quota["status"] == status || is_being_deleted(&quota) {
            continue;
        }
        let target = Target {
            resource: quotas.clone(),
            namespace,
            name: text(&quota, "/metadata/name").to_owned(),
            subresource: "status".to_owned(),
            rest: String::new(),
        };
        let mut changed = quota;
        changed["status"] = status;
        let mut call = Call::new(MANAGER, Timestamp::now());
        match registry.update(&target, changed, &[], &mut call).await {
            // Somebody else was faster; the change will be seen.
            Err(why) if !matches!(why.reason, "NotFound" | "Conflict") => return Err(why),
            _ => {}
        }
    }
    Ok(followed)
}

fn status(
    registry: &Registry,
    quota: &Value,
    namespace: &str,
    followed: &mut BTreeSet<String>,
) -> Result<Value, ApiError> {
    let hard = Amounts::read(quota.pointer("/spec/hard"));
    let mut used = Amounts::default();
    for resource in registry.catalog.now().resources().iter().filter(|resource| resource.namespaced) {
        let own = hard.only(|name| usage::concerns(resource, name));
        let prefix = storage::prefix(resource, namespace);
        if own.is_empty() || used.names().any(|name| own.get(name).is_some()) {
            // The second is another version of the same.
            continue;
        }
        for name in own.names() {
            used.set(name, Quantity::ZERO);
        }
        used.add(&registry.used(quota, resource, namespace, &own, Timestamp::now())?);
        followed.insert(prefix);
    }
    Ok(json!({"hard": hard.to_value(), "used": used.to_value()}))
}
