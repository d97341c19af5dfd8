//! Keeps what is served in step with the definitions: accepts names, establishes, cleans up after deletion.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Served, names};
use crate::error::ApiError;
use crate::http::body::PatchKind;
use crate::http::request::Target;
use crate::http::route::App;
use crate::kinds::value::text;
use crate::registry::update::Patch;
use crate::registry::{Call, DeleteOptions, Registry, object, storage};
use crate::schema::{Resource, schema};

const MANAGER: &str = "kube-apiserver";
/// How often instances that wait for their finalizers are looked at again.
const RETRY: Duration = Duration::from_millis(500);
/// Instances deleted between two looks at the definitions.
const BATCH: usize = 500;
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Follows the definitions until the server stops.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let Some(resource) = definitions_resource() else { return };
    let prefix = storage::prefix(resource, "");
    let mut seen = app.registry.store.revision();
    loop {
        let again = match step(&app.registry, resource).await {
            Ok(again) => again,
            Err(e) => {
                tracing::warn!("a CustomResourceDefinition could not be brought up to date: {}", e.message);
                true
            }
        };
        let changed = async {
            let Ok(mut watcher) = app.registry.store.watch(&prefix, seen) else { return None };
            loop {
                match watcher.next().await {
                    Ok(batch) if batch.events.is_empty() => {}
                    Ok(batch) => return Some(batch.revision),
                    Err(_) => return None,
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY), if again => {}
            revision = changed => seen = revision.unwrap_or_else(|| app.registry.store.revision()),
        }
    }
}

fn definitions_resource() -> Option<&'static Arc<Resource>> {
    schema().resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
}

/// Serves what is established in the store; for the start.
pub fn load(registry: &Registry) -> Result<(), ApiError> {
    if let Some(resource) = definitions_resource() {
        registry.catalog.replace(Served::with(&definitions(registry, resource)?));
    }
    Ok(())
}

fn definitions(registry: &Registry, resource: &Resource) -> Result<Vec<Value>, ApiError> {
    let stored = registry.store.all(&storage::prefix(resource, ""));
    let mut found: Vec<Value> = stored.iter().map(|o| object::parse(&o.bytes)).collect::<Result<_, _>>()?;
    // Names go to who came first.
    found.sort_by_key(|definition| text(definition, "metadata.creationTimestamp").to_owned());
    Ok(found)
}

/// Brings everything up to date; true if it should be tried again though nothing changes.
async fn step(registry: &Registry, resource: &Arc<Resource>) -> Result<bool, ApiError> {
    let mut found = definitions(registry, resource)?;
    let now = object::time(jiff::Timestamp::now());
    let mut changed = Vec::new();
    for at in 0..found.len() {
        let others: Vec<&Value> =
            found.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, o)| o).collect();
        if let Some(status) = names::next_status(&found[at], &others, &now) {
            found[at]["status"] = status;
            changed.push(at);
        }
    }
    // Served before it is told, so that who waits for the condition finds it true.
    registry.catalog.replace(Served::with(&found));
    for at in changed {
        write(registry, resource, found[at].clone(), "status").await?;
    }
    let mut again = false;
    for definition in found.iter().filter(|d| object::is_being_deleted(d)) {
        if object::finalizers(definition).iter().any(|finalizer| finalizer == CLEANUP) {
            again |= !clean_up(registry, resource, definition).await?;
        }
    }
    Ok(again)
}

async fn write(
    registry: &Registry,
    resource: &Arc<Resource>,
    definition: Value,
    subresource: &str,
) -> Result<(), ApiError> {
    let target = Target {
        resource: resource.clone(),
        namespace: String::new(),
        name: text(&definition, "metadata.name").to_owned(),
        subresource: subresource.to_owned(),
        rest: String::new(),
    };
    let mut call = Call::new(MANAGER, jiff::Timestamp::now());
    match registry.update(&target, definition, &[], &mut call).await {
        // Somebody else was faster; the change will be seen.
        Err(e) if matches!(e.reason, "NotFound" | "Conflict") => Ok(()),
        other => other.map(drop),
    }
}

/// Deletes the instances of a definition; true once there are none and it was let go.
async fn clean_up(
    registry: &Registry,
    resource: &Arc<Resource>,
    definition: &Value,
) -> Result<bool, ApiError> {
    let name = text(definition, "metadata.name");
    let served = registry.catalog.now();
    let of_it = |r: &&Arc<Resource>| r.custom.as_ref().is_some_and(|custom| custom.definition == name);
    if let Some(instances) = served.resources().iter().find(of_it) {
        let left = registry.store.all(&storage::prefix(instances, ""));
        for stored in left.iter().take(BATCH) {
            delete(registry, instances, &object::parse(&stored.bytes)?).await?;
        }
        if !registry.store.all(&storage::prefix(instances, "")).is_empty() {
            return Ok(false);
        }
    }
    let target = Target {
        resource: resource.clone(),
        namespace: String::new(),
        name: name.to_owned(),
        subresource: String::new(),
        rest: String::new(),
    };
    let finalizers = object::finalizers(definition);
    let kept: Vec<String> = finalizers.into_iter().filter(|finalizer| finalizer != CLEANUP).collect();
    let body = json!({"metadata": {"uid": definition["metadata"]["uid"], "finalizers": kept}});
    let patch = Patch { kind: PatchKind::Merge, body: body.to_string().into(), force: false };
    let mut call = Call::new(MANAGER, jiff::Timestamp::now());
    match registry.patch(&target, &patch, &mut call).await {
        // Who deleted and made it again in between is right.
        Err(e) if !matches!(e.reason, "NotFound" | "Conflict") => Err(e),
        _ => Ok(true),
    }
}

async fn delete(registry: &Registry, resource: &Arc<Resource>, instance: &Value) -> Result<(), ApiError> {
    let target = Target {
        resource: resource.clone(),
        namespace: text(instance, "metadata.namespace").to_owned(),
        name: text(instance, "metadata.name").to_owned(),
        subresource: String::new(),
        rest: String::new(),
    };
    let call = Call::new(MANAGER, jiff::Timestamp::now());
    match registry.delete(&target, &DeleteOptions::default(), &call).await {
        Err(e) if e.reason != "NotFound" => Err(e),
        _ => Ok(()),
    }
}
