//! Services of the namespaces that have pods here, kept by watches and reduced to what their
//! environment variables need.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;

use crate::env::links::{Link, variables};

/// How long a starting container waits for the first listing.
const SYNC_TIMEOUT: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(500);

type Links = Arc<BTreeMap<String, Link>>;

/// One watched namespace; dropping it ends the watch.
struct Namespace {
    /// `None` until the first listing is complete.
    links: watch::Receiver<Option<Links>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Services by namespace.
pub struct Services {
    client: kube::Client,
    namespaces: Mutex<BTreeMap<String, Namespace>>,
}

/// Key of the watch of the API server's own Service; not a valid namespace name.
const API: &str = "/kubernetes";

impl Services {
    pub fn new(client: kube::Client) -> Self {
        Self { client, namespaces: Mutex::default() }
    }

    /// The variables of a new container: the API server's, and with `all` those of its namespace.
    pub async fn variables(&self, namespace: &str, all: bool) -> Vec<(String, String)> {
        let api = self.links(API).await;
        let mut found: BTreeMap<&str, &Link> = api.iter().map(|(k, v)| (k.as_str(), v)).collect();
        let own = if all { self.links(namespace).await } else { Links::default() };
        found.extend(own.iter().map(|(k, v)| (k.as_str(), v)));
        variables(found.into_values())
    }

    pub fn forget(&self, namespace: &str) {
        self.lock().remove(namespace);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Namespace>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn links(&self, key: &str) -> Links {
        let mut links = {
            let mut map = self.lock();
            let entry = map.entry(key.to_owned()).or_insert_with(|| start(self.client.clone(), key));
            entry.links.clone()
        };
        let synced = tokio::time::timeout(SYNC_TIMEOUT, links.wait_for(Option::is_some)).await;
        match synced {
            Ok(Ok(links)) => links.clone().unwrap_or_default(),
            _ => Links::default(),
        }
    }
}

fn start(client: kube::Client, key: &str) -> Namespace {
    let (sender, links) = watch::channel(None);
    let (namespace, config) = match key {
        API => ("default", watcher::Config::default().fields("metadata.name=kubernetes")),
        namespace => (namespace, watcher::Config::default()),
    };
    let api: Api<Service> = Api::namespaced(client, namespace);
    Namespace { links, task: tokio::spawn(follow(api, config, sender)) }
}

async fn follow(api: Api<Service>, config: watcher::Config, sender: watch::Sender<Option<Links>>) {
    let mut stream = std::pin::pin!(watcher(api, config));
    let mut listing = BTreeMap::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => listing.clear(),
            Ok(Event::InitApply(service)) => {
                listing.extend(link(&service).map(|l| (l.name.clone(), l)));
            }
            Ok(Event::InitDone) => {
                sender.send_replace(Some(Arc::new(std::mem::take(&mut listing))));
            }
            Ok(Event::Apply(service)) => change(&sender, &service, link(&service)),
            Ok(Event::Delete(service)) => change(&sender, &service, None),
            Err(e) => {
                tracing::debug!("watching services: {e}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn change(sender: &watch::Sender<Option<Links>>, service: &Service, now: Option<Link>) {
    let name = service.metadata.name.clone().unwrap_or_default();
    sender.send_modify(|links| {
        let map = Arc::make_mut(links.get_or_insert_default());
        match now {
            Some(link) => map.insert(name, link),
            None => map.remove(&name),
        };
    });
}

/// `None` for Services without a cluster IP: they have no variables.
fn link(service: &Service) -> Option<Link> {
    let spec = service.spec.as_ref()?;
    let ip = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None")?;
    let port = |p: &k8s_openapi::api::core::v1::ServicePort| {
        let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
        (p.name.clone().unwrap_or_default(), p.port, protocol)
    };
    Some(Link {
        name: service.metadata.name.clone()?,
        cluster_ip: ip.to_owned(),
        ports: spec.ports.iter().flatten().map(port).collect(),
    })
}
