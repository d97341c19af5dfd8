//! Reads a container's log from the right place, over rotated files, and follows it while it grows.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::filter::{Filter, Options};
use super::tail;

const BLOCK: usize = 64 * 1024;
/// No line of a log is longer; what exceeds it is dropped rather than kept in memory.
const MOST_LINE: usize = 1024 * 1024;

/// A place in a log that moves forward.
pub struct Reader {
    path: PathBuf,
    /// Files still to be read to their end, the next first.
    queue: std::collections::VecDeque<File>,
    /// Inode of the newest file that was opened.
    newest: Option<u64>,
    pending: Vec<u8>,
    filter: Filter,
}

/// Rotated files, oldest first, then the current one.
fn files(path: &Path) -> Vec<PathBuf> {
    let rotated = |n: u32| PathBuf::from(format!("{}.{n}", path.display()));
    let mut found: Vec<PathBuf> = (1..=9).map(rotated).take_while(|p| p.exists()).collect();
    found.reverse();
    found.push(path.to_owned());
    found
}

impl Reader {
    /// Opens a log; one that does not exist yet is empty.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(path: &Path, options: &Options) -> io::Result<Self> {
        let mut reader = Self {
            path: path.to_owned(),
            queue: Default::default(),
            newest: None,
            pending: Vec::new(),
            filter: Filter::new(options),
        };
        let mut wanted = options.tail;
        for path in files(path).iter().rev() {
            if wanted == Some(0) && reader.newest.is_some() {
                break;
            }
            let mut file = match File::open(path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            if reader.newest.is_none() {
                reader.newest = Some(file.metadata()?.ino());
            }
            let mut start = 0;
            if let Some(lines) = &mut wanted {
                let (at, found) = tail::offset(&mut file, *lines)?;
                start = at;
                *lines -= found;
            }
            file.seek(SeekFrom::Start(start))?;
            reader.queue.push_front(file);
        }
        Ok(reader)
    }

    /// Whether the byte limit is reached.
    pub fn full(&self) -> bool {
        self.filter.full()
    }

    /// The next piece of output; empty when there is nothing more for now.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn piece(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut block = vec![0; BLOCK];
        while out.is_empty() && !self.full() {
            let Some(file) = self.queue.front_mut() else {
                if self.open_rotated()? {
                    continue;
                }
                break;
            };
            let n = file.read(&mut block)?;
            if n > 0 {
                self.take(&block[..n], &mut out);
            } else if self.queue.len() > 1 || self.open_rotated()? {
                // Whatever was written before the rotation has been read.
                self.queue.pop_front();
            } else {
                break;
            }
        }
        Ok(out)
    }

    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            self.pending.extend_from_slice(&rest[..end]);
            self.filter.push(&self.pending, out);
            self.pending.clear();
            rest = &rest[end + 1..];
        }
        if self.pending.len() + rest.len() <= MOST_LINE {
            self.pending.extend_from_slice(rest);
        }
    }

    /// Queues the current file if it is another than the newest opened.
    fn open_rotated(&mut self) -> io::Result<bool> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let inode = file.metadata()?.ino();
        if self.newest == Some(inode) {
            return Ok(false);
        }
        self.newest = Some(inode);
        self.queue.push_back(file);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn record(n: u32) -> String {
        format!("2026-01-01T00:00:00Z stdout F {n}\n")
    }

    fn append(path: &Path, text: &str) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    }

    fn all(reader: &mut Reader) -> String {
        let mut out = Vec::new();
        loop {
            let more = reader.piece().expect("read");
            if more.is_empty() {
                return String::from_utf8(out).expect("text").replace('\n', " ");
            }
            out.extend(more);
        }
    }

    #[test]
    fn tails_reach_into_rotated_files() {
        let tmp = tempfile::tempdir().expect("a directory");
        let path = tmp.path().join("0.log");
        append(&tmp.path().join("0.log.2"), &(record(1) + &record(2)));
        append(&tmp.path().join("0.log.1"), &(record(3) + &record(4)));
        append(&path, &(record(5) + &record(6)));
        for (tail, want) in [
            (None, "1 2 3 4 5 6 "),
            (Some(1), "6 "),
            (Some(3), "4 5 6 "),
            (Some(5), "2 3 4 5 6 "),
            (Some(0), ""),
            (Some(9), "1 2 3 4 5 6 "),
        ] {
            let options = Options { tail, ..Options::default() };
            assert_eq!(all(&mut Reader::open(&path, &options).expect("opened")), want, "{tail:?}");
        }
    }

    #[test]
    fn following_survives_rotation_without_losing_a_line() {
        let tmp = tempfile::tempdir().expect("a directory");
        let path = tmp.path().join("0.log");
        let mut reader = Reader::open(&path, &Options::default()).expect("opened");
        assert_eq!(all(&mut reader), "");
        append(&path, &record(1));
        assert_eq!(all(&mut reader), "1 ");
        let whole = record(2);
        append(&path, &whole[..10]);
        assert_eq!(all(&mut reader), "", "half a line is not shown");
        append(&path, &whole[10..]);
        fs::rename(&path, tmp.path().join("0.log.1")).expect("rotated");
        append(&tmp.path().join("0.log.1"), &record(3));
        append(&path, &record(4));
        assert_eq!(all(&mut reader), "2 3 4 ");
        append(&path, &record(5));
        assert_eq!(all(&mut reader), "5 ");
    }

    #[test]
    fn the_limit_ends_the_output() {
        let tmp = tempfile::tempdir().expect("a directory");
        let path = tmp.path().join("0.log");
        append(&path, &(record(1) + &record(2)));
        let options = Options { limit_bytes: Some(3), ..Options::default() };
        let mut reader = Reader::open(&path, &options).expect("opened");
        assert_eq!(all(&mut reader), "1 2");
        assert!(reader.full());
    }
}
