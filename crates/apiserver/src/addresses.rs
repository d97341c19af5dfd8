//! What follows from Services: an IPAddress for each cluster IP, ServiceCIDRs that widen the pool, and the
//! Services that a cluster cannot do without, which come back when they are deleted.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::bootstrap;
use crate::error::ApiError;
use crate::http::request::Target;
use crate::http::route::App;
use crate::registry::object::{finalizers, is_being_deleted, parse, set_finalizers, text, time};
use crate::registry::services::ranges;
use crate::registry::{Call, DeleteOptions, Registry, storage};
use crate::schema::schema;
use crate::server::Config;
use crate::store::{Event, EventKind, StoreError};

const GROUP: &str = "networking.k8s.io";
const MANAGER: &str = "daymark-apiserver";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// Who made an IPAddress, and of which family it is.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// After a failure, and when nothing else makes it look.
const AGAIN: Duration = Duration::from_secs(10);

/// Follows Services and ServiceCIDRs until the server stops.
pub async fn run(app: Arc<App>, config: Config, shutdown: CancellationToken) {
    loop {
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return,
            outcome = follow(&app.registry, &config) => outcome,
        };
        if let Err(error) = outcome {
            tracing::debug!(error = error.message, "the addresses of Services are looked at again");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Puts everything right once, and then after each change.
async fn follow(registry: &Registry, config: &Config) -> Result<(), ApiError> {
    let store = &registry.store;
    let revision = store.revision();
    let mut services = store.watch(&prefix("", "services")?, revision).map_err(stored)?;
    let mut cidrs = store.watch(&prefix(GROUP, "servicecidrs")?, revision).map_err(stored)?;
    settle_cidrs(registry).await?;
    settle_addresses(registry).await?;
    loop {
        tokio::select! {
            batch = services.next() => {
                let events = batch.map_err(stored)?.events;
                let mut gone = false;
                for event in &events {
                    gone |= service_changed(registry, event).await?;
                }
                if gone {
                    bootstrap::run(registry, config).await?;
                    settle_cidrs(registry).await?;
                }
            }
            batch = cidrs.next() => {
                batch.map_err(stored)?;
                settle_cidrs(registry).await?;
            }
        }
    }
}

fn stored(error: StoreError) -> ApiError {
    ApiError::internal(error.to_string())
}

fn prefix(group: &str, plural: &str) -> Result<String, ApiError> {
    let known = schema().resource(group, "v1", plural);
    let resource = known.ok_or_else(|| ApiError::internal(format!("the schema has no {plural}")))?;
    Ok(storage::prefix(resource, ""))
}

fn target(plural: &str, name: &str, subresource: &str) -> Result<Target, ApiError> {
    let known = schema().resource(GROUP, "v1", plural).cloned();
    Ok(Target {
        resource: known.ok_or_else(|| ApiError::internal(format!("the schema has no {plural}")))?,
        namespace: String::new(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        rest: String::new(),
    })
}

fn call() -> Call {
    Call::new(MANAGER, jiff::Timestamp::now())
}

/// The cluster IPs of a Service.
fn addresses(service: &Value) -> Vec<String> {
    let list = service.pointer("/spec/clusterIPs").and_then(Value::as_array);
    let ips = list.into_iter().flatten().filter_map(Value::as_str);
    ips.filter(|ip| ip.parse::<std::net::IpAddr>().is_ok()).map(str::to_owned).collect()
}

/// Makes and removes the IPAddresses of a Service that changed. True if it is gone.
async fn service_changed(registry: &Registry, event: &Event) -> Result<bool, ApiError> {
    let before = event.previous.as_ref().map(|b| parse(b)).transpose()?;
    let gone = event.kind == EventKind::Deleted;
    let after = if gone { None } else { Some(parse(&event.object)?) };
    let held = after.as_ref().map(addresses).unwrap_or_default();
    for ip in before.as_ref().map(addresses).unwrap_or_default() {
        if !held.contains(&ip) {
            release(registry, &ip, before.as_ref()).await?;
        }
    }
    if let Some(service) = &after {
        for ip in &held {
            hold(registry, ip, service).await?;
        }
    }
    Ok(gone)
}

fn parent(service: &Value) -> Value {
    json!({
        "group": "", "resource": "services", "namespace": text(service, "/metadata/namespace"),
        "name": text(service, "/metadata/name"),
    })
}

fn is_of(address: &Value, service: &Value) -> bool {
    let parent = |field: &str| text(address, &format!("/spec/parentRef/{field}")).to_owned();
    parent("resource") == "services"
        && parent("name") == text(service, "/metadata/name")
        && parent("namespace") == text(service, "/metadata/namespace")
}

async fn hold(registry: &Registry, ip: &str, service: &Value) -> Result<(), ApiError> {
    let target = target("ipaddresses", ip, "")?;
    match registry.get(&target) {
        Ok(known) if is_of(&known, service) => return Ok(()),
        Ok(_) => release(registry, ip, None).await?,
        Err(_) => {}
    }
    let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
    let object = json!({
        "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": ip, "labels": {MANAGED_BY: ALLOCATOR, FAMILY: family}},
        "spec": {"parentRef": parent(service)},
    });
    match registry.create(&target, object, &[], &mut call()).await {
        Err(e) if e.reason != "AlreadyExists" => Err(e),
        _ => Ok(()),
    }
}

/// Removes the IPAddress of an address, if it is that of this Service.
async fn release(registry: &Registry, ip: &str, service: Option<&Value>) -> Result<(), ApiError> {
    let target = target("ipaddresses", ip, "")?;
    let Ok(known) = registry.get(&target) else { return Ok(()) };
    if service.is_some_and(|s| !is_of(&known, s)) {
        return Ok(());
    }
    match registry.delete(&target, &DeleteOptions::default(), &call()).await {
        Err(e) if e.reason != "NotFound" => Err(e),
        _ => Ok(()),
    }
}

/// Makes what Services lack, and removes what none of them has.
async fn settle_addresses(registry: &Registry) -> Result<(), ApiError> {
    let mut held = std::collections::BTreeSet::new();
    for stored in registry.store.all(&prefix("", "services")?) {
        let service = parse(&stored.bytes)?;
        for ip in addresses(&service) {
            hold(registry, &ip, &service).await?;
            held.insert(ip);
        }
    }
    for stored in registry.store.all(&prefix(GROUP, "ipaddresses")?) {
        let address = parse(&stored.bytes)?;
        let name = text(&address, "/metadata/name");
        let ours = address["metadata"]["labels"].get(MANAGED_BY).and_then(Value::as_str) == Some(ALLOCATOR);
        if ours && !held.contains(name) {
            release(registry, name, None).await?;
        }
    }
    Ok(())
}

/// The ranges of all ServiceCIDRs, and whether each is on its way out.
fn further_ranges(registry: &Registry) -> Result<Vec<(IpNet, bool)>, ApiError> {
    let mut all = Vec::new();
    for stored in registry.store.all(&prefix(GROUP, "servicecidrs")?) {
        all.extend(ranges(&parse(&stored.bytes)?));
    }
    Ok(all)
}

/// Gives every ServiceCIDR its finalizer and condition, and lets go those that are deleted and not in use.
async fn settle_cidrs(registry: &Registry) -> Result<(), ApiError> {
    registry.set_further_ranges(&further_ranges(registry)?);
    for stored in registry.store.all(&prefix(GROUP, "servicecidrs")?) {
        let cidr = parse(&stored.bytes)?;
        let name = text(&cidr, "/metadata/name").to_owned();
        let held = finalizers(&cidr).iter().any(|f| f == FINALIZER);
        if !is_being_deleted(&cidr) {
            if !held {
                let mut list = finalizers(&cidr);
                list.push(FINALIZER.into());
                change_finalizers(registry, &name, list).await?;
            }
            tell(registry, &name, "True", "", "Kubernetes Service CIDR is ready").await?;
            continue;
        }
        if ranges(&cidr).iter().any(|(net, _)| registry.is_range_needed(*net)) {
            let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            tell(registry, &name, "False", "Terminating", why).await?;
        } else if held {
            let list = finalizers(&cidr).into_iter().filter(|f| f != FINALIZER).collect();
            change_finalizers(registry, &name, list).await?;
        }
    }
    registry.set_further_ranges(&further_ranges(registry)?);
    Ok(())
}

async fn change_finalizers(registry: &Registry, name: &str, list: Vec<String>) -> Result<(), ApiError> {
    let target = target("servicecidrs", name, "")?;
    let Ok(mut cidr) = registry.get(&target) else { return Ok(()) };
    set_finalizers(&mut cidr, list);
    lenient(registry.update(&target, cidr, &[], &mut call()).await.map(drop))
}

/// Sets the condition Ready, if it is not so.
async fn tell(
    registry: &Registry,
    name: &str,
    is: &str,
    reason: &str,
    message: &str,
) -> Result<(), ApiError> {
    let target = target("servicecidrs", name, "status")?;
    let Ok(mut cidr) = registry.get(&target) else { return Ok(()) };
    let conditions =
        cidr.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_ready = |c: &Value| text(c, "/type") == "Ready";
    if conditions.iter().any(|c| is_ready(c) && text(c, "/status") == is && text(c, "/reason") == reason) {
        return Ok(());
    }
    let mut conditions: Vec<Value> = conditions.into_iter().filter(|c| !is_ready(c)).collect();
    conditions.push(json!({
        "type": "Ready", "status": is, "reason": reason, "message": message,
        "lastTransitionTime": time(jiff::Timestamp::now()),
    }));
    cidr["status"]["conditions"] = conditions.into();
    lenient(registry.update(&target, cidr, &[], &mut call()).await.map(drop))
}

/// Somebody else was faster: the event of that brings us back.
fn lenient(outcome: Result<(), ApiError>) -> Result<(), ApiError> {
    match outcome {
        Err(e) if matches!(e.reason, "Conflict" | "NotFound") => Ok(()),
        other => other,
    }
}
