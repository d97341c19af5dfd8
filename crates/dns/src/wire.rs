//! Where in a message TTLs stand, and how long it may be kept.

const HEADER: usize = 12;
const OPT: u16 = 41;
const SOA: u16 = 6;

/// What caching must know of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The offset of each record's TTL, OPT excepted.
    pub ttls: Vec<u16>,
    /// The smallest TTL of the answer section (seconds); `None` if that is empty.
    pub answer_ttl: Option<u32>,
    /// How long the denial holds: the smaller of the SOA's TTL and minimum (seconds, RFC 2308).
    pub denial_ttl: Option<u32>,
    /// Where the question ends.
    pub question_end: usize,
}

/// Walks an answer with one question; `None` if it is malformed.
pub fn layout(message: &[u8]) -> Option<Layout> {
    let count = |index: usize| be16(message, 4 + 2 * index);
    if count(0)? != 1 {
        return None;
    }
    let mut at = skip_name(message, HEADER)? + 4;
    let mut found = Layout { ttls: Vec::new(), answer_ttl: None, denial_ttl: None, question_end: at };
    for section in 1..=3 {
        for _ in 0..count(section)? {
            let fixed = skip_name(message, at)?;
            let (rtype, ttl) = (be16(message, fixed)?, be32(message, fixed + 4)?);
            let end = fixed + 10 + usize::from(be16(message, fixed + 8)?);
            message.get(..end)?;
            if rtype != OPT {
                found.ttls.push(u16::try_from(fixed + 4).ok()?);
            }
            match (section, rtype) {
                (1, _) => found.answer_ttl = Some(found.answer_ttl.map_or(ttl, |least| least.min(ttl))),
                (2, SOA) => found.denial_ttl = Some(ttl.min(be32(message, end.checked_sub(4)?)?)),
                _ => {}
            }
            at = end;
        }
    }
    Some(found)
}

/// Lowers every TTL by `seconds`.
pub fn age(message: &mut [u8], layout: &Layout, seconds: u32) {
    for at in &layout.ttls {
        let at = usize::from(*at);
        if let (Some(ttl), Some(place)) = (be32(message, at), message.get_mut(at..at + 4)) {
            place.copy_from_slice(&ttl.saturating_sub(seconds).to_be_bytes());
        }
    }
}

/// The offset behind the name at `at`.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn be16(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

fn be32(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(message.get(at..at + 4)?.try_into().ok()?))
}
