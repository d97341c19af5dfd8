//! A client of exec or attach that speaks SPDY: one stream for each of stdin, stdout, stderr, resize and error.

use std::time::Duration;

use tokio::sync::mpsc;

use super::channels::{Output, ending, resize};
use super::session::{Client, Said, Told, Wanted};
use crate::server::spdy::{Connection, Stream};

/// Subprotocols, best first.
pub const PROTOCOLS: [&str; 5] =
    ["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// How long the client may take to open its streams.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take to leave after it was told the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The streams of one client.
#[derive(Default)]
struct Streams {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    error: Option<Stream>,
    resize: Option<Stream>,
}

/// Waits for the streams that belong to the request; `None` if they do not come.
pub async fn client(mut connection: Connection, protocol: &str, wanted: Wanted) -> Option<Client> {
    let resizes = wanted.tty && !matches!(protocol, "v2.channel.k8s.io" | "channel.k8s.io");
    let streams = tokio::time::timeout(OPEN_TIMEOUT, open(&mut connection, wanted, resizes)).await.ok()??;
    let as_status = protocol.starts_with("v4.") || protocol.starts_with("v5.");
    let (hear, said) = mpsc::channel(16);
    let (told, outgoing) = mpsc::channel(16);
    tokio::spawn(async move {
        tokio::select! {
            () = listen(streams.stdin, streams.resize, hear) => {}
            () = speak(streams.stdout, streams.stderr, streams.error, outgoing, as_status) => {}
            // More streams are not expected; this notices the end of the connection.
            () = left(&mut connection) => {}
        }
        // A client that sees the end of the connection may drop what it has not read: it closes first.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, left(&mut connection)).await;
    });
    Some(Client { said, told })
}

/// Returns when the client has left.
async fn left(connection: &mut Connection) {
    while connection.accept().await.is_some() {}
}

async fn open(connection: &mut Connection, wanted: Wanted, resizes: bool) -> Option<Streams> {
    let mut streams = Streams::default();
    let missing = |s: &Streams| {
        s.error.is_none()
            || wanted.stdin && s.stdin.is_none()
            || wanted.stdout && s.stdout.is_none()
            || wanted.stderr && s.stderr.is_none()
            || resizes && s.resize.is_none()
    };
    while missing(&streams) {
        let stream = connection.accept().await?;
        let place = match stream.header("streamtype") {
            Some("stdin") => &mut streams.stdin,
            Some("stdout") => &mut streams.stdout,
            Some("stderr") => &mut streams.stderr,
            Some("error") => &mut streams.error,
            Some("resize") => &mut streams.resize,
            _ => {
                stream.writer.reset().await;
                continue;
            }
        };
        stream.accept().await;
        *place = Some(stream);
    }
    Some(streams)
}

/// Never ends by itself: that no input follows does not mean that the client is gone.
async fn listen(stdin: Option<Stream>, sizes: Option<Stream>, hear: mpsc::Sender<Said>) {
    let input = async {
        let Some(mut stdin) = stdin else { return };
        while let Some(bytes) = stdin.reader.recv().await {
            let _ = hear.send(Said::Stdin(bytes)).await;
        }
        let _ = hear.send(Said::StdinEnds).await;
    };
    let sizes = async {
        let Some(mut sizes) = sizes else { return };
        // Go's encoder ends each size with a line break.
        let mut pending = Vec::new();
        while let Some(bytes) = sizes.reader.recv().await {
            pending.extend_from_slice(&bytes);
            while let Some(end) = pending.iter().position(|b| *b == b'\n' || *b == b'}') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                if let Some(said) = resize(&line) {
                    let _ = hear.send(said).await;
                }
            }
            pending.truncate(1024);
        }
    };
    tokio::join!(input, sizes);
    std::future::pending::<()>().await;
}

async fn speak(
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    error: Option<Stream>,
    mut outgoing: mpsc::Receiver<Told>,
    as_status: bool,
) {
    while let Some(told) = outgoing.recv().await {
        match told {
            Told::Output(of, bytes) => {
                let stream = if of == Output::Stdout { &stdout } else { &stderr };
                if let Some(stream) = stream
                    && !stream.writer.write(bytes).await
                {
                    return;
                }
            }
            Told::Ending(result) => {
                if let (Some(stream), Some(bytes)) = (&error, ending(&result, as_status)) {
                    stream.writer.write(bytes.into()).await;
                }
            }
        }
    }
    for stream in [stdout, stderr, error].into_iter().flatten() {
        stream.writer.finish().await;
    }
}
