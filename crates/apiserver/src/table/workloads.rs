//! Columns of the kinds that make pods.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    age,
    column::{AGE, Column, NAME, labels, of_containers, or_none, ratio, selector},
};
use crate::kinds::value::{at, int, list, present, text, truth};

const TEMPLATE: &str = "spec.template.spec";
const CONTAINERS_ARE: &str = "Containers of each pod";
const IMAGES_ARE: &str = "Images of these containers";
const SELECTOR_IS: &str = "Which pods belong to it";

const CONTAINERS: Column =
    Column::string("Containers", CONTAINERS_ARE, |o, _| of_containers(o, TEMPLATE, "name")).wide();
const IMAGES: Column =
    Column::string("Images", IMAGES_ARE, |o, _| of_containers(o, TEMPLATE, "image")).wide();
const SELECTOR: Column =
    Column::string("Selector", SELECTOR_IS, |o, _| selector(&o["spec"]["selector"])).wide();
const READY_OF_ALL: Column = Column::string("Ready", "Pods that are ready, of those wanted", |o, _| {
    ratio(o, "status.readyReplicas", "spec.replicas")
});
const DESIRED: Column = Column::integer("Desired", "Pods wanted", |o, _| int(o, "spec.replicas").into());
const CURRENT: Column = Column::integer("Current", "Pods there are", |o, _| int(o, "status.replicas").into());
const READY: Column =
    Column::integer("Ready", "Pods that are ready", |o, _| int(o, "status.readyReplicas").into());

pub const DEPLOYMENTS: &[Column] = &[
    NAME,
    READY_OF_ALL,
    Column::string("Up-to-date", "Pods made from the newest template", |o, _| {
        int(o, "status.updatedReplicas").into()
    }),
    Column::string("Available", "Pods that have been ready for long enough", |o, _| {
        int(o, "status.availableReplicas").into()
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    Column::string("Selector", SELECTOR_IS, |o, _| {
        crate::selector::LabelSelector::from_object(&o["spec"]["selector"]).to_string().into()
    })
    .wide(),
];

pub const REPLICA_SETS: &[Column] = &[NAME, DESIRED, CURRENT, READY, AGE, CONTAINERS, IMAGES, SELECTOR];

pub const REPLICATION_CONTROLLERS: &[Column] = &[
    NAME,
    DESIRED,
    CURRENT,
    READY,
    AGE,
    CONTAINERS,
    IMAGES,
    Column::string("Selector", SELECTOR_IS, |o, _| labels(&o["spec"]["selector"])).wide(),
];

pub const STATEFUL_SETS: &[Column] = &[NAME, READY_OF_ALL, AGE, CONTAINERS, IMAGES];

pub const DAEMON_SETS: &[Column] = &[
    NAME,
    Column::integer("Desired", "Nodes that should run a pod", |o, _| {
        int(o, "status.desiredNumberScheduled").into()
    }),
    Column::integer("Current", "Nodes that have a pod", |o, _| {
        int(o, "status.currentNumberScheduled").into()
    }),
    Column::integer("Ready", "Nodes whose pod is ready", |o, _| int(o, "status.numberReady").into()),
    Column::integer("Up-to-date", "Nodes whose pod is of the newest template", |o, _| {
        int(o, "status.updatedNumberScheduled").into()
    }),
    Column::integer("Available", "Nodes whose pod has been ready for long enough", |o, _| {
        int(o, "status.numberAvailable").into()
    }),
    Column::string("Node Selector", "Labels of the nodes that count", |o, _| {
        labels(&o["spec"]["template"]["spec"]["nodeSelector"])
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub const JOBS: &[Column] = &[
    NAME,
    Column::string("Status", "How the job is doing", |o, _| job_status(o).into()),
    Column::string("Completions", "Pods that succeeded, of those wanted", |o, _| completions(o)),
    Column::string("Duration", "Time that the job took so far", job_duration),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub const CRON_JOBS: &[Column] = &[
    NAME,
    Column::string("Schedule", "When jobs are made, in cron's format", |o, _| {
        text(o, "spec.schedule").into()
    }),
    Column::string("Timezone", "Time zone of the schedule", |o, _| or_none(text(o, "spec.timeZone"))),
    Column::boolean("Suspend", "Whether no more jobs are made for now", |o, _| {
        if truth(o, "spec.suspend") { "True" } else { "False" }.into()
    }),
    Column::integer("Active", "Jobs that run", |o, _| list(o, "status.active").len().into()),
    Column::string("Last Schedule", "Time since the last job was made", |o, now| {
        at(o, "status.lastScheduleTime").map_or_else(|| or_none(""), |time| age::since(time, now).into())
    }),
    AGE,
    Column::string("Containers", CONTAINERS_ARE, |o, _| {
        of_containers(o, "spec.jobTemplate.spec.template.spec", "name")
    })
    .wide(),
    Column::string("Images", IMAGES_ARE, |o, _| {
        of_containers(o, "spec.jobTemplate.spec.template.spec", "image")
    })
    .wide(),
    Column::string("Selector", SELECTOR_IS, |o, _| selector(&o["spec"]["jobTemplate"]["spec"]["selector"]))
        .wide(),
];

pub const POD_TEMPLATES: &[Column] = &[
    NAME,
    Column::string("Containers", CONTAINERS_ARE, |o, _| of_containers(o, "template.spec", "name")),
    Column::string("Images", IMAGES_ARE, |o, _| of_containers(o, "template.spec", "image")),
    Column::string("Pod Labels", "Labels of each pod", |o, _| labels(&o["template"]["metadata"]["labels"])),
];

pub const REVISIONS: &[Column] = &[
    NAME,
    Column::string("Controller", "The object whose history it is part of", |o, _| {
        let owners = list(o, "metadata.ownerReferences");
        owners.iter().find(|owner| truth(owner, "controller")).map_or_else(|| or_none(""), owner_name)
    }),
    Column::string("Revision", "Number of the revision", |o, _| int(o, "revision").into()),
    AGE,
];

fn owner_name(owner: &Value) -> Value {
    let kind = text(owner, "kind").to_lowercase();
    let name = text(owner, "name");
    match text(owner, "apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}").into(),
        None => format!("{kind}/{name}").into(),
    }
}

fn job_status(job: &Value) -> &'static str {
    let has = |kind: &str| {
        list(job, "status.conditions").iter().any(|c| text(c, "type") == kind && text(c, "status") == "True")
    };
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if present(job, "metadata.deletionTimestamp") {
        "Terminating"
    } else {
        let stages = [
            ("Suspended", "Suspended"),
            ("FailureTarget", "FailureTarget"),
            ("SuccessCriteriaMet", "SuccessCriteriaMet"),
        ];
        stages.into_iter().find(|(kind, _)| has(kind)).map_or("Running", |(_, word)| word)
    }
}

fn completions(job: &Value) -> Value {
    let (done, parallel) = (int(job, "status.succeeded"), int(job, "spec.parallelism"));
    if present(job, "spec.completions") {
        format!("{done}/{}", int(job, "spec.completions")).into()
    } else if parallel > 1 {
        format!("{done}/1 of {parallel}").into()
    } else {
        format!("{done}/1").into()
    }
}

fn job_duration(job: &Value, now: Timestamp) -> Value {
    let Some(start) = at(job, "status.startTime").and_then(age::parse) else { return "".into() };
    let end = at(job, "status.completionTime").and_then(age::parse).unwrap_or(now);
    age::human(end.as_second() - start.as_second()).into()
}
