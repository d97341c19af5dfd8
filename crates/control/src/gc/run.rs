//! The collector's shell: metadata watches of every kind feed the graph, steps go to the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use futures::StreamExt;
use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::discovery::{Discovery, verbs};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{AbortHandle, JoinSet};
use tracing::debug;

use super::decide::{Step, decide};
use super::graph::{Graph, Object, Presence, Resource};
use crate::object::{Cached, Kind};
use crate::runner::watches::WHOLE;
use crate::runner::write::send;
use crate::watching::watch;

/// How often new kinds are looked for; CustomResourceDefinitions make it happen at once.
const DISCOVERY: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What reaches the collector.
pub enum News {
    Seen(Object),
    Gone(String),
    ListBegins(Resource),
    ListEnds(Resource),
    /// A step has ended: what it was about, what was learnt, whether it worked.
    Done {
        uid: String,
        learnt: Option<(String, Presence)>,
        failed: Option<String>,
    },
}

/// Where watches put what they see.
#[derive(Clone)]
pub struct Input(UnboundedSender<News>);

/// The collector's input and its other end.
pub fn channel() -> (Input, UnboundedReceiver<News>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Input(sender), receiver)
}

impl Input {
    /// Takes in an event of a watch that somebody else keeps.
    pub fn typed<K: Cached>(&self, event: &Event<K>) {
        let resource = resource_of(K::WHAT);
        let meta = |o: &K| o.metadata().clone();
        self.event(&resource, event, meta);
    }

    fn event<K>(&self, resource: &Resource, event: &Event<K>, meta: impl Fn(&K) -> ObjectMeta) {
        let news = match event {
            Event::Init => News::ListBegins(resource.clone()),
            Event::InitDone => News::ListEnds(resource.clone()),
            Event::Apply(o) | Event::InitApply(o) => News::Seen(Object::new(resource.clone(), &meta(o))),
            Event::Delete(o) => News::Gone(meta(o).uid.unwrap_or_default()),
        };
        // The collector only goes away when everything stops.
        let _ = self.0.send(news);
    }
}

fn resource_of(kind: Kind) -> Resource {
    Resource { api_version: kind.api_version().into(), plural: kind.plural().into() }
}

/// Kinds that others watch whole already, or whose objects own nothing, are owned by nobody and are many.
fn is_watched_elsewhere(resource: &Resource) -> bool {
    WHOLE.iter().any(|k| resource_of(*k) == *resource) || resource.plural == "events"
}

/// Collects garbage for ever.
pub async fn run(client: Client, input: Input, mut news: UnboundedReceiver<News>) {
    let mut collector = Collector::new(client, input);
    let mut discovery = tokio::time::interval(DISCOVERY);
    let mut batch = Vec::new();
    loop {
        let wake = collector.next_retry();
        tokio::select! {
            n = news.recv_many(&mut batch, 256) => if n == 0 { return },
            _ = discovery.tick() => collector.discover().await,
            () = tokio::time::sleep(wake) => {}
        }
        for item in batch.drain(..) {
            collector.take(item);
        }
        // One look once the first lists are there, not one for each definition in them.
        if collector.kinds_may_differ && collector.unsynced.is_empty() {
            collector.discover().await;
        }
        collector.work();
    }
}

struct Collector {
    client: Client,
    input: Input,
    graph: Graph,
    kinds: BTreeMap<Resource, ApiResource>,
    watches: JoinSet<()>,
    handles: BTreeMap<Resource, AbortHandle>,
    unsynced: BTreeSet<Resource>,
    /// A CustomResourceDefinition was seen since kinds were last looked for.
    kinds_may_differ: bool,
    ready: BTreeSet<String>,
    running: BTreeSet<String>,
    again: BTreeSet<String>,
    retries: BTreeMap<String, (Instant, u32)>,
}

impl Collector {
    fn new(client: Client, input: Input) -> Self {
        Self {
            client,
            input,
            graph: Graph::default(),
            kinds: BTreeMap::new(),
            watches: JoinSet::new(),
            handles: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            kinds_may_differ: false,
            ready: BTreeSet::new(),
            running: BTreeSet::new(),
            again: BTreeSet::new(),
            retries: BTreeMap::new(),
        }
    }

    /// Starts watches of kinds that appeared and stops those of kinds that went.
    async fn discover(&mut self) {
        self.kinds_may_differ = false;
        let discovery = match Discovery::new(self.client.clone()).run_aggregated().await {
            Ok(discovery) => discovery,
            Err(error) => {
                debug!(%error, "discovery failed; will try again");
                return;
            }
        };
        let mut found = BTreeMap::new();
        for (kind, can) in discovery.groups().flat_map(|g| g.recommended_resources()) {
            let can = |verb: &str| can.supports_operation(verb);
            if can(verbs::LIST) && can(verbs::WATCH) && can(verbs::DELETE) {
                let resource =
                    Resource { api_version: kind.api_version.clone(), plural: kind.plural.clone() };
                found.insert(resource, kind);
            }
        }
        self.handles.retain(|resource, handle| {
            let stays = found.contains_key(resource);
            if !stays {
                handle.abort();
                self.unsynced.remove(resource);
            }
            stays
        });
        for (resource, kind) in &found {
            if is_watched_elsewhere(resource) || self.handles.contains_key(resource) {
                continue;
            }
            let task = feed(self.client.clone(), kind.clone(), resource.clone(), self.input.clone());
            self.handles.insert(resource.clone(), self.watches.spawn(task));
            self.unsynced.insert(resource.clone());
        }
        if found.keys().any(|resource| !self.kinds.contains_key(resource)) {
            // Owners of kinds that were unknown can be looked for now.
            self.retries.values_mut().for_each(|(when, _)| *when = Instant::now());
        }
        self.kinds = found;
    }

    fn take(&mut self, news: News) {
        let touched = match news {
            News::Seen(object) => {
                self.kinds_may_differ |= object.resource.plural == "customresourcedefinitions";
                self.graph.seen(object)
            }
            News::Gone(uid) => self.graph.gone(&uid),
            News::ListBegins(resource) => {
                self.graph.list_begins(&resource);
                BTreeSet::new()
            }
            News::ListEnds(resource) => {
                self.unsynced.remove(&resource);
                self.graph.list_ends(&resource)
            }
            News::Done { uid, learnt, failed } => {
                self.done(uid, learnt, failed);
                BTreeSet::new()
            }
        };
        for uid in touched {
            self.touch(uid);
        }
    }

    fn touch(&mut self, uid: String) {
        if self.running.contains(&uid) {
            self.again.insert(uid);
        } else {
            self.ready.insert(uid);
        }
    }

    fn done(&mut self, uid: String, learnt: Option<(String, Presence)>, failed: Option<String>) {
        self.running.remove(&uid);
        let learnt_something = learnt.is_some();
        if let Some((owner, presence)) = learnt {
            self.graph.learn(&owner, presence);
        }
        if let Some(why) = failed {
            let (_, attempts) = self.retries.get(&uid).copied().unwrap_or((Instant::now(), 0));
            let delay = RETRY.saturating_mul(1 << attempts.min(10)).min(LAST_RETRY);
            debug!(%uid, %why, ?delay, "garbage collection will be tried again");
            self.retries.insert(uid, (Instant::now() + delay, attempts + 1));
            return;
        }
        self.retries.remove(&uid);
        if self.again.remove(&uid) || learnt_something {
            self.ready.insert(uid);
        }
    }

    fn next_retry(&self) -> Duration {
        let now = Instant::now();
        self.retries
            .iter()
            .filter(|(uid, _)| !self.running.contains(*uid))
            .map(|(_, (when, _))| when.saturating_duration_since(now))
            .min()
            .unwrap_or(DISCOVERY)
    }

    fn work(&mut self) {
        let now = Instant::now();
        let due: Vec<_> =
            self.retries.iter().filter(|(_, (when, _))| *when <= now).map(|(uid, _)| uid.clone()).collect();
        due.into_iter().for_each(|uid| self.touch(uid));
        for uid in std::mem::take(&mut self.ready) {
            let steps = decide(&self.graph, &uid);
            if steps.is_empty() {
                self.retries.remove(&uid);
                continue;
            }
            self.running.insert(uid.clone());
            let (client, kinds, input) = (self.client.clone(), self.kinds.clone(), self.input.clone());
            tokio::spawn(async move {
                let mut learnt = None;
                let failed =
                    perform(&client, &kinds, steps, &mut learnt).await.err().map(|e| format!("{e:#}"));
                let _ = input.0.send(News::Done { uid, learnt, failed });
            });
        }
    }
}

async fn feed(client: Client, kind: ApiResource, resource: Resource, input: Input) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &kind);
    let mut events = pin!(watch(api, Config::default()));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => input.event(&resource, &event, |o| o.metadata.clone()),
            Err(error) => debug!(kind = %kind.kind, %error, "metadata watch interrupted"),
        }
    }
}

/// Takes every step that can be taken; the error is of the last that could not.
async fn perform(
    client: &Client,
    kinds: &BTreeMap<Resource, ApiResource>,
    steps: Vec<Step>,
    learnt: &mut Option<(String, Presence)>,
) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    for step in steps {
        match step {
            Step::Verify { of, owner } => {
                let kind =
                    kinds.values().find(|k| k.api_version == owner.api_version && k.kind == owner.kind);
                let Some(kind) = kind else {
                    // Its objects can't be known to be gone, until somebody defines it.
                    outcome = Err(anyhow!(
                        "{} is owned by {} {}, of an unknown kind",
                        of.name,
                        owner.kind,
                        owner.name
                    ));
                    continue;
                };
                let resource =
                    Resource { api_version: kind.api_version.clone(), plural: kind.plural.clone() };
                let presence = verify(client, &of, &resource, &owner.name, &owner.uid).await?;
                *learnt = Some((owner.uid, presence));
            }
            Step::Delete { object, policy } => {
                let options = json!({
                    "apiVersion": "v1", "kind": "DeleteOptions",
                    "propagationPolicy": policy, "preconditions": {"uid": object.uid},
                });
                let path = path(&object.resource, &object.namespace, &object.name);
                tolerate_gone(send(client, Method::DELETE, &path, "application/json", Some(&options)).await)?;
            }
            Step::Disown { object, owners } => {
                edit(client, &object, |meta| {
                    keep(meta, "ownerReferences", |o| !owners.iter().any(|uid| o["uid"] == **uid));
                })
                .await?;
            }
            Step::Release { object, finalizer } => {
                edit(client, &object, |meta| keep(meta, "finalizers", |f| f != finalizer)).await?;
            }
        }
    }
    outcome
}

/// Owners are of the object's namespace, or of none; the kind's own path tells which.
async fn verify(
    client: &Client,
    of: &Object,
    kind: &Resource,
    name: &str,
    uid: &str,
) -> kube::Result<Presence> {
    for namespace in [of.namespace.as_str(), ""] {
        match send(client, Method::GET, &path(kind, namespace, name), "", None).await {
            Ok(text) => {
                let live: Value = serde_json::from_str(&text).map_err(kube::Error::SerdeError)?;
                let same = live["metadata"]["uid"] == *uid;
                return Ok(if same { Presence::Alive } else { Presence::Absent });
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Presence::Absent)
}

fn path(resource: &Resource, namespace: &str, name: &str) -> String {
    let root = if resource.api_version.contains('/') { "/apis" } else { "/api" };
    let within = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    format!("{root}/{}{within}/{}/{name}", resource.api_version, resource.plural)
}

fn tolerate_gone(answer: kube::Result<String>) -> kube::Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}

/// Reads, changes a list in the metadata, and writes against the version read.
async fn edit(client: &Client, object: &Object, change: impl FnOnce(&mut Value)) -> kube::Result<()> {
    let path = path(&object.resource, &object.namespace, &object.name);
    let live = match send(client, Method::GET, &path, "", None).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        other => other?,
    };
    let mut live: Value = serde_json::from_str(&live).map_err(kube::Error::SerdeError)?;
    if live["metadata"]["uid"] != *object.uid {
        return Ok(());
    }
    let mut meta = live["metadata"].take();
    let version = meta["resourceVersion"].clone();
    change(&mut meta);
    let patch = json!({"metadata": {
        "uid": object.uid, "resourceVersion": version,
        "ownerReferences": meta["ownerReferences"], "finalizers": meta["finalizers"],
    }});
    match send(client, Method::PATCH, &path, "application/merge-patch+json", Some(&patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

fn keep(meta: &mut Value, list: &str, stays: impl Fn(&Value) -> bool) {
    if let Some(items) = meta[list].as_array_mut() {
        items.retain(|item| stays(item));
    }
}
