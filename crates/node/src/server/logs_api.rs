//! `containerLogs`: finds the right log, and streams it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::logs::{Options, Stream, read::Reader};
use super::query::Query;
use super::{Api, Refusal, check_name};
use crate::pod::{Snapshot, spec};
use crate::runtime::{ContainerId, ContainerState, Runtime, RuntimeError};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(50);

pub async fn container_logs(
    State(api): State<Arc<Api>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let options = options(&Query::parse(query.as_deref()), Timestamp::now())
        .map_err(|cause| Refusal(StatusCode::UNPROCESSABLE_ENTITY, cause))?;
    let snapshot = api.find(&namespace, &pod)?;
    let id = choose(&snapshot, &container, options.previous)?;
    let path = api.runtime.log_path(&id).await.map_err(|e| unreadable(&e))?;
    let opening = {
        let options = options.clone();
        move || Reader::open(&path, &options)
    };
    let reader = tokio::task::spawn_blocking(opening).await.map_err(|e| unreadable(&e))?;
    let reader = reader.map_err(|e| unreadable(&e))?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(stream(reader, sender, options.follow.then(|| (api.runtime.clone(), id))));
    if let Ok(upgrade) = upgrade {
        let upgrade = upgrade.protocols(["binary.k8s.io", "base64.binary.k8s.io"]);
        return Ok(upgrade.on_upgrade(|socket| as_messages(socket, receiver)));
    }
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(header::CONTENT_TYPE, "text/plain")], body).into_response())
}

/// The log as messages of a WebSocket, for clients that ask for one.
async fn as_messages(mut socket: WebSocket, mut pieces: mpsc::Receiver<std::io::Result<Bytes>>) {
    let base64 = socket.protocol().is_some_and(|p| p == "base64.binary.k8s.io");
    while let Some(Ok(piece)) = pieces.recv().await {
        let message = match base64 {
            true => Message::Text(STANDARD.encode(&piece).into()),
            false => Message::Binary(piece),
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
    let _ = socket.send(Message::Close(None)).await;
}

fn unreadable(error: &dyn std::fmt::Display) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to read the container's log: {error}"))
}

/// Reads the query as kubelet does.
fn options(query: &Query, now: Timestamp) -> Result<Options, String> {
    let since_seconds = query.number("sinceSeconds")?;
    let since_time = query.get("sinceTime").filter(|t| !t.is_empty());
    let since = match (since_seconds, since_time) {
        (Some(_), Some(_)) => {
            return Err("at most one of `sinceTime` or `sinceSeconds` may be specified".into());
        }
        (Some(secs), None) if secs < 1 => return Err("sinceSeconds: must be greater than 0".into()),
        (Some(secs), None) => Some(now - SignedDuration::from_secs(secs)),
        (None, Some(time)) => Some(time.parse().map_err(|_| format!("sinceTime: {time:?} is not a time"))?),
        (None, None) => None,
    };
    let not_negative = |key: &str| match query.number(key)? {
        Some(n) if n < 0 => Err(format!("{key}: must be greater than or equal to 0")),
        n => Ok(n.map(|n| n.unsigned_abs())),
    };
    let stream = match query.get("stream") {
        Some("Stdout") => Some(Stream::Stdout),
        Some("Stderr") => Some(Stream::Stderr),
        _ => None,
    };
    Ok(Options {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        tail: not_negative("tailLines")?,
        limit_bytes: not_negative("limitBytes")?,
        since,
        stream,
    })
}

/// The container whose log is meant, or why there is none.
fn choose(snapshot: &Snapshot, container: &str, previous: bool) -> Result<ContainerId, Refusal> {
    check_name(snapshot, container)?;
    let pod = spec::name(&snapshot.pod);
    let record = snapshot.state.record(container);
    if previous {
        let last = record.and_then(|r| match &r.life {
            crate::pod::state::Life::Running { .. } => r.last.as_ref(),
            crate::pod::state::Life::Exited(exit) if r.last.is_none() && r.restarts == 0 => Some(exit),
            _ => r.last.as_ref(),
        });
        let id = last.map(|l| l.container_id.clone()).filter(|id| !id.is_empty());
        return id.map(ContainerId).ok_or_else(|| {
            let text = format!("previous terminated container \"{container}\" in pod \"{pod}\" not found");
            Refusal(StatusCode::BAD_REQUEST, text)
        });
    }
    if let Some(id) = record.and_then(|r| r.container_id()) {
        return Ok(ContainerId(id.to_owned()));
    }
    let why = match waiting_reason(snapshot, container).as_deref() {
        Some("ErrImagePull") => "image can't be pulled".to_owned(),
        Some("ImagePullBackOff") => "trying and failing to pull image".to_owned(),
        Some(reason) => reason.to_owned(),
        None => "ContainerCreating".to_owned(),
    };
    let text = format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {why}");
    Err(Refusal(StatusCode::BAD_REQUEST, text))
}

fn waiting_reason(snapshot: &Snapshot, container: &str) -> Option<String> {
    let status = &snapshot.status;
    let ephemeral = &status.ephemeral_container_statuses;
    let of_spec = status.init_container_statuses.iter().chain(&status.container_statuses);
    let mut all = of_spec.chain(ephemeral).flatten();
    all.find(|c| c.name == container)?.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

type Sender = mpsc::Sender<std::io::Result<Bytes>>;

/// Sends the log; with a container to follow, until that has ended and all is sent.
async fn stream(mut reader: Reader, sender: Sender, follow: Option<(Runtime, ContainerId)>) {
    let mut last_look = false;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let piece = reader.piece();
            (reader, piece)
        });
        let Ok((returned, piece)) = read.await else { return };
        reader = returned;
        match piece {
            Ok(piece) if !piece.is_empty() => {
                if sender.send(Ok(piece.into())).await.is_err() || reader.full() {
                    return;
                }
                continue;
            }
            Ok(_) => {}
            Err(e) => {
                let _ = sender.send(Err(e)).await;
                return;
            }
        }
        let Some((runtime, id)) = &follow else { return };
        if last_look || reader.full() {
            return;
        }
        // What was written between the last read and the end is read once more.
        last_look = ended(runtime, id).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = sender.closed() => return,
        }
    }
}

async fn ended(runtime: &Runtime, id: &ContainerId) -> bool {
    match runtime.container(id).await {
        Ok(container) => matches!(container.state, ContainerState::Exited(_)),
        Err(RuntimeError::NoContainer { .. } | RuntimeError::NoSandbox { .. }) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Options, String> {
        let now = Timestamp::from_second(1000).expect("in range");
        options(&Query::parse(Some(query)), now)
    }

    #[test]
    fn queries_become_options() {
        let all = read(
            "follow=true&previous=false&timestamps=true&tailLines=5&limitBytes=9&sinceSeconds=10&stream=Stderr",
        );
        let want = Options {
            follow: true,
            previous: false,
            timestamps: true,
            tail: Some(5),
            limit_bytes: Some(9),
            since: Timestamp::from_second(990).ok(),
            stream: Some(Stream::Stderr),
        };
        assert_eq!(all, Ok(want));
        assert_eq!(
            read("sinceTime=1970-01-01T00:00:07Z").map(|o| o.since),
            Ok(Timestamp::from_second(7).ok())
        );
        for bad in [
            "tailLines=-1",
            "tailLines=x",
            "sinceTime=noon",
            "sinceSeconds=0",
            "sinceSeconds=1&sinceTime=1970-01-01T00:00:07Z",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
