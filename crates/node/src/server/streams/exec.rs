//! `exec` and `attach`: who is meant and what is wanted; the streams are joined in `session`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::channels::PROTOCOLS;
use super::session::{Goal, Wanted, talk};
use super::upgrade::{self, Upgrade};
use super::{spdy_exec, websocket};
use crate::runtime::{ExecSession, ExecSpec, RuntimeError};
use crate::server::query::Query;
use crate::server::{Api, Refusal};

/// Sessions that a node serves at once.
pub const MOST_SESSIONS: usize = 200;
/// How long a session waits for another to end when there are so many.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

type Names = (String, String, String);

/// Runs a program in a container.
pub async fn exec(
    State(api): State<Arc<Api>>,
    Path((namespace, pod, container)): Path<Names>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref());
    let id = api.running(&*api.find(&namespace, &pod)?, &container)?;
    let wanted = wanted(&query)?;
    let argv: Vec<String> = query.all("command").map(str::to_owned).collect();
    if argv.is_empty() {
        return Err(Refusal(StatusCode::BAD_REQUEST, "you must specify at least one command".into()));
    }
    let spec = ExecSpec { argv, tty: wanted.tty, stdin: wanted.stdin };
    let (runtime, upgrade) = (api.runtime.clone(), upgrade::of(request, &spdy_exec::PROTOCOLS).await?);
    let turn = turn(&api.sessions).await?;
    let open = async move { runtime.exec(&id, spec).await };
    Ok(join(upgrade, Goal { wanted, code: true }, turn, open))
}

/// Connects to the container's own program.
pub async fn attach(
    State(api): State<Arc<Api>>,
    Path((namespace, pod, container)): Path<Names>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref());
    let id = api.running(&*api.find(&namespace, &pod)?, &container)?;
    let wanted = wanted(&query)?;
    let (runtime, upgrade) = (api.runtime.clone(), upgrade::of(request, &spdy_exec::PROTOCOLS).await?);
    let turn = turn(&api.sessions).await?;
    let open = async move { runtime.attach(&id, wanted.stdin).await };
    // The container's exit code is in the pod's status; attaching to it succeeded.
    Ok(join(upgrade, Goal { wanted, code: false }, turn, open))
}

/// Kubelet's names of the streams, and those of the API.
fn wanted(query: &Query) -> Result<Wanted, Refusal> {
    let tty = query.flag("tty");
    let wanted = Wanted {
        stdin: query.any_flag(["stdin", "input"]),
        stdout: query.any_flag(["stdout", "output"]),
        // A terminal has one output.
        stderr: query.any_flag(["stderr", "error"]) && !tty,
        tty,
    };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        let text = "you must specify at least 1 of stdin, stdout, stderr";
        return Err(Refusal(StatusCode::BAD_REQUEST, text.into()));
    }
    Ok(wanted)
}

async fn turn(sessions: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    let turn = tokio::time::timeout(TURN_TIMEOUT, sessions.clone().acquire_owned()).await;
    turn.ok().and_then(Result::ok).ok_or_else(|| {
        let text = format!(
            "this node serves {MOST_SESSIONS} exec and attach sessions already; end some or try later"
        );
        Refusal(StatusCode::TOO_MANY_REQUESTS, text)
    })
}

fn join<F>(upgrade: Upgrade, goal: Goal, turn: OwnedSemaphorePermit, open: F) -> Response
where
    F: Future<Output = Result<ExecSession, RuntimeError>> + Send + 'static,
{
    match upgrade {
        Upgrade::WebSocket(upgrade) => upgrade.protocols(PROTOCOLS).on_upgrade(move |socket| async move {
            let client = websocket::client(socket);
            talk(open, client, goal).await;
            drop(turn);
        }),
        Upgrade::Spdy(spdy) => {
            let protocol = spdy.protocol;
            spdy.grant(move |connection| async move {
                if let Some(client) = spdy_exec::client(connection, protocol, goal.wanted).await {
                    talk(open, client, goal).await;
                }
                drop(turn);
            })
        }
    }
}
