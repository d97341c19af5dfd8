//! A client by hand against the server's half.

use tokio::io::DuplexStream;

use super::*;

struct Client {
    wire: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
}

impl Client {
    fn connect() -> (Self, Connection) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        (Self { wire: ours, encoder: Encoder::new(), decoder: Decoder::new() }, Connection::serve(theirs))
    }

    async fn say(&mut self, frame: Frame) {
        let mut bytes = Vec::new();
        self.encoder.encode(&frame, &mut bytes);
        self.wire.write_all(&bytes).await.expect("sent");
    }

    async fn open(&mut self, id: u32) {
        let headers = vec![("port".to_owned(), "80".to_owned())];
        self.say(Frame::SynStream { id, fin: false, headers }).await;
    }

    /// The next frame; `None` when the server has closed the connection.
    async fn hear(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next().expect("frames") {
                return Some(frame);
            }
            let mut buffer = [0; 1000];
            match self.wire.read(&mut buffer).await.expect("read") {
                0 => return None,
                count => self.decoder.push(&buffer[..count]),
            }
        }
    }
}

fn data(id: u32, fin: bool, text: &'static str) -> Frame {
    Frame::Data { id, fin, bytes: Bytes::from_static(text.as_bytes()) }
}

#[tokio::test]
async fn a_stream_carries_both_halves_and_ends_with_both() {
    let (mut client, mut connection) = Client::connect();
    client.open(1).await;
    let mut stream = connection.accept().await.expect("a stream");
    assert_eq!((stream.header("port"), stream.header("x")), (Some("80"), None));
    stream.accept().await;
    client.say(data(1, false, "ping")).await;
    client.say(data(1, true, "")).await;
    assert_eq!(stream.reader.recv().await.as_deref(), Some(&b"ping"[..]));
    assert_eq!(stream.reader.recv().await, None);
    assert!(!stream.gone.is_cancelled(), "our half is still open");
    assert!(stream.writer.write(Bytes::from_static(b"pong")).await);
    stream.writer.finish().await;
    drop(stream);
    drop(connection);
    assert!(matches!(client.hear().await, Some(Frame::SynReply { id: 1, .. })));
    assert_eq!(client.hear().await, Some(data(1, false, "pong")));
    assert_eq!(client.hear().await, Some(data(1, true, "")));
    assert_eq!(client.hear().await, None, "nobody writes any more");
}

#[tokio::test]
async fn what_is_long_arrives_whole() {
    let (mut client, mut connection) = Client::connect();
    client.open(1).await;
    let stream = connection.accept().await.expect("a stream");
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let bytes = Bytes::from(sent.clone());
    tokio::spawn(async move {
        stream.writer.write(bytes).await;
        stream.writer.finish().await;
    });
    let mut got = Vec::new();
    loop {
        match client.hear().await.expect("a frame") {
            Frame::Data { bytes, fin, .. } => {
                got.extend_from_slice(&bytes);
                if fin {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
}

#[tokio::test]
async fn a_reset_or_a_lost_client_is_noticed() {
    let (mut client, mut connection) = Client::connect();
    client.open(1).await;
    client.open(3).await;
    let one = connection.accept().await.expect("a stream");
    let three = connection.accept().await.expect("a stream");
    client.say(data(1, true, "")).await;
    client.say(Frame::Reset { id: 1, status: 5 }).await;
    one.gone.cancelled().await;
    assert!(!three.gone.is_cancelled());
    drop(client);
    three.gone.cancelled().await;
    assert!(connection.accept().await.is_none());
    assert!(!three.writer.write(Bytes::from_static(b"x")).await);
}

#[tokio::test]
async fn what_is_out_of_order_is_refused_and_pings_are_answered() {
    let (mut client, mut connection) = Client::connect();
    client.open(3).await;
    let _three = connection.accept().await.expect("a stream");
    for id in [2, 1, 3] {
        client.open(id).await;
        assert_eq!(client.hear().await, Some(Frame::Reset { id, status: PROTOCOL_ERROR }));
    }
    client.say(Frame::Ping(7)).await;
    assert_eq!(client.hear().await, Some(Frame::Ping(7)));
    client.wire.write_all(&[0x80, 2, 0, 1, 0, 0, 0, 0]).await.expect("sent");
    assert_eq!(client.hear().await, None, "another version of SPDY");
}

#[tokio::test]
async fn the_number_of_streams_is_bounded() {
    let (mut client, mut connection) = Client::connect();
    let mut held = Vec::new();
    for n in 0..MOST_STREAMS as u32 {
        client.open(2 * n + 1).await;
        held.push(connection.accept().await.expect("a stream"));
    }
    let id = 2 * MOST_STREAMS as u32 + 1;
    client.open(id).await;
    assert_eq!(client.hear().await, Some(Frame::Reset { id, status: REFUSED }));
    held.pop();
    client.open(id + 2).await;
    assert_eq!(connection.accept().await.map(|s| s.id), Some(id + 2));
}
