//! The watches that all controllers share.

use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolumeClaim, Pod, ReplicationController, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tracing::debug;

use super::Message;
use crate::gc;
use crate::object::{Cached, Kind};
use crate::state::slim;
use crate::watching::watch;

macro_rules! watched_whole {
    ($($kind:ident),* $(,)?) => {
        /// Kinds of which every object is watched; these watches feed the garbage collector's graph too.
        pub const WHOLE: &[Kind] = &[$(Kind::$kind),*];

        fn spawn_whole(tasks: &mut JoinSet<()>, client: &Client, seen: &Sender<Message>, graph: &gc::Input) {
            $(tasks.spawn(feed::<$kind>(
                Api::all(client.clone()),
                Config::default(),
                seen.clone(),
                Some(graph.clone()),
            ));)*
        }
    };
}

watched_whole!(
    Pod,
    ReplicaSet,
    Deployment,
    StatefulSet,
    DaemonSet,
    ControllerRevision,
    ReplicationController,
    Job,
    CronJob,
    PodDisruptionBudget,
    PersistentVolumeClaim,
    Service,
    EndpointSlice,
    Endpoints,
    Node,
    Namespace,
);

/// The one kind that decides about LoadBalancer addresses.
pub const SERVICES: [Kind; 1] = [Kind::Service];

/// Kinds of which only some objects are watched.
const IN_PART: [Kind; 3] = [Kind::Lease, Kind::ServiceAccount, Kind::ConfigMap];

/// The kinds that must be listed before anything is decided.
pub fn kinds() -> impl Iterator<Item = Kind> {
    WHOLE.iter().copied().chain(IN_PART)
}

/// Starts all watches.
pub fn spawn(tasks: &mut JoinSet<()>, client: &Client, seen: &Sender<Message>, graph: &gc::Input) {
    spawn_whole(tasks, client, seen, graph);
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    tasks.spawn(feed(leases, Config::default(), seen.clone(), None));
    let accounts = Config::default().fields("metadata.name=default");
    tasks.spawn(feed::<ServiceAccount>(Api::all(client.clone()), accounts, seen.clone(), None));
    let roots = Config::default().fields("metadata.name=kube-root-ca.crt");
    tasks.spawn(feed::<ConfigMap>(Api::all(client.clone()), roots, seen.clone(), None));
}

/// Starts the watch of [`SERVICES`] alone.
pub fn spawn_services(tasks: &mut JoinSet<()>, client: &Client, seen: &Sender<Message>) {
    tasks.spawn(feed::<Service>(Api::all(client.clone()), Config::default(), seen.clone(), None));
}

async fn feed<K>(api: Api<K>, config: Config, seen: Sender<Message>, graph: Option<gc::Input>)
where
    K: Cached + kube::Resource<DynamicType = ()> + std::fmt::Debug + Send + 'static,
{
    let mut events = pin!(watch(api, config));
    while let Some(event) = events.next().await {
        if let (Ok(event), Some(graph)) = (&event, &graph) {
            graph.typed(event);
        }
        let message = match event {
            Ok(Event::Init) => Message::ListBegins(K::WHAT),
            Ok(Event::InitDone) => Message::ListEnds(K::WHAT),
            Ok(Event::Apply(mut object) | Event::InitApply(mut object)) => {
                slim(&mut object);
                Message::Seen(object.wrap())
            }
            Ok(Event::Delete(mut object)) => {
                slim(&mut object);
                Message::Deleted(object.wrap())
            }
            Err(error) => {
                debug!(kind = K::WHAT.name(), %error, "watch interrupted");
                Message::Interrupted(K::WHAT)
            }
        };
        if seen.send(message).await.is_err() {
            return;
        }
    }
}
