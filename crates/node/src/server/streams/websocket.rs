//! A client of exec or attach that speaks WebSocket.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;

use super::channels::Dialect;
use super::session::{Client, Told};

/// How long a client may take to leave after it was told the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Channels of a connected client; they end with its connection.
pub fn client(socket: WebSocket) -> Client {
    let dialect = Dialect::of(socket.protocol().and_then(|p| p.to_str().ok()));
    let (mut sink, mut messages) = socket.split();
    let (hear, said) = mpsc::channel(16);
    let (told, mut outgoing) = mpsc::channel(16);
    tokio::spawn(async move {
        let listen = async {
            while let Some(Ok(message)) = messages.next().await {
                if matches!(message, Message::Close(_)) {
                    return;
                }
                if let Some(said) = dialect.understand(&message) {
                    // Nobody listens after the program's end.
                    let _ = hear.send(said).await;
                }
            }
        };
        let speak = async {
            while let Some(told) = outgoing.recv().await {
                let message = match &told {
                    Told::Output(of, bytes) => Some(dialect.output(*of, bytes)),
                    Told::Ending(result) => dialect.ending(result),
                };
                if let Some(message) = message
                    && sink.send(message).await.is_err()
                {
                    return;
                }
            }
            let _ = sink.send(Message::Close(Some(CloseFrame { code: 1000, reason: "".into() }))).await;
            let _ = sink.close().await;
        };
        let mut listen = std::pin::pin!(listen);
        tokio::select! {
            () = listen.as_mut() => {}
            // Input that nobody reads any more would reset the connection, and with it what was said last.
            () = speak => { let _ = tokio::time::timeout(CLOSE_TIMEOUT, listen).await; }
        }
    });
    Client { said, told }
}
