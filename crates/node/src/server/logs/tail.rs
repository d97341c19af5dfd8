//! Where the last lines of a log begin.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

const BLOCK: u64 = 16 * 1024;

/// Offset at which the last `lines` complete lines of a file begin, and how many it has of them.
pub fn offset(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok((end, 0));
    }
    let mut found = 0;
    let mut from = end;
    let mut block = Vec::new();
    while from > 0 {
        let size = from.min(BLOCK);
        from -= size;
        file.seek(SeekFrom::Start(from))?;
        block.clear();
        Read::by_ref(file).take(size).read_to_end(&mut block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            // A line end closes the line before it; the one at the very end opens nothing.
            let next = from + at as u64 + 1;
            if *byte == b'\n' && next < end {
                found += 1;
                if found == lines {
                    return Ok((next, found));
                }
            }
        }
    }
    Ok((0, found + u64::from(end > 0)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let mut file = tempfile::tempfile().expect("a file");
        let text: String = (0..5000).map(|n| format!("line {n}\n")).collect();
        file.write_all(text.as_bytes()).expect("written");
        for lines in [0, 1, 2, 1000, 4999, 5000, 6000] {
            let (at, found) = offset(&mut file, lines).expect("found");
            assert_eq!(found, lines.min(5000));
            assert_eq!(text[at as usize..].lines().count() as u64, lines.min(5000));
        }
        let mut empty = tempfile::tempfile().expect("a file");
        assert_eq!(offset(&mut empty, 3).expect("found"), (0, 0));
        let mut open = tempfile::tempfile().expect("a file");
        open.write_all(b"a\nb\nunfinished").expect("written");
        assert_eq!(offset(&mut open, 1).expect("found"), (4, 1));
    }
}
