//! Columns of Nodes, Namespaces, Events, configuration, access and storage.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    age,
    column::{AGE, Column, NAME, count, or_none, scalar},
    network::is_default,
};
use crate::kinds::value::{at, int, list, members, present, strings, text, truth};

pub const NODES: &[Column] = &[
    NAME,
    Column::string("Status", "Whether the node is ready and takes pods", |o, _| node_status(o).into()),
    Column::string("Roles", "Roles of the node, by its labels", |o, _| node_roles(o)),
    AGE,
    Column::string("Version", "Version of the node's agent", |o, _| {
        text(o, "status.nodeInfo.kubeletVersion").into()
    }),
    Column::string("Internal-IP", "Address on the nodes' network", |o, _| node_address(o, "InternalIP"))
        .wide(),
    Column::string("External-IP", "Address reachable from outside", |o, _| node_address(o, "ExternalIP"))
        .wide(),
    Column::string("OS-Image", "Operating system", |o, _| node_info(o, "osImage")).wide(),
    Column::string("Kernel-Version", "Version of the kernel", |o, _| {
        let arch = text(o, "status.nodeInfo.architecture");
        let kernel = node_info(o, "kernelVersion");
        if arch.is_empty() {
            kernel
        } else {
            format!("{} ({arch})", kernel.as_str().unwrap_or_default()).into()
        }
    })
    .wide(),
    Column::string("Container-Runtime", "What runs containers", |o, _| {
        node_info(o, "containerRuntimeVersion")
    })
    .wide(),
];

fn node_info(node: &Value, field: &str) -> Value {
    match text(node, &format!("status.nodeInfo.{field}")) {
        "" => age::UNKNOWN.into(),
        known => known.into(),
    }
}

fn node_status(node: &Value) -> String {
    let ready = list(node, "status.conditions").iter().find(|c| text(c, "type") == "Ready");
    let mut words = vec![match ready.map(|c| text(c, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if truth(node, "spec.unschedulable") {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn node_roles(node: &Value) -> Value {
    let roles: BTreeSet<&str> = members(node, "metadata.labels")
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    or_none(&roles.into_iter().collect::<Vec<_>>().join(","))
}

fn node_address(node: &Value, kind: &str) -> Value {
    let address = list(node, "status.addresses").iter().find(|a| text(a, "type") == kind);
    or_none(address.map_or("", |a| text(a, "address")))
}

pub const NAMESPACES: &[Column] = &[
    NAME,
    Column::string("Status", "Whether it is in use or on its way out", |o, _| text(o, "status.phase").into()),
    AGE,
];

pub const EVENTS: &[Column] = &[
    Column::string("Last Seen", "Time since it happened last", |o, now| last_seen(o, now).into()),
    Column::string("Type", "Normal or Warning", |o, _| text(o, "type").into()),
    Column::string("Reason", "What happened, in a word", |o, _| text(o, "reason").into()),
    Column::string("Object", "What it happened to", |o, _| {
        let about = about(o);
        let (kind, name) = (text(about, "kind").to_lowercase(), text(about, "name"));
        if name.is_empty() { kind.into() } else { format!("{kind}/{name}").into() }
    }),
    Column::string("Subobject", "Part of the object", |o, _| text(about(o), "fieldPath").into()).wide(),
    Column::string("Source", "Who tells", |o, _| source(o).into()).wide(),
    Column::string("Message", "What happened", |o, _| either(o, "message", "note").trim().into()),
    Column::string("First Seen", "Time since it happened first", |o, now| first_seen(o, now).into()).wide(),
    Column::string("Count", "How often it happened", |o, _| {
        let series = int(o, "series.count");
        let counted = int(o, "count").max(int(o, "deprecatedCount")).max(1);
        if present(o, "series") { series.into() } else { counted.into() }
    })
    .wide(),
    NAME.wide(),
];

/// A field of core Events, or its name in `events.k8s.io`.
fn either<'a>(event: &'a Value, core: &str, other: &str) -> &'a str {
    match text(event, core) {
        "" => text(event, other),
        found => found,
    }
}

fn about(event: &Value) -> &Value {
    at(event, "involvedObject").or_else(|| at(event, "regarding")).unwrap_or(&Value::Null)
}

fn first_seen(event: &Value, now: Timestamp) -> String {
    let fields = ["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"];
    let time = fields.iter().find_map(|field| at(event, field));
    time.map_or_else(|| age::UNKNOWN.to_owned(), |time| age::since(time, now))
}

fn last_seen(event: &Value, now: Timestamp) -> String {
    let fields = ["series.lastObservedTime", "lastTimestamp", "deprecatedLastTimestamp"];
    let time = fields.iter().find_map(|field| at(event, field));
    time.map_or_else(|| first_seen(event, now), |time| age::since(time, now))
}

fn source(event: &Value) -> String {
    let component = match either(event, "source.component", "deprecatedSource.component") {
        "" => either(event, "reportingComponent", "reportingController"),
        found => found,
    };
    match either(event, "source.host", "reportingInstance") {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    }
}

pub const CONFIG_MAPS: &[Column] =
    &[NAME, Column::string("Data", "Number of entries", |o, _| count(o, &["data", "binaryData"])), AGE];

pub const SECRETS: &[Column] = &[
    NAME,
    Column::string("Type", "What the secret is for", |o, _| text(o, "type").into()),
    Column::string("Data", "Number of entries", |o, _| count(o, &["data"])),
    AGE,
];

pub const SERVICE_ACCOUNTS: &[Column] = &[NAME, AGE];

pub const LEASES: &[Column] =
    &[NAME, Column::string("Holder", "Who holds it", |o, _| text(o, "spec.holderIdentity").into()), AGE];

pub const DISRUPTION_BUDGETS: &[Column] = &[
    NAME,
    Column::string("Min Available", "Pods that must stay available", |o, _| {
        scalar(o, "spec.minAvailable", "N/A")
    }),
    Column::string("Max Unavailable", "Pods that may be unavailable", |o, _| {
        scalar(o, "spec.maxUnavailable", "N/A")
    }),
    Column::integer("Allowed Disruptions", "Pods that may be disrupted now", |o, _| {
        int(o, "status.disruptionsAllowed").into()
    }),
    AGE,
];

pub const PRIORITY_CLASSES: &[Column] = &[
    NAME,
    Column::integer("Value", "Priority of pods of the class", |o, _| int(o, "value").into()),
    Column::boolean("Global-Default", "Whether pods without class get it", |o, _| {
        truth(o, "globalDefault").into()
    }),
    AGE,
    Column::string("PreemptionPolicy", "Whether such pods may push others out", |o, _| {
        text(o, "preemptionPolicy").into()
    }),
];

pub const ROLE_BINDINGS: &[Column] = &[
    NAME,
    Column::string("Role", "Role that is given", |o, _| {
        format!("{}/{}", text(o, "roleRef.kind"), text(o, "roleRef.name")).into()
    }),
    AGE,
    Column::string("Users", "Users who get it", |o, _| subjects(o, "User")).wide(),
    Column::string("Groups", "Groups that get it", |o, _| subjects(o, "Group")).wide(),
    Column::string("ServiceAccounts", "Service accounts that get it", |o, _| subjects(o, "ServiceAccount"))
        .wide(),
];

fn subjects(binding: &Value, kind: &str) -> Value {
    let names = list(binding, "subjects").iter().filter(|s| text(s, "kind") == kind).map(|s| match kind {
        "ServiceAccount" => format!("{}/{}", text(s, "namespace"), text(s, "name")),
        _ => text(s, "name").to_owned(),
    });
    names.collect::<Vec<_>>().join(", ").into()
}

pub const SIGNING_REQUESTS: &[Column] = &[
    NAME,
    AGE,
    Column::string("SignerName", "Who is asked to sign", |o, _| or_none(text(o, "spec.signerName"))),
    Column::string("Requestor", "Who asks", |o, _| text(o, "spec.username").into()),
    Column::string("RequestedDuration", "How long the certificate is to be valid", |o, _| {
        match at(o, "spec.expirationSeconds") {
            Some(seconds) => age::human(seconds.as_i64().unwrap_or_default()).into(),
            None => or_none(""),
        }
    }),
    Column::string("Condition", "What became of the request", |o, _| signing_condition(o).into()),
];

fn signing_condition(request: &Value) -> String {
    let has = |kind: &str| list(request, "status.conditions").iter().any(|c| text(c, "type") == kind);
    let mut words = vec![match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }];
    if has("Failed") {
        words.push("Failed");
    }
    if !text(request, "status.certificate").is_empty() {
        words.push("Issued");
    }
    words.join(",")
}

pub const STORAGE_CLASSES: &[Column] = &[
    Column::string("Name", "Name of the class", |o, _| {
        let name = text(o, "metadata.name");
        let default = is_default(o, "storageclass.kubernetes.io/is-default-class");
        if default { format!("{name} (default)").into() } else { name.into() }
    }),
    Column::string("Provisioner", "What makes volumes", |o, _| text(o, "provisioner").into()),
    Column::string("ReclaimPolicy", "What becomes of released volumes", |o, _| {
        scalar(o, "reclaimPolicy", "Delete")
    }),
    Column::string("VolumeBindingMode", "When volumes are bound", |o, _| {
        scalar(o, "volumeBindingMode", "Immediate")
    }),
    Column::string("AllowVolumeExpansion", "Whether volumes can grow", |o, _| {
        truth(o, "allowVolumeExpansion").into()
    }),
    AGE,
];

fn phase(obj: &Value) -> Value {
    if present(obj, "metadata.deletionTimestamp") {
        "Terminating".into()
    } else {
        text(obj, "status.phase").into()
    }
}

fn access_modes(obj: &Value, path: &str) -> Value {
    let modes = strings(obj, path).into_iter().map(|mode| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        other => other,
    });
    modes.collect::<Vec<_>>().join(",").into()
}

const ATTRIBUTES_CLASS: Column =
    Column::string("VolumeAttributesClass", "Class of the volume's attributes", |o, _| {
        scalar(o, "spec.volumeAttributesClassName", "<unset>")
    });
const STORAGE_CLASS: Column =
    Column::string("StorageClass", "Class of storage", |o, _| text(o, "spec.storageClassName").into());
const VOLUME_MODE: Column = Column::string("VolumeMode", "File system or block device", |o, _| {
    scalar(o, "spec.volumeMode", "<unset>")
})
.wide();

pub const VOLUMES: &[Column] = &[
    NAME,
    Column::string("Capacity", "Size of the volume", |o, _| scalar(o, "spec.capacity.storage", "0")),
    Column::string("Access Modes", "Who may mount it at once", |o, _| access_modes(o, "spec.accessModes")),
    Column::string("Reclaim Policy", "What becomes of it when released", |o, _| {
        text(o, "spec.persistentVolumeReclaimPolicy").into()
    }),
    Column::string("Status", "Whether it is bound", |o, _| phase(o)),
    Column::string("Claim", "Claim that it is bound to", |o, _| match at(o, "spec.claimRef") {
        Some(claim) => format!("{}/{}", text(claim, "namespace"), text(claim, "name")).into(),
        None => "".into(),
    }),
    STORAGE_CLASS,
    ATTRIBUTES_CLASS,
    Column::string("Reason", "Why it is in this state", |o, _| text(o, "status.reason").into()),
    AGE,
    VOLUME_MODE,
];

pub const CLAIMS: &[Column] = &[
    NAME,
    Column::string("Status", "Whether it is bound", |o, _| phase(o)),
    Column::string("Volume", "Volume that it is bound to", |o, _| text(o, "spec.volumeName").into()),
    Column::string("Capacity", "Size of the volume", |o, _| {
        let bound = !text(o, "spec.volumeName").is_empty();
        if bound { scalar(o, "status.capacity.storage", "0") } else { "".into() }
    }),
    Column::string("Access Modes", "Who may mount it at once", |o, _| {
        let bound = !text(o, "spec.volumeName").is_empty();
        if bound { access_modes(o, "status.accessModes") } else { "".into() }
    }),
    STORAGE_CLASS,
    ATTRIBUTES_CLASS,
    AGE,
    VOLUME_MODE,
];

pub const RUNTIME_CLASSES: &[Column] =
    &[NAME, Column::string("Handler", "Configuration of the runtime", |o, _| text(o, "handler").into()), AGE];

/// Configurations of admission webhooks.
pub const WEBHOOKS: &[Column] =
    &[NAME, Column::integer("Webhooks", "Number of webhooks", |o, _| list(o, "webhooks").len().into()), AGE];
