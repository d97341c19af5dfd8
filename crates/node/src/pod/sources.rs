//! Watches the ConfigMaps and Secrets that a running pod's volumes are made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::mpsc;
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

/// Follows objects through the API, one watch each, metadata only.
pub fn through_api(client: kube::Client) -> Follow {
    Arc::new(move |kind, namespace, name, outbox| {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let (client, namespace) = (client.clone(), namespace.to_owned());
        Some(match kind {
            Kind::ConfigMap => {
                let api: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(client, &namespace);
                tokio::spawn(watch(api, config, outbox))
            }
            Kind::Secret => {
                let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, &namespace);
                tokio::spawn(watch(api, config, outbox))
            }
        })
    })
}

async fn watch<K>(api: Api<K>, config: watcher::Config, outbox: mpsc::UnboundedSender<Message>)
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut stream = std::pin::pin!(watcher(api, config));
    while let Some(event) = stream.next().await {
        match event {
            // The first listing may already differ from what the volume was made of.
            Ok(Event::InitApply(_) | Event::Apply(_)) => {
                if outbox.send(Message::SourcesChanged).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}
