//! Writes a container's output in the CRI log format and rotates it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A log file is rotated when it has this many bytes.
const ROTATE_AT: u64 = 10 << 20;
/// Longer lines are cut into parts of this many bytes, marked `P` but for the last.
const MAX_LINE: usize = 16 << 10;

/// Which of the container's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts bytes of one stream into log lines.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Appends to `out` the log lines that `bytes` complete, all stamped `now`.
    pub fn push(&mut self, stream: Stream, now: &str, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.rest.extend_from_slice(&bytes[..end]);
            self.cut(stream, now, out);
            line(stream, now, 'F', &self.rest, out);
            self.rest.clear();
            bytes = &bytes[end + 1..];
        }
        self.rest.extend_from_slice(bytes);
        self.cut(stream, now, out);
    }

    /// The stream ended: what is left is a last partial line.
    pub fn finish(&mut self, stream: Stream, now: &str, out: &mut Vec<u8>) {
        if !self.rest.is_empty() {
            line(stream, now, 'P', &self.rest, out);
            self.rest = Vec::new();
        }
    }

    fn cut(&mut self, stream: Stream, now: &str, out: &mut Vec<u8>) {
        while self.rest.len() > MAX_LINE {
            line(stream, now, 'P', &self.rest[..MAX_LINE], out);
            self.rest.drain(..MAX_LINE);
        }
    }
}

fn line(stream: Stream, now: &str, tag: char, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{now} {} {tag} ", stream.name()).as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// A log file that is rotated to `.1` and `.2`.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl LogFile {
    /// Opens a log for appending, making its directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size })
    }

    /// Writes whole lines.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.size > 0 && self.size + lines.len() as u64 > ROTATE_AT {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.size += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let old = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        match std::fs::rename(old(1), old(2)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::rename(&self.path, old(1))?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

/// The present time as logs show it: nine digits of nanoseconds, UTC.
pub fn stamp(now: jiff::Timestamp) -> String {
    format!("{now:.9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(chunks: &[&[u8]]) -> String {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(Stream::Stdout, "T", chunk, &mut out);
        }
        lines.finish(Stream::Stdout, "T", &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        assert_eq!(text(&[b"hel", b"lo\nwor", b"ld\n"]), "T stdout F hello\nT stdout F world\n");
        assert_eq!(text(&[b"\n\n"]), "T stdout F \nT stdout F \n");
    }

    #[test]
    fn a_last_line_without_end_is_partial() {
        assert_eq!(text(&[b"a\nb"]), "T stdout F a\nT stdout P b\n");
    }

    #[test]
    fn long_lines_are_cut_into_parts() {
        let long = vec![b'x'; MAX_LINE + 10];
        let out = text(&[&long, b"\n"]);
        let parts = out.lines().map(|line| (&line[..10], line.len() - 11)).collect::<Vec<_>>();
        assert_eq!(parts, [("T stdout P", MAX_LINE), ("T stdout F", 10)]);
    }

    #[test]
    fn a_full_log_is_rotated_and_two_old_ones_are_kept() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a/0.log");
        let mut log = LogFile::open(&path).expect("opens");
        let block = vec![b'y'; (ROTATE_AT - 10) as usize];
        for _ in 0..4 {
            log.write(&block).expect("writes");
        }
        let mut names = std::fs::read_dir(path.parent().expect("parent"))
            .expect("lists")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
            .collect::<Vec<_>>();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.1", "0.log.2"]);
    }

    #[test]
    fn stamps_have_nine_digits() {
        let now: jiff::Timestamp = "2026-01-02T03:04:05.5Z".parse().expect("time");
        assert_eq!(stamp(now), "2026-01-02T03:04:05.500000000Z");
    }
}
