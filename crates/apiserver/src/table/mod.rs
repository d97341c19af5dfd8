//! `metav1.Table`: the columns that `kubectl get` prints, with the cells that Kubernetes' printers make.

mod age;
mod cluster;
mod column;
mod custom;
mod network;
mod pods;
mod resources;
#[cfg(test)]
mod tests;
mod workloads;

use serde_json::{Map, Value, json};

use self::column::{AGE_AS_DATE, CREATED_AT, Column, NAME};
pub use self::custom::CREATION_TIMESTAMP;
use crate::{kinds, schema::Resource};

/// What a row carries beside its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Include {
    None,
    /// A `PartialObjectMetadata`; the default.
    #[default]
    Metadata,
    Object,
}

const DEFAULT: &[Column] = &[NAME, CREATED_AT];
const CUSTOM: &[Column] = &[NAME, AGE_AS_DATE];

const RBAC: &str = "rbac.authorization.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

const TABLES: &[(&str, &str, &[Column])] = &[
    ("", "Pod", pods::PODS),
    ("", "Service", network::SERVICES),
    ("", "Endpoints", network::ENDPOINTS),
    ("", "Node", cluster::NODES),
    ("", "Namespace", cluster::NAMESPACES),
    ("", "Event", cluster::EVENTS),
    ("events.k8s.io", "Event", cluster::EVENTS),
    ("", "ConfigMap", cluster::CONFIG_MAPS),
    ("", "Secret", cluster::SECRETS),
    ("", "ServiceAccount", cluster::SERVICE_ACCOUNTS),
    ("", "ReplicationController", workloads::REPLICATION_CONTROLLERS),
    ("", "PodTemplate", workloads::POD_TEMPLATES),
    ("", "PersistentVolume", cluster::VOLUMES),
    ("", "PersistentVolumeClaim", cluster::CLAIMS),
    ("apps", "Deployment", workloads::DEPLOYMENTS),
    ("apps", "ReplicaSet", workloads::REPLICA_SETS),
    ("apps", "StatefulSet", workloads::STATEFUL_SETS),
    ("apps", "DaemonSet", workloads::DAEMON_SETS),
    ("apps", "ControllerRevision", workloads::REVISIONS),
    ("batch", "Job", workloads::JOBS),
    ("batch", "CronJob", workloads::CRON_JOBS),
    ("autoscaling", "HorizontalPodAutoscaler", resources::AUTOSCALERS),
    ("coordination.k8s.io", "Lease", cluster::LEASES),
    ("discovery.k8s.io", "EndpointSlice", network::ENDPOINT_SLICES),
    (NETWORKING, "Ingress", network::INGRESSES),
    (NETWORKING, "IngressClass", network::INGRESS_CLASSES),
    (NETWORKING, "NetworkPolicy", network::NETWORK_POLICIES),
    (NETWORKING, "ServiceCIDR", network::SERVICE_CIDRS),
    (NETWORKING, "IPAddress", network::IP_ADDRESSES),
    ("policy", "PodDisruptionBudget", cluster::DISRUPTION_BUDGETS),
    (RBAC, "RoleBinding", cluster::ROLE_BINDINGS),
    (RBAC, "ClusterRoleBinding", cluster::ROLE_BINDINGS),
    ("scheduling.k8s.io", "PriorityClass", cluster::PRIORITY_CLASSES),
    ("", "ResourceQuota", resources::QUOTAS),
    (STORAGE, "CSIDriver", resources::CSI_DRIVERS),
    (STORAGE, "CSINode", resources::CSI_NODES),
    (STORAGE, "StorageClass", cluster::STORAGE_CLASSES),
    (STORAGE, "VolumeAttachment", resources::ATTACHMENTS),
    (STORAGE, "VolumeAttributesClass", resources::ATTRIBUTES_CLASSES),
    ("certificates.k8s.io", "CertificateSigningRequest", cluster::SIGNING_REQUESTS),
    ("node.k8s.io", "RuntimeClass", cluster::RUNTIME_CLASSES),
    ("apiregistration.k8s.io", "APIService", network::API_SERVICES),
    (ADMISSION, "MutatingWebhookConfiguration", cluster::WEBHOOKS),
    (ADMISSION, "ValidatingWebhookConfiguration", cluster::WEBHOOKS),
];

fn columns_of(res: &Resource) -> &'static [Column] {
    let own = TABLES.iter().find(|(group, kind, _)| *group == res.group && *kind == res.kind);
    match own {
        Some((_, _, columns)) => columns,
        None if kinds::is_built_in(res.group) => DEFAULT,
        None => CUSTOM,
    }
}

/// The `columnDefinitions` of a kind.
pub fn columns(res: &Resource) -> Value {
    columns_of(res).iter().map(Column::definition).collect()
}

/// A `Table` of `items` as of `now`; `list_meta` (`resourceVersion`, `continue`, …) becomes its `metadata`.
pub fn render(
    res: &Resource,
    items: &[&Value],
    list_meta: Value,
    include: Include,
    now: jiff::Timestamp,
) -> Value {
    if let Some(custom) = &res.custom {
        return custom::render(custom, items, list_meta, include, now);
    }
    let columns = columns_of(res);
    let rows: Vec<Value> = items.iter().map(|item| row(res, columns, item, include, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta,
        "columnDefinitions": columns.iter().map(Column::definition).collect::<Vec<_>>(),
        "rows": rows,
    })
}

fn row(res: &Resource, columns: &[Column], item: &Value, include: Include, now: jiff::Timestamp) -> Value {
    let mut row = Map::new();
    let cells: Vec<Value> = columns.iter().map(|column| (column.cell)(item, now)).collect();
    row.insert("cells".to_owned(), cells.into());
    if let Some(conditions) = pods::conditions(item).filter(|_| (res.group, res.kind) == ("", "Pod")) {
        row.insert("conditions".to_owned(), conditions);
    }
    row.insert("object".to_owned(), included(item, include));
    row.into()
}

/// What a row carries of its object.
fn included(item: &Value, include: Include) -> Value {
    match include {
        Include::None => Value::Null,
        Include::Object => item.clone(),
        Include::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": item["metadata"],
        }),
    }
}
