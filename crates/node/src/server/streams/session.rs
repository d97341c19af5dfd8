//! A program's streams on one side, a client's on the other, whatever the client speaks.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::channels::Output;
use crate::runtime::{ExecSession, RuntimeError, SessionControl, StreamReader, StreamWriter};

const CHUNK: usize = 32 << 10;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Stdin(Bytes),
    /// No more input follows.
    StdinEnds,
    Resize {
        columns: u16,
        rows: u16,
    },
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Output(Output, Bytes),
    /// The last: the exit code, or why there is none.
    Ending(Result<i32, String>),
}

/// Which of a program's streams a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    pub wanted: Wanted,
    /// The client is told the program's exit code.
    pub code: bool,
}

/// A connected client: the first channel closes when it is gone.
pub struct Client {
    pub said: mpsc::Receiver<Said>,
    pub told: mpsc::Sender<Told>,
}

/// Opens a session and carries bytes both ways until the program ends, then what it still has to say.
pub async fn talk<F>(open: F, client: Client, goal: Goal)
where
    F: Future<Output = Result<ExecSession, RuntimeError>>,
{
    let told = client.told.clone();
    let opened = tokio::select! {
        opened = open => opened,
        // Nobody waits for it any more.
        () = told.closed() => return,
    };
    let result = match opened {
        Ok(session) => carry(session, client, goal.wanted).await.map(|code| if goal.code { code } else { 0 }),
        Err(e) => Err(format!("error executing command in container: {e}")),
    };
    let _ = told.send(Told::Ending(result)).await;
}

async fn carry(mut session: ExecSession, client: Client, wanted: Wanted) -> Result<i32, String> {
    let Client { mut said, told } = client;
    let mut pumps = tokio::task::JoinSet::new();
    for (reader, of, shown) in [
        (session.stdout.take(), Output::Stdout, wanted.stdout),
        (session.stderr.take(), Output::Stderr, wanted.stderr),
    ] {
        if let Some(reader) = reader {
            pumps.spawn(pump(reader, of, told.clone(), shown));
        }
    }
    let (feed, input) = mpsc::channel(16);
    // Aborted when this ends: a program that never reads must not keep its pipe open for a client that left.
    let mut feeder = tokio::task::JoinSet::new();
    feeder.spawn(write(session.stdin.take(), input));
    let mut feed = Some(feed);
    let mut control = session.control;
    let code = loop {
        tokio::select! {
            code = wait(&mut control) => break code,
            heard = said.recv() => match heard {
                Some(Said::Stdin(bytes)) => {
                    // A program that does not read holds up its own client alone.
                    if let Some(feed) = &feed {
                        tokio::select! {
                            _ = feed.send(bytes) => {}
                            code = wait(&mut control) => break code,
                        }
                    }
                }
                Some(Said::StdinEnds) => feed = None,
                Some(Said::Resize { columns, rows }) => { let _ = control.resize(columns, rows); }
                // The program is killed when its control is dropped.
                None => return Err("the client is gone".into()),
            },
        }
    };
    let drained = async { while pumps.join_next().await.is_some() {} };
    tokio::select! {
        () = drained => {}
        () = told.closed() => {}
    }
    code
}

async fn wait(control: &mut SessionControl) -> Result<i32, String> {
    control.wait().await.map_err(|e| format!("error executing command in container: {e}"))
}

async fn pump(mut reader: StreamReader, of: Output, told: mpsc::Sender<Told>, shown: bool) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        if shown && told.send(Told::Output(of, Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
            return;
        }
    }
}

/// Writes to the program until the client's input ends or the program takes no more.
async fn write(stdin: Option<StreamWriter>, mut input: mpsc::Receiver<Bytes>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = input.recv().await {
        if stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}
