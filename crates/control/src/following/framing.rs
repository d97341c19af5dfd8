//! Where one event of a watch ends and the next begins, in an answer that comes in pieces of any length.

use crate::reading::Encoding;

/// The length of a frame, before it.
const HEADER: usize = 4;
/// An event that is longer is none: objects are at most 1.5 MiB in etcd.
pub const LONGEST: usize = 64 << 20;

/// An event would be longer than [`LONGEST`], so whoever sends it speaks of something else.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of at least {0} bytes, which is more than the {LONGEST} that any can have")]
pub struct TooLong(usize);

/// Cuts an answer into events: lines of JSON, or frames of protobuf, which begin with their length.
#[derive(Debug)]
pub struct Framing {
    pub encoding: Encoding,
    /// The beginning of an event whose end has not come, with its header.
    begun: Vec<u8>,
}

impl Framing {
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, begun: Vec::new() }
    }

    /// Gives the events that `piece` completes to `take`, where they lie if they are whole in it, until it says false.
    /// What `take` did before an error counts.
    pub fn feed(&mut self, mut piece: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> Result<(), TooLong> {
        loop {
            let end = self.end(piece)?;
            let Some(end) = end.filter(|end| *end <= piece.len()) else { break };
            let (last, after) = piece.split_at(end);
            piece = after;
            let go_on = if self.begun.is_empty() {
                take(self.bare(last))
            } else {
                self.begun.extend_from_slice(last);
                let go_on = take(self.bare(&self.begun));
                self.begun.clear();
                go_on
            };
            if !go_on {
                return Ok(());
            }
        }
        self.begun.extend_from_slice(piece);
        Ok(())
    }

    /// How much of what follows `begun` belongs to its event, if that is known.
    fn end(&self, piece: &[u8]) -> Result<Option<usize>, TooLong> {
        let (length, end) = match self.encoding {
            Encoding::Json => {
                let end = memchr::memchr(b'\n', piece).map(|end| end + 1);
                (self.begun.len() + end.unwrap_or(piece.len()), end)
            }
            Encoding::Protobuf => {
                if self.begun.len() + piece.len() < HEADER {
                    return Ok(None);
                }
                let header = self.begun.iter().chain(piece).take(HEADER);
                let length = header.fold(0, |length, byte| length << 8 | usize::from(*byte));
                (length, Some(HEADER + length - self.begun.len()))
            }
        };
        if length > LONGEST { Err(TooLong(length)) } else { Ok(end) }
    }

    /// An event without what separates it from others.
    fn bare<'a>(&self, event: &'a [u8]) -> &'a [u8] {
        match self.encoding {
            Encoding::Json => &event[..event.len() - 1],
            Encoding::Protobuf => &event[HEADER..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(encoding: Encoding, events: &[&[u8]]) -> Vec<u8> {
        let one = |event: &&[u8]| match encoding {
            Encoding::Json => [event, &b"\n"[..]].concat(),
            Encoding::Protobuf => {
                [&u32::try_from(event.len()).expect("short").to_be_bytes(), *event].concat()
            }
        };
        events.iter().flat_map(one).collect()
    }

    fn read(framing: &mut Framing, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut events = Vec::new();
        for piece in pieces {
            framing.feed(piece, |event| {
                events.push(event.to_vec());
                true
            })?;
        }
        Ok(events)
    }

    #[test]
    fn events_are_whole_wherever_pieces_end() {
        let long = [b'x'; 300];
        let events: [&[u8]; 5] = [b"a", b"", &long, b"\x00\x00", b"end"];
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let all = written(encoding, &events);
            for first in 0..=all.len() {
                for second in first..=all.len() {
                    let pieces = [&all[..first], &all[first..second], &all[second..]];
                    let mut framing = Framing::new(encoding);
                    assert_eq!(read(&mut framing, &pieces).expect("short events"), events);
                    assert!(framing.begun.is_empty());
                }
            }
            let bytes: Vec<&[u8]> = all.chunks(1).collect();
            assert_eq!(read(&mut Framing::new(encoding), &bytes).expect("short events"), events);
        }
    }

    #[test]
    fn who_has_heard_enough_is_told_no_more() {
        let all = written(Encoding::Protobuf, &[b"a", b"b", b"c"]);
        let mut told = Vec::new();
        let heard = Framing::new(Encoding::Protobuf).feed(&all, |event| {
            told.push(event.to_vec());
            told.len() < 2
        });
        assert_eq!((heard, told), (Ok(()), vec![b"a".to_vec(), b"b".to_vec()]));
    }

    #[test]
    fn what_is_no_event_takes_no_memory() {
        let mut framing = Framing::new(Encoding::Protobuf);
        let garbage = [&written(Encoding::Protobuf, &[b"a"])[..], b"{\"kind\":"].concat();
        assert_eq!(read(&mut framing, &[&garbage]), Err(TooLong(0x7b22_6b69)));
        let mut framing = Framing::new(Encoding::Protobuf);
        let longest = u32::try_from(LONGEST).expect("32 bits").to_be_bytes();
        assert_eq!(read(&mut framing, &[&longest, b"begins"]), Ok(Vec::new()));
        assert!(framing.begun.capacity() < 100, "room is made as bytes come");
        let mut framing = Framing::new(Encoding::Json);
        let endless = vec![b'x'; LONGEST / 2];
        assert_eq!(read(&mut framing, &[&endless, &endless, b"x"]), Err(TooLong(LONGEST + 1)));
    }
}
