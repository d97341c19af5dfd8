//! What commands print.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Prints a line, as `println!` does; but who reads it may have read enough, as `head` does, and then we are done.
macro_rules! say {
    ($($words:tt)*) => { $crate::say::line(format_args!($($words)*)) };
}
pub(crate) use say;

pub fn line(words: Arguments<'_>) {
    match writeln!(std::io::stdout(), "{words}") {
        Err(why) if why.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        // A full disk, say: what could be said of it, and where?
        Ok(()) | Err(_) => {}
    }
}
