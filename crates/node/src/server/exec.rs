//! `exec` and `attach`: a WebSocket on one side, a program's streams on the other.

use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::channels::{Output, PROTOCOLS, Said, ending, output, understand};
use super::query::Query;
use super::{Api, Refusal};
use crate::runtime::{
    ContainerId, ExecSession, ExecSpec, RuntimeError, SessionControl, StreamReader, StreamWriter,
};

const CHUNK: usize = 32 * 1024;
type Names = (String, String, String);

/// Runs a program in a container.
pub async fn exec(
    State(api): State<Arc<Api>>,
    Path((namespace, pod, container)): Path<Names>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref());
    let id = api.running(&*api.find(&namespace, &pod)?, &container)?;
    let spec = ExecSpec {
        argv: query.all("command").map(str::to_owned).collect(),
        tty: query.flag("tty"),
        stdin: query.any_flag(["stdin", "input"]),
    };
    if spec.argv.is_empty() {
        return Err(Refusal(StatusCode::BAD_REQUEST, "you must specify at least one command".into()));
    }
    let upgrade = upgrade.map_err(only_websockets)?;
    let runtime = api.runtime.clone();
    Ok(switch(upgrade, async move { runtime.exec(&id, spec).await }))
}

/// Connects to the container's own program.
pub async fn attach(
    State(api): State<Arc<Api>>,
    Path((namespace, pod, container)): Path<Names>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref());
    let id: ContainerId = api.running(&*api.find(&namespace, &pod)?, &container)?;
    let stdin = query.any_flag(["stdin", "input"]);
    let upgrade = upgrade.map_err(only_websockets)?;
    let runtime = api.runtime.clone();
    Ok(switch(upgrade, async move { runtime.attach(&id, stdin).await }))
}

fn only_websockets(_: axum::extract::ws::rejection::WebSocketUpgradeRejection) -> Refusal {
    let text = "this node speaks WebSocket (v5.channel.k8s.io) for exec and attach, not SPDY: use kubectl 1.31 or newer";
    Refusal(StatusCode::BAD_REQUEST, text.into())
}

fn switch<F>(upgrade: WebSocketUpgrade, open: F) -> Response
where
    F: Future<Output = Result<ExecSession, RuntimeError>> + Send + 'static,
{
    upgrade.protocols(PROTOCOLS).on_upgrade(move |socket| async move {
        let v5 = socket.protocol().and_then(|p| p.to_str().ok()).is_none_or(|p| p == PROTOCOLS[0]);
        let (mut sink, stream) = socket.split();
        let result = match open.await {
            Ok(session) => talk(&mut sink, stream, session, v5).await,
            Err(e) => Err(format!("error executing command in container: {e}")),
        };
        let _ = sink.send(Message::Binary(ending(&result).into())).await;
        let _ = sink.send(Message::Close(Some(CloseFrame { code: 1000, reason: "".into() }))).await;
        let _ = sink.close().await;
    })
}

/// Carries bytes both ways until the program ends, then what it still has to say.
async fn talk(
    sink: &mut SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    mut session: ExecSession,
    v5: bool,
) -> Result<i32, String> {
    let (sender, mut outputs) = mpsc::channel::<Vec<u8>>(8);
    for (reader, of) in [(session.stdout.take(), Output::Stdout), (session.stderr.take(), Output::Stderr)] {
        if let Some(reader) = reader {
            tokio::spawn(pump(reader, of, sender.clone()));
        }
    }
    drop(sender);
    let (resizes, mut sizes) = mpsc::channel(4);
    let mut input = Input(tokio::spawn(listen(stream, session.stdin.take(), resizes, v5)));
    let mut ended = None;
    let mut drained = false;
    loop {
        tokio::select! {
            message = outputs.recv(), if !drained => match message {
                Some(bytes) => sink.send(Message::Binary(bytes.into())).await.map_err(|e| e.to_string())?,
                None => drained = true,
            },
            Some((columns, rows)) = sizes.recv() => {
                let _ = session.control.resize(columns, rows);
            }
            code = wait(&mut session.control), if ended.is_none() => ended = Some(code),
            // The client went away: the program is killed when its control is dropped.
            _ = &mut input.0, if ended.is_none() => return Err("the client is gone".into()),
        }
        if let (Some(code), true) = (&ended, drained) {
            return code.clone();
        }
    }
}

/// The task that listens to the client, ended when dropped.
struct Input(tokio::task::JoinHandle<()>);

impl Drop for Input {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn wait(control: &mut SessionControl) -> Result<i32, String> {
    control.wait().await.map_err(|e| format!("error executing command in container: {e}"))
}

async fn pump(mut reader: StreamReader, of: Output, sender: mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n) = reader.read(&mut buffer).await {
        if n == 0 || sender.send(output(of, &buffer[..n])).await.is_err() {
            return;
        }
    }
}

/// Ends when the client is gone, not when its input ends.
async fn listen(
    mut stream: SplitStream<WebSocket>,
    mut stdin: Option<StreamWriter>,
    resizes: mpsc::Sender<(u16, u16)>,
    v5: bool,
) {
    while let Some(Ok(message)) = stream.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            _ => continue,
        };
        match understand(&bytes, v5) {
            Said::Stdin(bytes) => {
                if let Some(pipe) = &mut stdin
                    && (pipe.write_all(bytes).await.is_err() || pipe.flush().await.is_err())
                {
                    stdin = None;
                }
            }
            Said::StdinEnds => stdin = None,
            Said::Resize { columns, rows } => {
                let _ = resizes.send((columns, rows)).await;
            }
            Said::Nothing => {}
        }
    }
}
