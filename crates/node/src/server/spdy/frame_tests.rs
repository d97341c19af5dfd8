//! Frames survive the way through bytes, and bytes of anybody's making do no harm.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn read(decoder: &mut Decoder, bytes: &[u8], step: usize) -> Result<Vec<Frame>, SpdyError> {
    let mut frames = Vec::new();
    for piece in bytes.chunks(step) {
        decoder.push(piece);
        while let Some(frame) = decoder.next()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn headers() -> impl Strategy<Value = Headers> {
    vec(("[a-z-]{1,12}", "[ -~]{0,40}"), 0..6)
}

fn frames() -> impl Strategy<Value = Frame> {
    let id = 1u32..0x7fff_ffff;
    prop_oneof![
        (id.clone(), any::<bool>(), headers()).prop_map(|(id, fin, headers)| Frame::SynStream {
            id,
            fin,
            headers
        }),
        (id.clone(), any::<bool>(), headers()).prop_map(|(id, fin, headers)| Frame::SynReply {
            id,
            fin,
            headers
        }),
        (id.clone(), any::<bool>(), headers()).prop_map(|(id, fin, headers)| Frame::Headers {
            id,
            fin,
            headers
        }),
        (id.clone(), any::<u32>()).prop_map(|(id, status)| Frame::Reset { id, status }),
        any::<u32>().prop_map(Frame::Ping),
        (0u32..0x7fff_ffff, any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
        (id, any::<bool>(), vec(any::<u8>(), 0..300)).prop_map(|(id, fin, bytes)| Frame::Data {
            id,
            fin,
            bytes: bytes.into()
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(sent in vec(frames(), 1..12), step in 1usize..64) {
        let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
        for frame in &sent {
            encoder.encode(frame, &mut bytes);
        }
        prop_assert_eq!(read(&mut Decoder::new(), &bytes, step), Ok(sent));
    }

    #[test]
    fn damage_is_an_error_or_another_frame(
        sent in vec(frames(), 1..4), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
        for frame in &sent {
            encoder.encode(frame, &mut bytes);
        }
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = read(&mut Decoder::new(), &bytes, 7);
    }

    #[test]
    fn rubbish_does_no_harm(bytes in vec(any::<u8>(), 0..400)) {
        let _ = read(&mut Decoder::new(), &bytes, 11);
    }
}

/// As spdystream (Go's `compress/zlib`, level 6, this dictionary) writes a stream for port 80 and its reply.
#[test]
fn frames_of_a_go_client_are_understood() {
    let hex = include_str!("go_frames.txt").split_whitespace().collect::<String>();
    let bytes = hex::decode(hex).expect("hex");
    let pairs = |all: &[(&str, &str)]| {
        all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
    };
    let mut got = read(&mut Decoder::new(), &bytes, 1000).expect("frames");
    // Go's maps have no order.
    for frame in &mut got {
        if let Frame::SynStream { headers, .. } = frame {
            headers.sort();
        }
    }
    let stream = |kind| pairs(&[("port", "80"), ("requestid", "0"), ("streamtype", kind)]);
    assert_eq!(
        got,
        [
            Frame::SynStream { id: 1, fin: false, headers: stream("error") },
            Frame::Data { id: 1, fin: true, bytes: Bytes::new() },
            Frame::SynStream { id: 3, fin: false, headers: stream("data") },
            Frame::Data { id: 3, fin: false, bytes: Bytes::from_static(b"hello") },
            Frame::Ping(1),
            Frame::Reset { id: 3, status: 5 },
            Frame::GoAway { last: 0, status: 0 },
        ]
    );
}

#[test]
fn a_bomb_is_refused() {
    let zeroes = vec![("a".to_owned(), "0".repeat(LONGEST))];
    let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
    encoder.encode(&Frame::SynStream { id: 1, fin: false, headers: zeroes }, &mut bytes);
    assert!(bytes.len() < 10_000, "it is small on the wire");
    assert!(matches!(read(&mut Decoder::new(), &bytes, 100_000), Err(SpdyError::TooLong(_))));
    let long = [0, 0, 0, 1, 0, 0xff, 0xff, 0xff];
    assert_eq!(read(&mut Decoder::new(), &long, 8), Err(SpdyError::TooLong(0xff_ffff)));
}
