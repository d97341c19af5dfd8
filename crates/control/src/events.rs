//! The event recorder: never blocks, folds repetitions into counts, and holds back floods.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use daymark_model::ObjectName;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

use crate::action::{EventNote, to_value};
use crate::object::Kind;
use crate::runner::write::send;

/// Records events through the API, in the background.
#[derive(Clone)]
pub struct EventRecorder {
    notes: mpsc::Sender<EventNote>,
}

impl EventRecorder {
    /// A recorder that speaks from `host` (a node's name, or empty for the control plane).
    /// Must be called inside a tokio runtime.
    pub fn new(client: Client, host: &str) -> Self {
        let (notes, input) = mpsc::channel(1024);
        tokio::spawn(write_all(client, host.to_owned(), input));
        Self { notes }
    }

    /// Records an event. If a thousand are waiting it is dropped: events are told on a best-effort basis.
    pub fn record(&self, note: EventNote) {
        if let Err(error) = self.notes.try_send(note) {
            debug!(%error, "an event was dropped");
        }
    }
}

async fn write_all(client: Client, host: String, mut input: mpsc::Receiver<EventNote>) {
    let mut log = Correlator::default();
    let started = Instant::now();
    while let Some(note) = input.recv().await {
        let now = Timestamp::now();
        let Some(write) = log.fold(note, now, started.elapsed()) else { continue };
        if let Err(error) = tell(&client, &host, write, now, &mut log).await {
            debug!(%error, "an event was not recorded");
        }
    }
}

async fn tell(
    client: &Client,
    host: &str,
    write: Told,
    now: Timestamp,
    log: &mut Correlator,
) -> kube::Result<()> {
    let path = Kind::Event.path(&write.key, "");
    if write.count > 1 {
        let patch = json!({
            "count": write.count, "message": write.note.message,
            "lastTimestamp": to_value(&Time(now)),
        });
        match send(client, Method::PATCH, &path, "application/merge-patch+json", Some(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => return other.map(drop),
        }
    }
    let collection = Kind::Event.path(&ObjectName::new(&*write.key.namespace, ""), "");
    let body = to_value(&event(&write, host, now));
    let answer = send(client, Method::POST, &collection, "application/json", Some(&body)).await;
    if answer.is_err() {
        log.forget(&write);
    }
    answer.map(drop)
}

/// The API object of an event.
fn event(told: &Told, host: &str, now: Timestamp) -> Event {
    let note = &told.note;
    let host = (!host.is_empty()).then(|| host.to_owned());
    Event {
        metadata: ObjectMeta {
            namespace: Some(told.key.namespace.to_string()),
            name: Some(told.key.name.to_string()),
            ..Default::default()
        },
        involved_object: note.about.clone(),
        reason: Some(note.reason.into()),
        message: Some(note.message.clone()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        count: Some(told.count),
        first_timestamp: Some(Time(told.first)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(note.component.into()), host: host.clone() }),
        reporting_component: Some(note.component.into()),
        reporting_instance: Some(host.unwrap_or_default()),
        ..Default::default()
    }
}

/// An event to write: new if `count` is 1, else a repetition.
struct Told {
    note: EventNote,
    id: String,
    key: ObjectName,
    count: i32,
    first: Timestamp,
}

struct Seen {
    key: ObjectName,
    count: i32,
    first: Timestamp,
    last: Duration,
}

struct Similar {
    messages: u32,
    since: Duration,
}

struct Tokens {
    left: f64,
    at: Duration,
}

/// Decides which events are repetitions and which are too many.
#[derive(Default)]
struct Correlator {
    seen: BTreeMap<String, Seen>,
    similar: BTreeMap<String, Similar>,
    sources: BTreeMap<String, Tokens>,
}

const REMEMBERED: usize = 2048;
/// More different messages than this for one reason within [`SIMILAR_WINDOW`] are combined.
const SIMILAR: u32 = 10;
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);
/// Events of one component about one object: so many at once, and one more each five minutes.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

impl Correlator {
    fn fold(&mut self, mut note: EventNote, now: Timestamp, at: Duration) -> Option<Told> {
        let about = &note.about;
        let uid = about.uid.as_deref().or(about.name.as_deref()).unwrap_or_default();
        let source = format!("{}|{uid}", note.component);
        if !self.allows(&source, at) {
            return None;
        }
        let similar = format!("{source}|{}|{}", note.reason, note.warning);
        let mut id = format!("{similar}|{}", note.message);
        if !self.seen.contains_key(&id) && self.too_many(&similar, at) {
            note.message = format!("(combined from similar events): {}", note.message);
            id = similar;
        }
        self.tidy();
        let name = about.name.clone().unwrap_or_default();
        let namespace = about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or("default".into());
        let seen = self.seen.entry(id.clone()).or_insert_with(|| Seen {
            key: ObjectName::new(namespace, format!("{name}.{:x}", now.as_nanosecond())),
            count: 0,
            first: now,
            last: at,
        });
        seen.count += 1;
        seen.last = at;
        Some(Told { key: seen.key.clone(), count: seen.count, first: seen.first, note, id })
    }

    fn forget(&mut self, told: &Told) {
        self.seen.remove(&told.id);
    }

    fn too_many(&mut self, similar: &str, at: Duration) -> bool {
        let entry = self.similar.entry(similar.to_owned()).or_insert(Similar { messages: 0, since: at });
        if at.saturating_sub(entry.since) > SIMILAR_WINDOW {
            *entry = Similar { messages: 0, since: at };
        }
        entry.messages += 1;
        entry.messages > SIMILAR
    }

    fn allows(&mut self, source: &str, at: Duration) -> bool {
        let tokens = self.sources.entry(source.to_owned()).or_insert(Tokens { left: BURST, at });
        let passed = at.saturating_sub(tokens.at).as_secs_f64();
        tokens.left = (tokens.left + passed * REFILL_PER_SECOND).min(BURST);
        tokens.at = at;
        if tokens.left < 1.0 {
            return false;
        }
        tokens.left -= 1.0;
        true
    }

    /// Forgets everything old when there is too much to remember.
    fn tidy(&mut self) {
        if self.seen.len() >= REMEMBERED {
            let mut ages: Vec<_> = self.seen.values().map(|s| s.last).collect();
            ages.sort();
            let middle = ages[ages.len() / 2];
            self.seen.retain(|_, s| s.last > middle);
        }
        if self.similar.len() >= REMEMBERED {
            self.similar.clear();
        }
        if self.sources.len() >= REMEMBERED {
            self.sources.retain(|_, t| t.left < BURST - 5.0);
            if self.sources.len() >= REMEMBERED {
                self.sources.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn note(message: &str) -> EventNote {
        let about = ObjectReference {
            name: Some("web".into()),
            namespace: Some("shop".into()),
            uid: Some("u".into()),
            ..Default::default()
        };
        EventNote { about, warning: false, reason: "R", message: message.into(), component: "c" }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_repetition_raises_the_count_of_the_same_event() {
        let mut log = Correlator::default();
        let now = Timestamp::UNIX_EPOCH;
        let first = log.fold(note("a"), now, SECOND).unwrap();
        let again = log.fold(note("a"), now, 2 * SECOND).unwrap();
        let other = log.fold(note("b"), Timestamp::MAX, 3 * SECOND).unwrap();
        assert_eq!((first.count, again.count, other.count), (1, 2, 1));
        assert_eq!(first.key, again.key);
        assert_ne!(first.key, other.key);
    }

    #[test]
    fn many_similar_messages_are_combined_and_floods_are_held_back() {
        let mut log = Correlator::default();
        let told: Vec<_> =
            (0..40).filter_map(|i| log.fold(note(&i.to_string()), Timestamp::UNIX_EPOCH, SECOND)).collect();
        assert_eq!(told.len(), 25, "the burst");
        assert_eq!(told[9].note.message, "9");
        assert_eq!(told[10].note.message, "(combined from similar events): 10");
        assert_eq!(told[24].count, 15);
        assert!(log.fold(note("x"), Timestamp::UNIX_EPOCH, 302 * SECOND).is_some(), "a token came back");
        assert!(log.fold(note("x"), Timestamp::UNIX_EPOCH, 302 * SECOND).is_none());
    }
}
