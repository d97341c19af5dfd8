//! The `vN.channel.k8s.io` protocol: streams multiplexed over one WebSocket, a byte in front of each
//! message names the stream. Pure: bytes in, meaning out.

use serde_json::{Value, json};

/// Subprotocols that exec and attach speak, best first.
pub const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    Stdin(&'a [u8]),
    /// v5: no more input follows.
    StdinEnds,
    Resize {
        columns: u16,
        rows: u16,
    },
    /// Nothing that concerns us.
    Nothing,
}

/// Understands one message of a client.
pub fn understand(message: &[u8], v5: bool) -> Said<'_> {
    match message.split_first() {
        Some((&STDIN, bytes)) if !bytes.is_empty() => Said::Stdin(bytes),
        Some((&RESIZE, bytes)) => resize(bytes).unwrap_or(Said::Nothing),
        Some((&CLOSE, [STDIN, ..])) if v5 => Said::StdinEnds,
        _ => Said::Nothing,
    }
}

/// Terminal sizes are JSON with Go's field names: `{"Width":80,"Height":24}`.
fn resize(bytes: &[u8]) -> Option<Said<'static>> {
    let size: Value = serde_json::from_slice(bytes).ok()?;
    let field = |name: &str| u16::try_from(size.get(name)?.as_u64()?).ok();
    Some(Said::Resize { columns: field("Width")?, rows: field("Height")? })
}

/// Which output a chunk belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout,
    Stderr,
}

/// A message with output.
pub fn output(of: Output, bytes: &[u8]) -> Vec<u8> {
    framed(if of == Output::Stdout { STDOUT } else { STDERR }, bytes)
}

/// The last message: how it ended, as a `metav1.Status`.
pub fn ending(result: &Result<i32, String>) -> Vec<u8> {
    framed(ERROR, status(result).to_string().as_bytes())
}

fn framed(channel: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    message
}

/// An exit code, or why the program could not run.
fn status(result: &Result<i32, String>) -> Value {
    match result {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: command terminated with exit code {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(cause) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: {cause}"),
            "reason": "InternalError",
            "details": {"causes": [{"message": cause}]},
            "code": 500,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_clients_are_understood() {
        let cases: [(&[u8], bool, Said); 9] = [
            (b"\x00hello", true, Said::Stdin(b"hello")),
            (b"\x00", true, Said::Nothing),
            (b"\xff\x00", true, Said::StdinEnds),
            (b"\xff\x00", false, Said::Nothing),
            (b"\xff\x01", true, Said::Nothing),
            (b"\x04{\"Width\":80,\"Height\":24}", true, Said::Resize { columns: 80, rows: 24 }),
            (b"\x04{\"Width\":80}", true, Said::Nothing),
            (b"\x01x", true, Said::Nothing),
            (b"", true, Said::Nothing),
        ];
        for (message, v5, want) in cases {
            assert_eq!(understand(message, v5), want, "{message:?}");
        }
    }

    #[test]
    fn endings_carry_the_exit_code() {
        let parsed = |r| serde_json::from_slice::<Value>(&ending(&r)[1..]).expect("json");
        assert_eq!(ending(&Ok(0))[0], 3);
        assert_eq!(parsed(Ok(0))["status"], "Success");
        let three = parsed(Ok(3));
        assert_eq!(three["reason"], "NonZeroExitCode");
        assert_eq!(three["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(parsed(Err("no such file".into()))["message"], "Internal error occurred: no such file");
        assert_eq!(output(Output::Stderr, b"x"), b"\x02x");
    }
}
