//! What backend pods do: accept, answer who they are, or send a lot.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::space::Space;

/// Accepts and closes.
pub const ACCEPT: u16 = 8080;
/// Reads a request of a few bytes, answers with the address that was dialled, closes.
pub const ANSWER: u16 = 8081;
/// Reads a number (u64, big endian) and sends as many bytes.
pub const SEND: u16 = 8082;

pub fn start(space: &Space) -> Result<()> {
    let serves: [(u16, fn(TcpStream)); 3] = [
        (ACCEPT, drop),
        (ANSWER, answer),
        (SEND, |stream| {
            std::thread::spawn(move || send(stream));
        }),
    ];
    for (port, serve) in serves {
        let listener = space.run(|| TcpListener::bind(("0.0.0.0", port)).context("a backend's port"))?;
        space.serve(move || listener.incoming().flatten().for_each(serve))?;
    }
    Ok(())
}

fn answer(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    if stream.read(&mut [0; 64]).is_ok_and(|length| length > 0)
        && let Ok(address) = stream.local_addr()
    {
        let _ = stream.write_all(address.ip().to_string().as_bytes());
    }
}

fn send(mut stream: TcpStream) {
    let mut count = [0; 8];
    if stream.read_exact(&mut count).is_err() {
        return;
    }
    let chunk = [7; 1 << 17];
    let mut left = u64::from_be_bytes(count);
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(chunk.len()).min(chunk.len());
        match stream.write(&chunk[..length]) {
            Ok(sent) => left -= sent as u64,
            Err(_) => return,
        }
    }
}
