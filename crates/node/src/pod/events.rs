//! Events about pods, as kubelet words them; repeated ones count up instead of piling up.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;

use super::spec;

/// How many different events are remembered for counting.
const MEMORY: usize = 128;

/// Something to tell about a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodEvent {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// `spec.containers{web}`, if it is about one container.
    pub field_path: Option<String>,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl PodEvent {
    pub fn new(
        pod: &Pod,
        container: Option<&str>,
        kind: &'static str,
        reason: &'static str,
        message: String,
    ) -> Self {
        let list = |c: &str| if spec::is_init(pod, c) { "initContainers" } else { "containers" };
        Self {
            namespace: spec::namespace(pod).to_owned(),
            pod: spec::name(pod).to_owned(),
            uid: spec::uid(pod).to_owned(),
            field_path: container.map(|c| format!("spec.{}{{{c}}}", list(c))),
            kind,
            reason,
            message,
        }
    }
}

/// Name and count of an event written before.
struct Written {
    name: String,
    count: i32,
}

/// Writes events one after the other, so that their order is kept; loses them when the API server is
/// away for long, rather than growing.
pub async fn run(client: kube::Client, node: String, mut inbox: mpsc::Receiver<PodEvent>) {
    let mut written: BTreeMap<PodEvent, Written> = BTreeMap::new();
    let mut order: VecDeque<PodEvent> = VecDeque::new();
    while let Some(event) = inbox.recv().await {
        let api: Api<Event> = Api::namespaced(client.clone(), &event.namespace);
        let now = Timestamp::now();
        if let Some(known) = written.get_mut(&event) {
            known.count += 1;
            if count_up(&api, known, now).await {
                continue;
            }
        }
        let object = object(&event, &node, now);
        let name = object.metadata.name.clone().unwrap_or_default();
        if let Err(e) = api.create(&PostParams::default(), &object).await {
            tracing::debug!(pod = event.pod, reason = event.reason, "cannot write an event: {e}");
            continue;
        }
        if written.insert(event.clone(), Written { name, count: 1 }).is_none() {
            order.push_back(event);
        }
        if order.len() > MEMORY
            && let Some(oldest) = order.pop_front()
        {
            written.remove(&oldest);
        }
    }
}

/// Returns false when the event has expired and must be written anew.
async fn count_up(api: &Api<Event>, known: &Written, now: Timestamp) -> bool {
    let patch = json!({"count": known.count, "lastTimestamp": Time(now)});
    match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) => status.code != 404,
        Err(_) => true,
    }
}

fn object(event: &PodEvent, node: &str, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", event.pod, now.as_nanosecond())),
            namespace: Some(event.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(event.namespace.clone()),
            name: Some(event.pod.clone()),
            uid: Some(event.uid.clone()),
            field_path: event.field_path.clone(),
            ..ObjectReference::default()
        },
        type_: Some(event.kind.into()),
        reason: Some(event.reason.into()),
        message: Some(event.message.clone()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.to_owned()) }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    }
}
