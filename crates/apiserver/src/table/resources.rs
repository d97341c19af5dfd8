//! Columns of quotas, autoscalers and storage drivers.

use serde_json::Value;

use super::column::{AGE, Column, NAME, or_none, scalar};
use crate::kinds::value::{at, int, list, members, strings, text, truth};

/// `used/hard` of the resources whose names begin with `limits.`, or of the others.
fn usage(quota: &Value, limits: bool) -> Value {
    let mut hard: Vec<(&String, &Value)> =
        members(quota, "status.hard").filter(|(name, _)| name.starts_with("limits.") == limits).collect();
    hard.sort_by_key(|(name, _)| name.as_str());
    let one = |(name, hard): &(&String, &Value)| {
        let used = quota["status"]["used"][name.as_str()].as_str().unwrap_or("0");
        format!("{name}: {used}/{}", hard.as_str().unwrap_or_default())
    };
    hard.iter().map(one).collect::<Vec<_>>().join(", ").into()
}

pub const QUOTAS: &[Column] = &[
    NAME,
    Column::string("Request", "What is used of the bounds on requests and counts", |o, _| usage(o, false)),
    Column::string("Limit", "What is used of the bounds on limits", |o, _| usage(o, true)),
    AGE,
];

pub const AUTOSCALERS: &[Column] = &[
    NAME,
    Column::string("Reference", "What is scaled", |o, _| {
        format!("{}/{}", text(o, "spec.scaleTargetRef.kind"), text(o, "spec.scaleTargetRef.name")).into()
    }),
    Column::string("Targets", "Metrics to keep to", |o, _| targets(o).into()),
    Column::string("MinPods", "Least pods", |o, _| scalar(o, "spec.minReplicas", "<unset>")),
    Column::string("MaxPods", "Most pods", |o, _| int(o, "spec.maxReplicas").into()),
    Column::string("Replicas", "Pods there are", |o, _| int(o, "status.currentReplicas").into()),
    AGE,
];

fn targets(scaler: &Value) -> String {
    const SHOWN: usize = 2;
    let current = list(scaler, "status.currentMetrics");
    let old_style = at(scaler, "spec.targetCPUUtilizationPercentage").and_then(Value::as_i64);
    let mut shown: Vec<String> = list(scaler, "spec.metrics")
        .iter()
        .enumerate()
        .map(|(at, metric)| target(metric, current.get(at).unwrap_or(&Value::Null)))
        .collect();
    if let Some(wanted) = old_style {
        let now = at(scaler, "status.currentCPUUtilizationPercentage").and_then(Value::as_i64);
        let now = now.map_or_else(|| "<unknown>".to_owned(), |now| format!("{now}%"));
        shown.push(format!("cpu: {now}/{wanted}%"));
    }
    match shown.len() {
        0 => "<none>".to_owned(),
        count if count > SHOWN => format!("{} + {} more...", shown[..SHOWN].join(", "), count - SHOWN),
        _ => shown.join(", "),
    }
}

fn target(metric: &Value, status: &Value) -> String {
    let kind = text(metric, "type");
    let mut field = kind.to_owned();
    if let Some(first) = field.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let (wanted, now) = (&metric[field.as_str()], &status[field.as_str()]["current"]);
    let value = |of: &Value, field: &str| of[field].as_str().map(str::to_owned);
    let percent = |of: &Value| of["averageUtilization"].as_i64().map(|number| format!("{number}%"));
    let unknown = || "<unknown>".to_owned();
    let average = value(&wanted["target"], "averageValue");
    match (kind, average) {
        ("Resource" | "ContainerResource", Some(average)) => {
            let now = value(now, "averageValue").unwrap_or_else(unknown);
            format!("{}: {now}/{average}", text(wanted, "name"))
        }
        ("Resource" | "ContainerResource", None) => {
            let now = percent(now).unwrap_or_else(unknown);
            let wanted_percent = percent(&wanted["target"]).unwrap_or_else(|| "<auto>".to_owned());
            format!("{}: {now}/{wanted_percent}", text(wanted, "name"))
        }
        ("Pods", average) => {
            let now = value(now, "averageValue").unwrap_or_else(unknown);
            format!("{now}/{}", average.unwrap_or_default())
        }
        ("External" | "Object", Some(average)) => {
            format!("{}/{average} (avg)", value(now, "averageValue").unwrap_or_else(unknown))
        }
        ("External" | "Object", None) => {
            let wanted = value(&wanted["target"], "value").unwrap_or_default();
            format!("{}/{wanted}", value(now, "value").unwrap_or_else(unknown))
        }
        _ => "<unknown type>".to_owned(),
    }
}

pub const CSI_DRIVERS: &[Column] = &[
    NAME,
    Column::boolean("AttachRequired", "Whether volumes must be attached", |o, _| {
        at(o, "spec.attachRequired").and_then(Value::as_bool).unwrap_or(true).into()
    }),
    Column::boolean("PodInfoOnMount", "Whether it is told of the pod", |o, _| {
        truth(o, "spec.podInfoOnMount").into()
    }),
    Column::boolean("StorageCapacity", "Whether it tells its capacity", |o, _| {
        truth(o, "spec.storageCapacity").into()
    }),
    Column::string("TokenRequests", "Audiences of tokens that it wants", |o, _| {
        match at(o, "spec.tokenRequests") {
            None => "<unset>".into(),
            Some(_) => {
                let requests = list(o, "spec.tokenRequests");
                requests.iter().map(|r| text(r, "audience")).collect::<Vec<_>>().join(",").into()
            }
        }
    }),
    Column::boolean("RequiresRepublish", "Whether it is called again and again", |o, _| {
        truth(o, "spec.requiresRepublish").into()
    }),
    Column::string("Modes", "Lives that its volumes can have", |o, _| {
        or_none(&strings(o, "spec.volumeLifecycleModes").join(","))
    }),
    AGE,
];

pub const CSI_NODES: &[Column] = &[
    NAME,
    Column::integer("Drivers", "Number of drivers on the node", |o, _| list(o, "spec.drivers").len().into()),
    AGE,
];

pub const ATTACHMENTS: &[Column] = &[
    NAME,
    Column::string("Attacher", "Driver that attaches", |o, _| text(o, "spec.attacher").into()),
    Column::string("PV", "Volume", |o, _| text(o, "spec.source.persistentVolumeName").into()),
    Column::string("Node", "Node that it is attached to", |o, _| text(o, "spec.nodeName").into()),
    Column::boolean("Attached", "Whether it is attached", |o, _| truth(o, "status.attached").into()),
    AGE,
];

pub const ATTRIBUTES_CLASSES: &[Column] =
    &[NAME, Column::string("DriverName", "Driver that it is for", |o, _| text(o, "driverName").into()), AGE];
