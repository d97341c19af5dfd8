//! From records to what the user asked to see.

use jiff::Timestamp;

use super::record::{Stream, parse};

/// What `kubectl logs` can ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail: Option<u64>,
    pub since: Option<Timestamp>,
    pub limit_bytes: Option<u64>,
    /// `None` is both.
    pub stream: Option<Stream>,
}

/// Turns raw lines into output, within the limit.
#[derive(Clone, Debug)]
pub struct Filter {
    timestamps: bool,
    since: Option<Timestamp>,
    stream: Option<Stream>,
    left: Option<u64>,
    /// The next record begins a line (one per stream would be finer; kubelet has one).
    at_line_start: bool,
}

impl Filter {
    pub fn new(options: &Options) -> Self {
        Self {
            timestamps: options.timestamps,
            since: options.since,
            stream: options.stream,
            left: options.limit_bytes,
            at_line_start: true,
        }
    }

    /// Whether the limit is reached.
    pub fn full(&self) -> bool {
        self.left == Some(0)
    }

    /// Appends what is to be shown of one raw line.
    pub fn push(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(record) = parse(line) else { return };
        let unwanted = self.since.is_some_and(|since| record.at < since)
            || self.stream.is_some_and(|stream| record.stream != stream);
        if unwanted || self.full() {
            return;
        }
        let began = out.len();
        if self.timestamps && self.at_line_start {
            out.extend_from_slice(record.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(record.text);
        if !record.partial {
            out.push(b'\n');
        }
        self.at_line_start = !record.partial;
        if let Some(left) = &mut self.left {
            let kept = (out.len() - began).min(usize::try_from(*left).unwrap_or(usize::MAX));
            out.truncate(began + kept);
            *left -= kept as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.5Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n\
        2026-01-01T00:00:03Z stderr F o\nbroken\n2026-01-01T00:00:04Z stdout F three";

    fn shown(options: Options) -> String {
        let mut filter = Filter::new(&options);
        let mut out = Vec::new();
        for line in LOG.lines() {
            filter.push(line.as_bytes(), &mut out);
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn options_select_what_is_shown() {
        let cases = [
            (Options::default(), "one\ntwo\nthree\n"),
            (Options { since: "2026-01-01T00:00:03.5Z".parse().ok(), ..Options::default() }, "three\n"),
            (Options { stream: Some(Stream::Stderr), ..Options::default() }, "two\n"),
            (Options { limit_bytes: Some(6), ..Options::default() }, "one\ntw"),
            (Options { limit_bytes: Some(0), ..Options::default() }, ""),
            (
                Options { timestamps: true, ..Options::default() },
                "2026-01-01T00:00:01.5Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:04Z three\n",
            ),
        ];
        for (options, want) in cases {
            assert_eq!(shown(options.clone()), want, "{options:?}");
        }
    }
}
