//! One record of a CRI log: `2026-01-02T03:04:05.678901234Z stdout F text`.

use jiff::Timestamp;

/// Which stream a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// One record, without its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// As it is written, so that it is shown with its own precision.
    pub time: &'a str,
    pub at: Timestamp,
    pub stream: Stream,
    /// The line goes on in the next record.
    pub partial: bool,
    pub text: &'a [u8],
}

/// Reads one line of a log; `None` if it is not a record.
pub fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut fields = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let at = time.parse().ok()?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    // Tags are separated by colons; the first says whether the line is complete.
    let partial = match fields.next()?.split(|b| *b == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Record { time, at, stream, partial, text: fields.next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_rubbish_is_not() {
        let record = parse(b"2026-01-02T03:04:05.678901234Z stderr P  two  spaces").expect("a record");
        assert_eq!(
            (record.stream, record.partial, record.text),
            (Stream::Stderr, true, &b" two  spaces"[..])
        );
        assert_eq!(record.at.subsec_nanosecond(), 678_901_234);
        assert_eq!(parse(b"2026-01-02T03:04:05Z stdout F ").map(|r| r.text), Some(&b""[..]));
        assert_eq!(parse(b"2026-01-02T03:04:05Z stdout F").map(|r| r.text), Some(&b""[..]));
        assert_eq!(parse(b"2026-01-02T03:04:05+01:00 stdout F:x a").map(|r| r.text), Some(&b"a"[..]));
        for bad in [
            "",
            "x",
            "yesterday stdout F a",
            "2026-01-02T03:04:05Z stdin F a",
            "2026-01-02T03:04:05Z stdout Q a",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
