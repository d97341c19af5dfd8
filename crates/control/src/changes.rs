//! What agents follow: Services, EndpointSlices, Nodes and host ports as `Change`s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use daymark_model::{Change, HostPorts, ObjectName, reduce, wire};
use futures::stream::{self, Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::lean::{Lean, Wire};
use crate::object::key_of;
use crate::watching::watch;

/// One step of what an agent follows.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeEvent {
    /// The next change is the answer to something that happened then, says its object.
    Triggered(SystemTime),
    /// An object appeared, changed or went.
    Change(Change),
    /// Everything that existed at the start has been told. Sent once.
    Synced,
}

/// Follows all Services, EndpointSlices and Nodes for ever.
///
/// Objects are reduced as they come and not kept: only their names are, to tell after an interruption
/// what has gone meanwhile. While the API server is away nothing is said to have gone. Errors are told
/// for logging; the stream goes on by itself after them.
///
/// With `node`, the host ports of that node's pods are followed too.
pub fn changes(
    client: Client,
    node: Option<&str>,
) -> impl Stream<Item = anyhow::Result<ChangeEvent>> + Send + Unpin {
    let services = follow::<wire::Service>(
        Api::all(client.clone()),
        Config::default(),
        |o| reduce::service(o).map(Change::Service).map_err(|e| e.to_string()),
        Change::ServiceGone,
    );
    let slices = follow::<wire::EndpointSlice>(
        Api::all(client.clone()),
        Config::default(),
        |o| reduce::slice_change(o).map_err(|e| e.to_string()),
        Change::SliceGone,
    );
    let nodes = follow::<wire::Node>(
        Api::all(client.clone()),
        Config::default(),
        |o| reduce::node(o).map(Change::Node).map_err(|e| e.to_string()),
        |name| Change::NodeGone(name.name),
    );
    let mut followed = vec![services.boxed(), slices.boxed(), nodes.boxed()];
    if let Some(node) = node {
        let pods = follow::<wire::Pod>(
            Api::all(client),
            Config::default().fields(&format!("spec.nodeName={node}")),
            |o| reduce::host_ports(o).map_err(|e| e.to_string()),
            |name| Change::HostPortsGone(HostPorts::name_of(&name)),
        );
        followed.push(pods.boxed());
    }
    let mut unsynced = followed.len();
    let all = stream::select_all(followed);
    all.filter_map(move |told| {
        let event = match told {
            Ok(Told::Triggered(at)) => Some(Ok(ChangeEvent::Triggered(at))),
            Ok(Told::Change(change)) => Some(Ok(ChangeEvent::Change(change))),
            Ok(Told::Listed) => {
                unsynced -= 1;
                (unsynced == 0).then_some(Ok(ChangeEvent::Synced))
            }
            Err(error) => Some(Err(error)),
        };
        std::future::ready(event)
    })
    .boxed()
}

enum Told {
    Triggered(SystemTime),
    Change(Change),
    /// The first list of a kind is complete.
    Listed,
}

fn follow<W>(
    api: Api<Lean<W>>,
    which: Config,
    reduce: fn(&W) -> Result<Change, String>,
    gone: fn(ObjectName) -> Change,
) -> impl Stream<Item = anyhow::Result<Told>> + Send
where
    W: Wire + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut known = Known { reduce, gone, names: Names::default(), listing: None, listed: false };
    watch(api, which).flat_map(move |event| {
        stream::iter(match event {
            Ok(event) => known.take(event).into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(anyhow::Error::new(error))],
        })
    })
}

/// When that happened which a controller answered by this object.
fn triggered(metadata: &ObjectMeta) -> Option<SystemTime> {
    let text = metadata.annotations.as_ref()?.get(reduce::LAST_CHANGE)?;
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}

/// Names of objects, by namespace.
#[derive(Default)]
struct Names(BTreeMap<Arc<str>, BTreeSet<Arc<str>>>);

impl Names {
    fn insert(&mut self, ObjectName { namespace, name }: ObjectName) {
        self.0.entry(namespace).or_default().insert(name);
    }

    fn remove(&mut self, ObjectName { namespace, name }: &ObjectName) -> bool {
        let Some(names) = self.0.get_mut(namespace) else { return false };
        let removed = names.remove(name);
        if names.is_empty() {
            self.0.remove(namespace);
        }
        removed
    }

    fn get(&self, ObjectName { namespace, name }: &ObjectName) -> Option<ObjectName> {
        let (namespace, names) = self.0.get_key_value(namespace)?;
        Some(ObjectName { namespace: namespace.clone(), name: names.get(name)?.clone() })
    }

    fn not_in(&self, others: &Names) -> Vec<ObjectName> {
        let all = self.0.iter().flat_map(|(namespace, names)| {
            names.iter().map(|name| ObjectName { namespace: namespace.clone(), name: name.clone() })
        });
        all.filter(|name| others.get(name).is_none()).collect()
    }
}

/// The names of what has been told, so that deletions during an interruption are noticed.
struct Known<W> {
    reduce: fn(&W) -> Result<Change, String>,
    gone: fn(ObjectName) -> Change,
    names: Names,
    listing: Option<Names>,
    listed: bool,
}

impl<W: Wire> Known<W> {
    fn take(&mut self, event: Event<Lean<W>>) -> Vec<Told> {
        match event {
            Event::Init => {
                self.listing = Some(Names::default());
                Vec::new()
            }
            Event::InitApply(Lean(object)) => {
                let name = self.name_of(object.meta());
                if let Some(listing) = &mut self.listing {
                    listing.insert(name.clone());
                }
                self.tell(name, &object)
            }
            Event::Apply(Lean(object)) => {
                let mut told: Vec<_> = triggered(object.meta()).map(Told::Triggered).into_iter().collect();
                let name = self.name_of(object.meta());
                told.extend(self.tell(name, &object));
                told
            }
            Event::Delete(Lean(object)) => self.forget(&key_of(object.meta())),
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let absent = self.names.not_in(&listed);
                let mut told: Vec<_> = absent.iter().flat_map(|name| self.forget(name)).collect();
                if !std::mem::replace(&mut self.listed, true) {
                    told.push(Told::Listed);
                }
                told
            }
        }
    }

    /// One copy of each name.
    fn name_of(&self, metadata: &ObjectMeta) -> ObjectName {
        let name = key_of(metadata);
        self.names.get(&name).unwrap_or(name)
    }

    fn tell(&mut self, name: ObjectName, object: &W) -> Vec<Told> {
        match (self.reduce)(object) {
            Ok(mut change) => {
                change.share_name(&name);
                self.names.insert(name);
                vec![Told::Change(change)]
            }
            Err(error) => {
                // What cannot be used must not live on as what it was before.
                warn!(object = %name, %error, "ignored");
                self.forget(&name)
            }
        }
    }

    fn forget(&mut self, name: &ObjectName) -> Vec<Told> {
        if self.names.remove(name) { vec![Told::Change((self.gone)(name.clone()))] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known<wire::Service> {
        let reduce = |o: &wire::Service| {
            let name = o.metadata.name.clone().unwrap_or_default();
            if name == "bad" { Err("bad".to_owned()) } else { Ok(Change::NodeGone(name.into())) }
        };
        Known { reduce, gone: Change::ServiceGone, names: Names::default(), listing: None, listed: false }
    }

    fn object(name: &str) -> Lean<wire::Service> {
        let metadata =
            ObjectMeta { name: Some(name.into()), namespace: Some("n".into()), ..Default::default() };
        Lean(wire::Service { metadata, ..Default::default() })
    }

    fn words(told: Vec<Told>) -> Vec<String> {
        let word = |t: Told| match t {
            Told::Change(Change::NodeGone(name)) => format!("told {name}"),
            Told::Change(Change::ServiceGone(name)) => format!("gone {name}"),
            Told::Change(other) => panic!("{other:?}"),
            Told::Triggered(at) => format!("at {}", Timestamp::try_from(at).expect("a time")),
            Told::Listed => "listed".to_owned(),
        };
        told.into_iter().map(word).collect()
    }

    #[test]
    fn only_a_complete_list_tells_that_something_went() {
        let mut known = known();
        known.take(Event::Init);
        assert_eq!(words(known.take(Event::InitApply(object("a")))), ["told a"]);
        assert_eq!(words(known.take(Event::InitApply(object("b")))), ["told b"]);
        assert_eq!(words(known.take(Event::InitDone)), ["listed"]);
        assert_eq!(words(known.take(Event::Init)), Vec::<String>::new());
        assert_eq!(words(known.take(Event::Init)), Vec::<String>::new(), "an interrupted list says nothing");
        assert_eq!(words(known.take(Event::InitApply(object("b")))), ["told b"]);
        assert_eq!(words(known.take(Event::InitDone)), ["gone n/a"]);
        assert_eq!(words(known.take(Event::Delete(object("b")))), ["gone n/b"]);
        assert_eq!(words(known.take(Event::Delete(object("b")))), Vec::<String>::new());
    }

    #[test]
    fn a_change_is_told_with_what_triggered_it() {
        let mut known = known();
        let annotation = (reduce::LAST_CHANGE.to_owned(), "2026-01-02T03:04:05.25Z".to_owned());
        let mut changed = object("a");
        changed.0.metadata.annotations = Some([annotation].into());
        let told = words(known.take(Event::InitApply(changed.clone())));
        assert_eq!(told, ["told a"], "what was there at the start answers nothing");
        assert_eq!(words(known.take(Event::Apply(changed))), ["at 2026-01-02T03:04:05.25Z", "told a"]);
    }

    #[test]
    fn what_cannot_be_used_is_taken_back() {
        let mut known = known();
        assert_eq!(words(known.take(Event::Apply(object("bad")))), Vec::<String>::new());
        known.names.insert(ObjectName::new("n", "bad"));
        assert_eq!(words(known.take(Event::Apply(object("bad")))), ["gone n/bad"]);
    }
}
