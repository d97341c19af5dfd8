//! Makes the node known: its Node object, the status, and the Lease that says it lives.

pub mod facts;
pub mod object;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use facts::Facts;
pub use object::Identity;

const RETRY: Duration = Duration::from_millis(200);

/// Registers and then keeps status and Lease fresh until told to stop. The Node is left as it is then:
/// its pods run on, and a node that really went is noticed by its Lease.
pub async fn run(
    client: kube::Client,
    id: Identity,
    state_dir: std::path::PathBuf,
    status_interval: Duration,
    stop: CancellationToken,
) {
    let work = async {
        let node = register(&client, &id, &state_dir).await;
        let uid = node.metadata.uid.clone();
        let leases = keep_lease(&client, &id, uid.as_deref());
        let statuses = keep_status(&client, &id, &state_dir, node.status, status_interval);
        tokio::join!(leases, statuses);
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Tries until the Node exists with its labels, range and first status.
async fn register(client: &kube::Client, id: &Identity, state_dir: &std::path::Path) -> Node {
    let mut told = false;
    loop {
        match try_register(client, id, state_dir).await {
            Ok(node) => {
                tracing::info!(node = id.name, "registered");
                return node;
            }
            Err(e) if told => tracing::debug!(node = id.name, "cannot register: {e}"),
            Err(e) => tracing::warn!(node = id.name, "cannot register yet: {e}"),
        }
        told = true;
        tokio::time::sleep(RETRY).await;
    }
}

async fn try_register(
    client: &kube::Client,
    id: &Identity,
    state_dir: &std::path::Path,
) -> kube::Result<Node> {
    let api: Api<Node> = Api::all(client.clone());
    let wanted = object::node(id);
    let known = match api.get_opt(&id.name).await? {
        None => api.create(&PostParams::default(), &wanted).await?,
        Some(known) => {
            let mut patch = json!({"metadata": {"labels": object::labels(id)}});
            if known.spec.as_ref().is_none_or(|s| s.pod_cidr.is_none()) {
                patch["spec"] = json!({"podCIDR": id.pod_cidrs.first(), "podCIDRs": id.pod_cidrs});
            }
            api.patch(&id.name, &PatchParams::default(), &Patch::Merge(&patch)).await?
        }
    };
    let status = object::status(id, &Facts::read(state_dir), known.status.as_ref(), Timestamp::now());
    write_status(&api, id, &status).await
}

async fn write_status(api: &Api<Node>, id: &Identity, status: &NodeStatus) -> kube::Result<Node> {
    let patch = Patch::Strategic(status_patch(status));
    api.patch_status(&id.name, &PatchParams::default(), &patch).await
}

/// Addresses merge by their type, of which a node of both families has one twice: so they are replaced, as
/// kubelet does.
fn status_patch(status: &NodeStatus) -> serde_json::Value {
    let mut patch = json!({"status": status});
    if let Some(addresses) = patch["status"]["addresses"].as_array_mut() {
        addresses.insert(0, json!({"$patch": "replace"}));
    }
    patch
}

async fn keep_status(
    client: &kube::Client,
    id: &Identity,
    state_dir: &std::path::Path,
    mut known: Option<NodeStatus>,
    interval: Duration,
) {
    let api: Api<Node> = Api::all(client.clone());
    loop {
        tokio::time::sleep(interval).await;
        let facts = Facts::read(state_dir);
        let status = object::status(id, &facts, known.as_ref(), Timestamp::now());
        match write_status(&api, id, &status).await {
            Ok(node) => known = node.status,
            // Someone deleted the Node: it registers anew, as kubelet does.
            Err(kube::Error::Api(s)) if s.code == 404 => {
                known = register(client, id, state_dir).await.status;
            }
            Err(e) => tracing::debug!(node = id.name, "cannot write the node's status: {e}"),
        }
    }
}

async fn keep_lease(client: &kube::Client, id: &Identity, node_uid: Option<&str>) {
    let api: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    loop {
        let renewed = tokio::time::timeout(id.lease_interval * 2, renew(&api, id, node_uid)).await;
        match renewed {
            Ok(Ok(())) => tokio::time::sleep(id.lease_interval).await,
            Ok(Err(e)) => {
                tracing::debug!(node = id.name, "cannot renew the lease: {e}");
                tokio::time::sleep(RETRY).await;
            }
            Err(_) => tracing::debug!(node = id.name, "renewing the lease takes too long"),
        }
    }
}

async fn renew(api: &Api<Lease>, id: &Identity, node_uid: Option<&str>) -> kube::Result<()> {
    let lease = object::lease(id, node_uid, Timestamp::now());
    let patch = Patch::Merge(json!({"spec": lease.spec}));
    match api.patch(&id.name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(s)) if s.code == 404 => {
            api.create(&PostParams::default(), &lease).await.map(|_| ())
        }
        Err(e) => Err(e),
    }
}
