//! `portForward`: connections to ports of a pod, each over a pair of streams: one for bytes, one for an error.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::channels::Coding;
use super::tunnel;
use super::upgrade::{self, Upgrade};
use crate::pod::spec;
use crate::sandbox::dial;
use crate::server::query::Query;
use crate::server::spdy::{Connection, Stream};
use crate::server::{Api, Refusal};

const SPDY: [&str; 1] = ["portforward.k8s.io"];
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const CHANNELS: [&str; 3] = ["v4.channel.k8s.io", "portforward.k8s.io", "v4.base64.channel.k8s.io"];
/// How long the second stream of a pair may take.
const PAIR_TIMEOUT: Duration = Duration::from_secs(30);
const CHUNK: usize = 32 << 10;

/// The pod whose ports are asked for.
#[derive(Clone)]
struct Target {
    uid: String,
    name: String,
    netns: PathBuf,
}

/// Forwards connections until the client leaves.
pub async fn port_forward(
    State(api): State<Arc<Api>>,
    Path((namespace, pod)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let snapshot = api.find(&namespace, &pod)?;
    let uid = spec::uid(&snapshot.pod).to_owned();
    let sandbox = api.runtime.sandbox(&uid).await.ok().filter(|s| s.ready);
    let sandbox = sandbox.ok_or_else(|| {
        let text =
            format!("unable to forward port because pod is not running: pod {pod:?} has no sandbox yet");
        Refusal(StatusCode::BAD_REQUEST, text)
    })?;
    let target = Target { uid, name: format!("{pod}_{namespace}"), netns: sandbox.netns };
    match upgrade::of(request, &SPDY).await? {
        Upgrade::Spdy(spdy) => Ok(spdy.grant(|connection| pairs(connection, target))),
        Upgrade::WebSocket(upgrade) => {
            let ports = ports(&Query::parse(query.as_deref()))?;
            let upgrade = upgrade.protocols([TUNNEL].into_iter().chain(CHANNELS));
            Ok(upgrade.on_upgrade(|socket| async move {
                if socket.protocol().is_some_and(|p| p == TUNNEL) {
                    return pairs(Connection::serve(tunnel::bytes(socket)), target).await;
                }
                channels(socket, ports, target).await;
            }))
        }
    }
}

fn ports(query: &Query) -> Result<Vec<u16>, Refusal> {
    let listed = query.all("port").flat_map(|p| p.split(','));
    listed
        .map(|text| {
            let port = text.parse().ok().filter(|p| *p != 0);
            port.ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, format!("invalid port {text:?}")))
        })
        .collect()
}

/// Joins streams that belong together, and forwards each pair in a task of its own.
async fn pairs(mut connection: Connection, target: Target) {
    let mut waiting: HashMap<String, (Stream, tokio::time::Instant)> = HashMap::new();
    while let Some(stream) = connection.accept().await {
        waiting.retain(|_, (_, since)| since.elapsed() < PAIR_TIMEOUT);
        let kind = stream.header("streamtype").unwrap_or_default().to_owned();
        let port = stream.header("port").and_then(|p| p.parse::<u16>().ok()).filter(|p| *p != 0);
        let (Some(port), "data" | "error") = (port, kind.as_str()) else {
            stream.writer.reset().await;
            continue;
        };
        // Clients from before requests had ids open the data stream right after the error stream.
        let earlier = if kind == "data" { stream.id.saturating_sub(2) } else { stream.id };
        let request = stream.header("requestid").map_or_else(|| format!("#{earlier}"), str::to_owned);
        stream.accept().await;
        let Some((other, _)) = waiting.remove(&request) else {
            waiting.insert(request, (stream, tokio::time::Instant::now()));
            continue;
        };
        let (data, error) = if kind == "data" { (stream, other) } else { (other, stream) };
        tokio::spawn(forward(data, error, port, target.clone()));
    }
}

async fn forward(data: Stream, error: Stream, port: u16, target: Target) {
    match dial::localhost(target.netns.clone(), port).await {
        Ok(stream) => {
            let (gone, writer) = (data.gone.clone(), data.writer.clone());
            let work = async {
                let mut reader = data.reader;
                let (mut from_pod, mut to_pod) = stream.into_split();
                let up = async {
                    while let Some(bytes) = reader.recv().await {
                        if to_pod.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                    let _ = to_pod.shutdown().await;
                };
                let down = async {
                    let mut buffer = vec![0; CHUNK];
                    while let Ok(count @ 1..) = from_pod.read(&mut buffer).await {
                        if !writer.write(Bytes::copy_from_slice(&buffer[..count])).await {
                            return;
                        }
                    }
                    writer.finish().await;
                };
                tokio::join!(up, down)
            };
            tokio::select! {
                _ = work => {}
                () = gone.cancelled() => {}
            }
        }
        Err(cause) => {
            error.writer.write(failure(&target, port, &cause).into()).await;
            data.writer.reset().await;
        }
    }
    error.writer.finish().await;
}

fn failure(target: &Target, port: u16, cause: &str) -> String {
    let Target { uid, name, .. } = target;
    tracing::debug!(pod = name, port, "port-forward: {cause}");
    format!("error forwarding port {port} to pod {name}, uid {uid}: {cause}")
}

/// The form from before SPDY went through WebSockets: for the n-th port, channel 2n carries bytes and 2n+1 an
/// error; each begins with the port, two bytes, the low one first.
async fn channels(socket: WebSocket, ports: Vec<u16>, target: Target) {
    let coding = Coding::of(socket.protocol().and_then(|p| p.to_str().ok()));
    let (mut sink, mut messages) = socket.split();
    let (sender, mut outgoing) = mpsc::channel::<Message>(16);
    let mut inputs = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for (at, port) in ports.into_iter().take(127).enumerate() {
        let (input, bytes) = mpsc::channel(16);
        inputs.push(input);
        let channel = Channel { at: 2 * at as u8, coding, sender: sender.clone() };
        tasks.spawn(forward_channel(channel, port, bytes, target.clone()));
    }
    drop(sender);
    let send = async {
        while let Some(message) = outgoing.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    };
    let receive = async {
        while let Some(Ok(message)) = messages.next().await {
            let Some(bytes) = coding.decode(&message) else { continue };
            if let Some((channel, bytes)) = bytes.split_first()
                && channel.is_multiple_of(2)
                && let Some(input) = inputs.get(usize::from(channel / 2))
            {
                let _ = input.send(Bytes::copy_from_slice(bytes)).await;
            }
        }
    };
    tokio::select! {
        () = send => {}
        () = receive => {}
    }
}

struct Channel {
    at: u8,
    coding: Coding,
    sender: mpsc::Sender<Message>,
}

impl Channel {
    async fn say(&self, offset: u8, bytes: &[u8]) -> bool {
        self.sender.send(self.coding.encode(self.at + offset, bytes)).await.is_ok()
    }
}

async fn forward_channel(channel: Channel, port: u16, mut input: mpsc::Receiver<Bytes>, target: Target) {
    for offset in [0, 1] {
        channel.say(offset, &port.to_le_bytes()).await;
    }
    let stream: TcpStream = match dial::localhost(target.netns.clone(), port).await {
        Ok(stream) => stream,
        Err(cause) => {
            channel.say(1, failure(&target, port, &cause).as_bytes()).await;
            return;
        }
    };
    let (mut from_pod, mut to_pod) = stream.into_split();
    let up = async {
        while let Some(bytes) = input.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = from_pod.read(&mut buffer).await {
            if !channel.say(0, &buffer[..count]).await {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
