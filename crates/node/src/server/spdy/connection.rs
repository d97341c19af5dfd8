//! Streams over one connection: a task that reads, a task that writes, channels between them and the streams.
//!
//! There is no flow control but the connection's own: a stream that is not read holds up its neighbours, as with
//! Kubernetes' own server.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::frame::{CHUNK, Decoder, Encoder, Frame};
use super::headers::Headers;

/// Streams that one client may have open.
const MOST_STREAMS: usize = 1000;
/// Data frames that wait in a stream, and frames that wait to be sent.
const WAITING: usize = 16;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED: u32 = 3;
const CANCEL: u32 = 5;

/// Streams that a client opens.
pub struct Connection {
    incoming: mpsc::Receiver<Stream>,
}

/// One stream of a client.
pub struct Stream {
    pub id: u32,
    headers: Headers,
    /// What the client sends; ends with its half, a reset, or the connection.
    pub reader: mpsc::Receiver<Bytes>,
    pub writer: StreamWriter,
    /// Cancelled when the stream is reset or the connection is gone.
    pub gone: CancellationToken,
    /// Frees the stream's place when we are done with it.
    _done: DropGuard,
}

impl Stream {
    /// The value of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Tells the client that the stream is served.
    pub async fn accept(&self) {
        let reply = Frame::SynReply { id: self.writer.id, fin: false, headers: Headers::new() };
        let _ = self.writer.frames.send(reply).await;
    }
}

/// Our half of a stream.
#[derive(Clone)]
pub struct StreamWriter {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

impl StreamWriter {
    /// Sends bytes; false when the client is gone.
    pub async fn write(&self, bytes: Bytes) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let bytes = rest.split_to(rest.len().min(CHUNK));
            if self.frames.send(Frame::Data { id: self.id, fin: false, bytes }).await.is_err() {
                return false;
            }
        }
        true
    }

    /// No more follows.
    pub async fn finish(&self) {
        let _ = self.frames.send(Frame::Data { id: self.id, fin: true, bytes: Bytes::new() }).await;
    }

    /// Ends the stream at once.
    pub async fn reset(&self) {
        let _ = self.frames.send(Frame::Reset { id: self.id, status: CANCEL }).await;
    }
}

impl Connection {
    /// Serves a client that is connected by `transport`. It is closed when the connection and all its streams'
    /// writers are dropped.
    pub fn serve(transport: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (read, write) = tokio::io::split(transport);
        let (frames, outgoing) = mpsc::channel(WAITING);
        let (streams, incoming) = mpsc::channel(WAITING);
        let closed = CancellationToken::new();
        let reader = Reader {
            frames: frames.downgrade(),
            streams,
            open: HashMap::new(),
            last: 0,
            closed: closed.clone(),
        };
        tokio::spawn(reader.run(read, frames));
        tokio::spawn(send(write, outgoing, closed));
        Self { incoming }
    }

    /// The next stream that the client opens; `None` when it is gone.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.incoming.recv().await
    }
}

async fn send<W: AsyncWrite>(
    mut write: WriteHalf<W>,
    mut frames: mpsc::Receiver<Frame>,
    closed: CancellationToken,
) {
    let mut encoder = Encoder::new();
    let mut buffer = Vec::new();
    let work = async {
        while let Some(frame) = frames.recv().await {
            encoder.encode(&frame, &mut buffer);
            while buffer.len() < 4 * CHUNK
                && let Ok(frame) = frames.try_recv()
            {
                encoder.encode(&frame, &mut buffer);
            }
            if write.write_all(&buffer).await.is_err() || write.flush().await.is_err() {
                return;
            }
            buffer.clear();
        }
        let _ = write.shutdown().await;
    };
    tokio::select! {
        () = work => {}
        () = closed.cancelled() => {}
    }
    closed.cancel();
}

struct OpenStream {
    /// `None` once the client's half has ended.
    sender: Option<mpsc::Sender<Bytes>>,
    gone: CancellationToken,
}

struct Reader {
    /// Weak, so that the connection ends with the last that writes.
    frames: mpsc::WeakSender<Frame>,
    streams: mpsc::Sender<Stream>,
    open: HashMap<u32, OpenStream>,
    last: u32,
    closed: CancellationToken,
}

impl Reader {
    async fn run<R: AsyncRead>(mut self, mut read: ReadHalf<R>, first: mpsc::Sender<Frame>) {
        // Held while the connection may still be asked for streams.
        let mut held = Some(first);
        let mut decoder = Decoder::new();
        let mut buffer = vec![0; CHUNK];
        let (closed, streams) = (self.closed.clone(), self.streams.clone());
        loop {
            let count = tokio::select! {
                () = closed.cancelled() => break,
                () = streams.closed(), if held.is_some() => {
                    held = None;
                    continue;
                }
                count = read.read(&mut buffer) => count.unwrap_or(0),
            };
            if count == 0 {
                break;
            }
            decoder.push(&buffer[..count]);
            let taken = tokio::select! {
                () = closed.cancelled() => break,
                taken = self.take(&mut decoder) => taken,
            };
            if let Err(e) = taken {
                tracing::debug!("a SPDY client: {e}");
                break;
            }
        }
        for stream in self.open.values() {
            stream.gone.cancel();
        }
        closed.cancel();
    }

    async fn take(&mut self, decoder: &mut Decoder) -> Result<(), super::SpdyError> {
        while let Some(frame) = decoder.next()? {
            match frame {
                Frame::SynStream { id, fin, headers } => self.open(id, fin, headers).await,
                Frame::Data { id, fin, bytes } => self.data(id, fin, bytes).await,
                Frame::Headers { id, fin: true, .. } => self.data(id, true, Bytes::new()).await,
                Frame::Reset { id, .. } => {
                    if let Some(stream) = self.open.remove(&id) {
                        stream.gone.cancel();
                    }
                }
                Frame::Ping(id) if id % 2 == 1 => self.say(Frame::Ping(id)).await,
                _ => {}
            }
        }
        Ok(())
    }

    async fn open(&mut self, id: u32, fin: bool, headers: Headers) {
        if id.is_multiple_of(2) || id <= self.last {
            return self.say(Frame::Reset { id, status: PROTOCOL_ERROR }).await;
        }
        self.last = id;
        self.open.retain(|_, stream| !stream.gone.is_cancelled());
        let Some(frames) = self.frames.upgrade().filter(|_| self.open.len() < MOST_STREAMS) else {
            return self.say(Frame::Reset { id, status: REFUSED }).await;
        };
        let (sender, reader) = mpsc::channel(WAITING);
        let gone = self.closed.child_token();
        let (writer, _done) = (StreamWriter { id, frames }, gone.clone().drop_guard());
        let stream = Stream { id, headers, reader, writer, gone: gone.clone(), _done };
        self.open.insert(id, OpenStream { sender: (!fin).then_some(sender), gone });
        let _ = self.streams.send(stream).await;
    }

    async fn data(&mut self, id: u32, fin: bool, bytes: Bytes) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        if let (Some(sender), false) = (&stream.sender, bytes.is_empty()) {
            // Nobody listens any more: dropped.
            let _ = sender.send(bytes).await;
        }
        if fin {
            stream.sender = None;
        }
    }

    async fn say(&self, frame: Frame) {
        if let Some(frames) = self.frames.upgrade() {
            let _ = frames.send(frame).await;
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
