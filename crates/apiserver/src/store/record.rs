//! How an event lies on the disk: a checksum, a fixed head, the key, the object's JSON.

use super::OpenError;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

/// An event as stored; borrowed from the page that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: EventKind,
    pub created: u64,
    /// The revision of the key's event before this one; 0 if there is none.
    pub previous: u64,
    pub expires: u64,
    pub key: &'a str,
    pub object: &'a [u8],
}

const HEAD: usize = 8 + 1 + 8 + 8 + 8 + 2;

impl<'a> Record<'a> {
    pub fn encode(&self, revision: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + self.key.len() + self.object.len());
        out.extend_from_slice(&[0; 8]);
        out.push(self.kind as u8);
        out.extend_from_slice(&self.created.to_le_bytes());
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&self.expires.to_le_bytes());
        let key_len = u16::try_from(self.key.len()).expect("a key is two names and a resource, under 64 KiB");
        out.extend_from_slice(&key_len.to_le_bytes());
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(self.object);
        let sum = checksum(revision, &out[8..]);
        out[..8].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub fn decode(revision: u64, bytes: &'a [u8]) -> Result<Self, OpenError> {
        let broken = |what: &str| OpenError::Damaged(format!("event {revision} {what}"));
        if bytes.len() < HEAD {
            return Err(broken("is cut short"));
        }
        let (head, rest) = bytes.split_at(HEAD);
        if word(head, 0) != checksum(revision, &bytes[8..]) {
            return Err(broken("does not match its checksum"));
        }
        let kind = match head[8] {
            0 => EventKind::Added,
            1 => EventKind::Modified,
            2 => EventKind::Deleted,
            _ => return Err(broken("has an unknown kind")),
        };
        let key_len = usize::from(u16::from_le_bytes([head[33], head[34]]));
        let key = rest.get(..key_len).and_then(|k| std::str::from_utf8(k).ok());
        let key = key.ok_or_else(|| broken("has no readable key"))?;
        Ok(Self {
            kind,
            created: word(head, 9),
            previous: word(head, 17),
            expires: word(head, 25),
            key,
            object: &rest[key_len..],
        })
    }
}

fn word(head: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// FNV-1a over eight bytes at a time: finds damage, keeps no secret.
fn checksum(revision: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut sum = 0xcbf2_9ce4_8422_2325_u64 ^ revision;
    let mut mix = |chunk: u64| {
        sum = (sum ^ chunk).wrapping_mul(PRIME);
        sum ^= sum >> 29;
    };
    let (words, tail) = bytes.as_chunks::<8>();
    for chunk in words {
        mix(u64::from_le_bytes(*chunk));
    }
    for byte in tail {
        mix(u64::from(*byte));
    }
    mix(bytes.len() as u64);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_it_encoded_and_notices_every_flipped_byte() {
        let record = Record {
            kind: EventKind::Modified,
            created: 7,
            previous: 9,
            expires: 11,
            key: "core/pods/default/web",
            object: br#"{"kind":"Pod"}"#,
        };
        let bytes = record.encode(12);
        assert_eq!(Record::decode(12, &bytes).unwrap(), record);
        assert!(Record::decode(13, &bytes).is_err(), "a record under the wrong revision");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Record::decode(12, &damaged).is_err(), "byte {at}");
        }
        assert!(Record::decode(12, &bytes[..20]).is_err());
    }
}
