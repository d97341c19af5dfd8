//! The watches that all controllers share.

use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
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

/// The kinds that must be listed before anything is decided.
pub const KINDS: [Kind; 11] = [
    Kind::Pod,
    Kind::ReplicaSet,
    Kind::Deployment,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Endpoints,
    Kind::Node,
    Kind::Lease,
    Kind::Namespace,
    Kind::ServiceAccount,
    Kind::ConfigMap,
];

/// Starts all watches. Kinds that are watched whole also feed the garbage collector's graph.
pub fn spawn(tasks: &mut JoinSet<()>, client: &Client, seen: &Sender<Message>, graph: &gc::Input) {
    let all = Config::default();
    tasks.spawn(feed::<Pod>(Api::all(client.clone()), all.clone(), seen.clone(), Some(graph.clone())));
    tasks.spawn(feed::<ReplicaSet>(Api::all(client.clone()), all.clone(), seen.clone(), Some(graph.clone())));
    tasks.spawn(feed::<Deployment>(Api::all(client.clone()), all.clone(), seen.clone(), Some(graph.clone())));
    tasks.spawn(feed::<Service>(Api::all(client.clone()), all.clone(), seen.clone(), Some(graph.clone())));
    tasks.spawn(feed::<EndpointSlice>(
        Api::all(client.clone()),
        all.clone(),
        seen.clone(),
        Some(graph.clone()),
    ));
    tasks.spawn(feed::<Endpoints>(Api::all(client.clone()), all.clone(), seen.clone(), Some(graph.clone())));
    tasks.spawn(feed::<Node>(Api::all(client.clone()), all.clone(), seen.clone(), Some(graph.clone())));
    tasks.spawn(feed::<Namespace>(Api::all(client.clone()), all, seen.clone(), Some(graph.clone())));
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    tasks.spawn(feed(leases, Config::default(), seen.clone(), None));
    let accounts = Config::default().fields("metadata.name=default");
    tasks.spawn(feed::<ServiceAccount>(Api::all(client.clone()), accounts, seen.clone(), None));
    let roots = Config::default().fields("metadata.name=kube-root-ca.crt");
    tasks.spawn(feed::<ConfigMap>(Api::all(client.clone()), roots, seen.clone(), None));
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
