//! Watches the ConfigMaps and Secrets that a running pod's volumes are made of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::spec;
use super::worker::Message;
use crate::env::vars::Kind;
use crate::volume;

/// Starts following one object; the task sends [`Message::SourcesChanged`] whenever it changes.
pub type Follow =
    Arc<dyn Fn(Kind, &str, &str, mpsc::UnboundedSender<Message>) -> Option<JoinHandle<()>> + Send + Sync>;

/// The watches of one pod.
pub struct Sources {
    follow: Follow,
    outbox: mpsc::UnboundedSender<Message>,
    watches: BTreeMap<(Kind, String), JoinHandle<()>>,
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Sources {
    pub fn new(follow: Follow, outbox: mpsc::UnboundedSender<Message>) -> Self {
        Self { follow, outbox, watches: BTreeMap::new() }
    }

    /// Watches what this pod needs, and nothing when there is none.
    pub fn reconcile(&mut self, pod: Option<&Pod>) {
        let Some(pod) = pod else { return self.stop() };
        for (kind, name) in volume::references(pod) {
            if self.watches.contains_key(&(kind, name.clone())) {
                continue;
            }
            let task = (self.follow)(kind, spec::namespace(pod), &name, self.outbox.clone());
            self.watches.extend(task.map(|t| ((kind, name), t)));
        }
    }

    fn stop(&mut self) {
        for task in self.watches.values() {
            task.abort();
        }
        self.watches.clear();
    }
}

/// Follows objects through the API, metadata only. Pods that need the same object share one watch:
/// every pod needs the cluster's root certificate.
pub fn through_api(client: kube::Client) -> Follow {
    let shared = Arc::new(Shared { client, watches: Mutex::default() });
    Arc::new(move |kind, namespace, name, outbox| {
        let mut changes = Shared::follow(&shared, (kind, namespace.to_owned(), name.to_owned()));
        Some(tokio::spawn(async move {
            // The object may already differ from what the volume was made of.
            while outbox.send(Message::SourcesChanged).is_ok() {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }))
    })
}

/// Kind, namespace and name.
type Key = (Kind, String, String);

struct Shared {
    client: kube::Client,
    /// Counts the changes of each object that is followed.
    watches: Mutex<BTreeMap<Key, Arc<watch::Sender<u64>>>>,
}

impl Shared {
    fn watches(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Arc<watch::Sender<u64>>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(shared: &Arc<Self>, key: Key) -> watch::Receiver<u64> {
        let mut watches = shared.watches();
        if let Some(known) = watches.get(&key) {
            return known.subscribe();
        }
        let (sender, receiver) = watch::channel(0);
        let sender = Arc::new(sender);
        watches.insert(key.clone(), sender.clone());
        tokio::spawn(Self::run(shared.clone(), key, sender));
        receiver
    }

    /// Watches until nobody follows any more.
    async fn run(shared: Arc<Self>, key: Key, changes: Arc<watch::Sender<u64>>) {
        let (kind, namespace, name) = &key;
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let watching = async {
            match kind {
                Kind::ConfigMap => {
                    let api: Api<PartialObjectMeta<ConfigMap>> =
                        Api::namespaced(shared.client.clone(), namespace);
                    count(api, config, &changes).await;
                }
                Kind::Secret => {
                    let api: Api<PartialObjectMeta<Secret>> =
                        Api::namespaced(shared.client.clone(), namespace);
                    count(api, config, &changes).await;
                }
            }
        };
        let deserted = async {
            loop {
                changes.closed().await;
                // Somebody may have come since.
                let mut watches = shared.watches();
                if changes.receiver_count() == 0 {
                    watches.remove(&key);
                    return;
                }
            }
        };
        tokio::select! {
            () = watching => {}
            () = deserted => {}
        }
    }
}

async fn count<K>(api: Api<K>, config: watcher::Config, changes: &watch::Sender<u64>)
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut stream = std::pin::pin!(watcher(api, config));
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::InitApply(_) | Event::Apply(_)) => changes.send_modify(|count| *count += 1),
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}
