//! What agents follow: Services, EndpointSlices, Nodes and host ports as `Change`s.

use std::sync::Arc;
use std::time::SystemTime;

use daymark_model::world::HashMap;
use daymark_model::{Change, ObjectName};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use kube::Client;
use tracing::warn;

use crate::following::{Step, Watch};
use crate::reading::{Kind, Nodes, Pods, Read, Said, Services, Slices};

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
    let mut followed = vec![
        follow::<Services>(Watch::new(client.clone(), None)),
        follow::<Slices>(Watch::new(client.clone(), None)),
        follow::<Nodes>(Watch::new(client.clone(), None)),
    ];
    if let Some(node) = node {
        followed.push(follow::<Pods>(Watch::new(client, Some(format!("spec.nodeName={node}")))));
    }
    let mut unsynced = followed.len();
    let all = stream::select_all(followed).flat_map(stream::iter);
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
}

enum Told {
    Triggered(SystemTime),
    Change(Change),
    /// The first list of a kind is complete.
    Listed,
}

fn follow<K: Kind>(watch: Watch<K>) -> BoxStream<'static, Vec<anyhow::Result<Told>>> {
    let state = (watch, Known::new(K::gone));
    let told = stream::unfold(state, |(mut watch, mut known)| async move {
        let mut told = Vec::new();
        for step in watch.next().await {
            match step {
                Ok(step) => known.take(step, &mut told),
                Err(error) => told.push(Err(error)),
            }
        }
        Some((told, (watch, known)))
    });
    told.boxed()
}

/// Names of objects, by namespace, with the number of the list or of the time after it that told them last.
type Names = HashMap<Arc<str>, HashMap<Arc<str>, u32>>;

/// The names of what has been told, so that deletions during an interruption are noticed.
struct Known {
    gone: fn(ObjectName) -> Change,
    names: Names,
    /// How many lists began.
    lists: u32,
    listed: bool,
}

impl Known {
    fn new(gone: fn(ObjectName) -> Change) -> Self {
        Self { gone, names: Names::default(), lists: 0, listed: false }
    }

    fn take(&mut self, step: Step, told: &mut Vec<anyhow::Result<Told>>) {
        match step {
            Step::List => self.lists += 1,
            Step::Listed => {
                for name in self.untold() {
                    self.forget(&name, told);
                }
                if !std::mem::replace(&mut self.listed, true) {
                    told.push(Ok(Told::Listed));
                }
            }
            Step::Said(Said::Object(read)) => self.tell(read, told),
            Step::Said(Said::Gone(name)) => self.forget(&name, told),
            Step::Said(Said::Bookmark { .. } | Said::Failure(_)) => {}
        }
    }

    /// What the last list did not tell, in order.
    fn untold(&self) -> Vec<ObjectName> {
        let all = self
            .names
            .iter()
            .flat_map(|(namespace, names)| names.iter().map(move |(name, list)| (namespace, name, *list)));
        let untold = all.filter(|(.., list)| *list != self.lists);
        let mut untold: Vec<_> = untold
            .map(|(namespace, name, _)| ObjectName { namespace: namespace.clone(), name: name.clone() })
            .collect();
        untold.sort();
        untold
    }

    fn tell(&mut self, Read { name, trigger, change }: Read, told: &mut Vec<anyhow::Result<Told>>) {
        match change {
            Ok(mut change) => {
                change.share_name(&self.remember(name));
                // What was there at the start answers nothing.
                let trigger = trigger.filter(|_| self.listed);
                told.extend(trigger.map(|at| Ok(Told::Triggered(at))));
                told.push(Ok(Told::Change(change)));
            }
            Err(error) => {
                // What cannot be used must not live on as what it was before.
                warn!(object = %name, %error, "ignored");
                self.forget(&name, told);
            }
        }
    }

    /// One copy of each name.
    fn remember(&mut self, ObjectName { namespace, name }: ObjectName) -> ObjectName {
        let names = match self.names.get_mut(&namespace) {
            Some(names) => names,
            None => self.names.entry(namespace.clone()).or_default(),
        };
        let name = match names.get_key_value(&name) {
            Some((known, _)) => known.clone(),
            None => name,
        };
        names.insert(name.clone(), self.lists);
        ObjectName { namespace, name }
    }

    fn forget(&mut self, name: &ObjectName, told: &mut Vec<anyhow::Result<Told>>) {
        let Some(names) = self.names.get_mut(&name.namespace) else { return };
        if names.remove(&name.name).is_some() {
            if names.is_empty() {
                self.names.remove(&name.namespace);
            }
            told.push(Ok(Told::Change((self.gone)(name.clone()))));
        }
    }
}

#[cfg(test)]
mod tests {
    use daymark_model::reduce::ReduceError;

    use super::*;

    fn object(name: &str) -> Step {
        let field = String::new();
        let bad =
            || ReduceError { kind: "Service", object: name.into(), field, value: name.into(), problem: "" };
        let change = if name == "bad" { Err(bad()) } else { Ok(Change::NodeGone(name.into())) };
        let trigger = Some(SystemTime::UNIX_EPOCH);
        Step::Said(Said::Object(Read { name: ObjectName::new("n", name), trigger, change }))
    }

    fn gone(name: &str) -> Step {
        Step::Said(Said::Gone(ObjectName::new("n", name)))
    }

    fn words(known: &mut Known, step: Step) -> Vec<String> {
        let mut told = Vec::new();
        known.take(step, &mut told);
        let word = |t: anyhow::Result<Told>| match t.expect("no error") {
            Told::Change(Change::NodeGone(name)) => format!("told {name}"),
            Told::Change(Change::ServiceGone(name)) => format!("gone {name}"),
            Told::Change(other) => panic!("{other:?}"),
            Told::Triggered(_) => "triggered".to_owned(),
            Told::Listed => "listed".to_owned(),
        };
        told.into_iter().map(word).collect()
    }

    fn known() -> Known {
        Known::new(Change::ServiceGone)
    }

    #[test]
    fn only_a_complete_list_tells_that_something_went() {
        let nothing = Vec::<String>::new();
        let known = &mut known();
        words(known, Step::List);
        assert_eq!(words(known, object("a")), ["told a"], "what was there at the start answers nothing");
        for name in ["c", "b"] {
            words(known, object(name));
        }
        assert_eq!(words(known, Step::Listed), ["listed"]);
        assert_eq!(words(known, Step::List), nothing);
        assert_eq!(words(known, object("a")).last().map(String::as_str), Some("told a"));
        assert_eq!(words(known, Step::List), nothing, "an interrupted list says nothing");
        words(known, object("b"));
        assert_eq!(words(known, Step::Listed), ["gone n/a", "gone n/c"]);
        assert_eq!(words(known, gone("b")), ["gone n/b"]);
        assert_eq!(words(known, gone("b")), nothing);
    }

    #[test]
    fn a_change_is_told_with_what_triggered_it() {
        let known = &mut known();
        words(known, Step::List);
        words(known, Step::Listed);
        assert_eq!(words(known, object("a")), ["triggered", "told a"]);
    }

    #[test]
    fn what_cannot_be_used_is_taken_back() {
        let known = &mut known();
        assert_eq!(words(known, object("bad")), Vec::<String>::new());
        known.remember(ObjectName::new("n", "bad"));
        assert_eq!(words(known, object("bad")), ["gone n/bad"]);
    }
}
