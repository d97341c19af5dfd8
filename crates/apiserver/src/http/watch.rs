//! The watch response: events of a selection as a stream of JSON lines.
//!
//! The stream is pulled: nothing is read from the store before the client has taken what was sent, so
//! a slow client costs no memory. One that falls behind what the store remembers gets a 410 and ends.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::request::{Query, Target};
use super::respond::{self, Body, Format, Shape};
use crate::error::ApiError;
use crate::registry::list::{ListQuery, Moment, Selection, parse_revision, refuse_match};
use crate::registry::{Registry, object, storage, store_error};
use crate::store::{Event, EventKind, StoreError, Watcher};
use crate::table::{self, Include};

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Seconds; a watch without `timeoutSeconds` ends after one to two times this.
const DEFAULT_TIMEOUT: u64 = 1800;

/// How a watch begins and ends.
struct Options {
    bookmarks: bool,
    /// Present objects first; with the marked bookmark after them if the client asked.
    initial: Option<bool>,
    revision: u64,
    timeout: Duration,
}

impl Options {
    fn parse(query: &Query) -> Result<Self, ApiError> {
        let version = query.get("resourceVersion").unwrap_or_default();
        let revision = parse_revision(version)?;
        let matching = query.get("resourceVersionMatch");
        let asked = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
        match (asked, matching) {
            (None, Some(_)) => {
                return Err(refuse_match(
                    "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            (Some(_), Some("NotOlderThan")) | (None, None) => {}
            (Some(_), _) => {
                return Err(refuse_match(
                    "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
        }
        let seconds = query.number("timeoutSeconds")?.filter(|s| *s > 0);
        let seconds =
            seconds.unwrap_or_else(|| rand::rng().random_range(DEFAULT_TIMEOUT..2 * DEFAULT_TIMEOUT));
        let initial = match asked {
            Some(true) => Some(true),
            Some(false) => None,
            None => (revision == 0).then_some(false),
        };
        let bookmarks = query.flag("allowWatchBookmarks");
        Ok(Self { bookmarks, initial, revision, timeout: Duration::from_secs(seconds.min(86_400)) })
    }
}

/// Answers a watch request.
pub async fn respond(
    registry: &Registry,
    target: Target,
    query: &Query,
    format: Format,
    shutdown: CancellationToken,
) -> Result<Response<Body>, ApiError> {
    let options = Options::parse(query)?;
    let selection = Selection::parse(&target, query)?;
    let renderer =
        Renderer { target, selection, shape: format.shape, include: include(query), headed: false };
    let (first, watcher) = match begin(registry, renderer, &options).await {
        Ok(begun) => begun,
        // As kube-apiserver: the stream opens, says that it is too late and ends.
        Err((_, e)) if e.code == 410 => return Ok(stream_response(futures::stream::iter([Ok(failure(&e))]))),
        Err((_, e)) => return Err(e),
    };
    let (renderer, first) = first;
    let deadline = Instant::now() + options.timeout;
    let state = State {
        renderer,
        watcher,
        first: (!first.is_empty()).then(|| Bytes::from(first)),
        bookmarks: options.bookmarks,
        alarm: Box::pin(sleep_until(alarm(options.bookmarks, deadline))),
        deadline,
        shutdown: Box::pin(shutdown.cancelled_owned()),
        ended: false,
    };
    let frames = futures::stream::unfold(state, |mut state| async move {
        let bytes = state.next().await?;
        Some((Ok(bytes), state))
    });
    Ok(stream_response(frames))
}

/// Which objects a table's rows carry.
pub fn include(query: &Query) -> Include {
    match query.get("includeObject") {
        Some("None") => Include::None,
        Some("Object") => Include::Object,
        _ => Include::Metadata,
    }
}

fn stream_response(
    frames: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> Response<Body> {
    use futures::StreamExt;
    let body = StreamBody::new(frames.map(|bytes| bytes.map(Frame::data)));
    let mut response = respond::bytes(200, "application/json", Bytes::new());
    *response.body_mut() = body.boxed_unsync();
    response
}

type Begun = ((Renderer, Vec<u8>), Watcher);

async fn begin(
    registry: &Registry,
    mut renderer: Renderer,
    options: &Options,
) -> Result<Begun, ((), ApiError)> {
    let fail = |e: ApiError| ((), e);
    let prefix = storage::prefix(&renderer.target.resource, &renderer.target.namespace);
    let current = registry.store.revision();
    if options.revision > current {
        let future = StoreError::Future { asked: options.revision, current };
        return Err(fail(store_error(future)));
    }
    let Some(marked) = options.initial else {
        let from = if options.revision == 0 { current } else { options.revision };
        let watcher = registry.store.watch(&prefix, from).map_err(|e| fail(store_error(e)))?;
        return Ok(((renderer, Vec::new()), watcher));
    };
    let everything = ListQuery {
        selection: Selection::parse(&renderer.target, &Query::default()).map_err(fail)?,
        limit: 0,
        moment: Moment::AtLeast(0),
        after: None,
    };
    let listed = registry.list(&renderer.target, &everything).await.map_err(fail)?;
    let mut out = Vec::new();
    for item in &listed.items {
        renderer.present(item, &mut out).map_err(fail)?;
    }
    if marked && options.bookmarks {
        renderer.bookmark(listed.revision, true, &mut out);
    }
    let watcher = registry.store.watch(&prefix, listed.revision).map_err(|e| fail(store_error(e)))?;
    Ok(((renderer, out), watcher))
}

/// What is waited for besides events is made once, not for each event: a write wakes every watcher.
struct State {
    renderer: Renderer,
    watcher: Watcher,
    first: Option<Bytes>,
    bookmarks: bool,
    /// The next bookmark, or the end.
    alarm: Pin<Box<Sleep>>,
    deadline: Instant,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

fn alarm(bookmarks: bool, deadline: Instant) -> Instant {
    if bookmarks { deadline.min(Instant::now() + BOOKMARK_EVERY) } else { deadline }
}

impl State {
    /// The next bytes for the client; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        while !self.ended {
            let batch = tokio::select! {
                biased;
                () = self.shutdown.as_mut() => return None,
                () = self.alarm.as_mut() => {
                    if Instant::now() >= self.deadline {
                        return None;
                    }
                    self.alarm.as_mut().reset(alarm(self.bookmarks, self.deadline));
                    self.watcher.ready().await
                }
                batch = self.watcher.next() => batch,
            };
            let mut out = Vec::new();
            match batch {
                Ok(batch) if batch.events.is_empty() => {
                    self.renderer.bookmark(batch.revision, false, &mut out);
                }
                Ok(batch) => {
                    for event in &batch.events {
                        if let Err(e) = self.renderer.event(event, &mut out) {
                            self.ended = true;
                            out.extend_from_slice(&failure(&e));
                            break;
                        }
                    }
                }
                Err(e) => {
                    self.ended = true;
                    out.extend_from_slice(&failure(&store_error(e)));
                }
            }
            if !out.is_empty() {
                return Some(out.into());
            }
        }
        None
    }
}

fn failure(error: &ApiError) -> Bytes {
    let mut line = json!({"type": "ERROR", "object": error.to_status()}).to_string();
    line.push('\n');
    line.into()
}

/// Turns events into lines, in the shape that the client asked for.
struct Renderer {
    target: Target,
    selection: Selection,
    shape: Shape,
    include: Include,
    /// A table's columns are sent once.
    headed: bool,
}

impl Renderer {
    fn is_raw(&self) -> bool {
        self.shape == Shape::Plain && storage::answers_as_stored(&self.target.resource)
    }

    fn parse(&self, bytes: &Bytes) -> Result<Value, ApiError> {
        Ok(storage::from_stored(&self.target.resource, object::parse(bytes)?))
    }

    /// An object that was there when the watch began.
    fn present(&mut self, bytes: &Bytes, out: &mut Vec<u8>) -> Result<(), ApiError> {
        if self.selection.is_everything() && self.is_raw() {
            raw("ADDED", bytes, out);
            return Ok(());
        }
        let value = self.parse(bytes)?;
        if self.selection.matches(&value) {
            self.line("ADDED", value, out);
        }
        Ok(())
    }

    /// An event as this selection sees it: objects enter and leave it by changing.
    fn event(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), ApiError> {
        if self.selection.is_everything() && self.is_raw() {
            raw(kind_name(event.kind), &event.object, out);
            return Ok(());
        }
        let now = self.parse(&event.object)?;
        if self.selection.is_everything() {
            self.line(kind_name(event.kind), now, out);
            return Ok(());
        }
        let before = event.previous.as_ref().map(|b| self.parse(b)).transpose()?;
        let was_in = before.as_ref().is_some_and(|b| self.selection.matches(b));
        let is_in = event.kind != EventKind::Deleted && self.selection.matches(&now);
        match (was_in, is_in) {
            (false, false) => {}
            (false, true) => self.line("ADDED", now, out),
            (true, true) => self.line("MODIFIED", now, out),
            (true, false) if event.kind == EventKind::Deleted => self.line("DELETED", now, out),
            (true, false) => {
                let mut left = before.unwrap_or(now);
                object::set_metadata(&mut left, "resourceVersion", Some(event.revision.to_string().into()));
                self.line("DELETED", left, out);
            }
        }
        Ok(())
    }

    fn line(&mut self, kind: &str, value: Value, out: &mut Vec<u8>) {
        let shaped = match self.shape {
            Shape::Plain => value,
            Shape::Partial => partial(&value),
            Shape::Table => {
                let meta = json!({"resourceVersion": object::resource_version(&value)});
                self.table(&[&value], meta)
            }
        };
        push_line(kind, &shaped, out);
    }

    fn table(&mut self, items: &[&Value], meta: Value) -> Value {
        let now = jiff::Timestamp::now();
        let mut table = table::render(&self.target.resource, items, meta, self.include, now);
        if self.headed {
            table["columnDefinitions"] = json!([]);
        }
        self.headed = true;
        table
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool, out: &mut Vec<u8>) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let resource = &self.target.resource;
        let shaped = match self.shape {
            Shape::Plain => {
                let mut empty = crate::schema::schema().empty(resource.gvk());
                empty["metadata"] = metadata;
                empty
            }
            Shape::Partial => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Shape::Table => self.table(&[], metadata),
        };
        push_line("BOOKMARK", &shaped, out);
    }
}

fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Added => "ADDED",
        EventKind::Modified => "MODIFIED",
        EventKind::Deleted => "DELETED",
    }
}

fn raw(kind: &str, object: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

fn push_line(kind: &str, object: &Value, out: &mut Vec<u8>) {
    raw(kind, object.to_string().as_bytes(), out);
}

/// `PartialObjectMetadata` of an object.
pub fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").unwrap_or(&Value::Null),
    })
}
