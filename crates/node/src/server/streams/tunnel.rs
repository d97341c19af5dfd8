//! A WebSocket as a plain stream of bytes, for SPDY tunnelled inside it.

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const BUFFER: usize = 64 << 10;

/// Binary messages as one stream of bytes; the WebSocket closes with it.
pub fn bytes(socket: WebSocket) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (mut sink, mut messages) = socket.split();
    let (mut read, mut write) = tokio::io::split(ours);
    tokio::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            let taken = match message {
                Message::Binary(bytes) => write.write_all(&bytes).await,
                Message::Close(_) => break,
                _ => Ok(()),
            };
            if taken.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; BUFFER];
        while let Ok(count) = read.read(&mut buffer).await {
            let message = Message::Binary(buffer[..count].to_vec().into());
            if count == 0 || sink.send(message).await.is_err() {
                break;
            }
        }
        let _ = sink.send(Message::Close(Some(CloseFrame { code: 1000, reason: "".into() }))).await;
        let _ = sink.close().await;
    });
    theirs
}
