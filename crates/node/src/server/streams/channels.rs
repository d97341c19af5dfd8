//! The `channel.k8s.io` protocols: streams multiplexed over one WebSocket, a byte in front of each message (a digit,
//! where bytes are base64) names the stream. Pure: messages in, meaning out.

use axum::extract::ws::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::session::Said;

/// Subprotocols that exec and attach speak, best first.
pub const PROTOCOLS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// How channel and bytes make a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Binary,
    Base64,
}

impl Coding {
    pub fn of(protocol: Option<&str>) -> Self {
        if protocol.is_some_and(|p| p.contains("base64")) { Self::Base64 } else { Self::Binary }
    }

    /// Channel and bytes of a client's message; `None` for one that is no message of a channel.
    pub fn decode(self, message: &Message) -> Option<Vec<u8>> {
        match (self, message) {
            (Self::Binary, Message::Binary(bytes)) => Some(bytes.to_vec()),
            (Self::Base64, Message::Text(text)) => {
                let (digit, coded) = text.as_bytes().split_first()?;
                let mut bytes = vec![digit.checked_sub(b'0')?];
                bytes.extend(STANDARD.decode(coded).ok()?);
                Some(bytes)
            }
            _ => None,
        }
    }

    pub fn encode(self, channel: u8, bytes: &[u8]) -> Message {
        match self {
            Self::Binary => {
                let mut message = Vec::with_capacity(bytes.len() + 1);
                message.push(channel);
                message.extend_from_slice(bytes);
                Message::Binary(message.into())
            }
            Self::Base64 => {
                Message::Text(format!("{}{}", char::from(b'0' + channel), STANDARD.encode(bytes)).into())
            }
        }
    }
}

/// Which of the protocols a client speaks; none asked for is the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    pub coding: Coding,
    /// The client can say that its input ends.
    closes: bool,
    /// How it ended is told as a `Status`, not as text.
    status: bool,
}

impl Dialect {
    pub fn of(protocol: Option<&str>) -> Self {
        let name = protocol.unwrap_or_default();
        Self {
            coding: Coding::of(protocol),
            closes: name.starts_with("v5."),
            status: name.starts_with("v4.") || name.starts_with("v5."),
        }
    }

    /// What a message of a client means, if anything.
    pub fn understand(&self, message: &Message) -> Option<Said> {
        let bytes = self.coding.decode(message)?;
        match bytes.split_first()? {
            (&STDIN, bytes) if !bytes.is_empty() => Some(Said::Stdin(Bytes::copy_from_slice(bytes))),
            (&RESIZE, bytes) => resize(bytes),
            (&CLOSE, [STDIN, ..]) if self.closes => Some(Said::StdinEnds),
            _ => None,
        }
    }

    pub fn output(&self, of: Output, bytes: &[u8]) -> Message {
        self.coding.encode(if of == Output::Stdout { STDOUT } else { STDERR }, bytes)
    }

    /// The last message: how it ended. Old clients are told of failures alone.
    pub fn ending(&self, result: &Result<i32, String>) -> Option<Message> {
        let bytes = ending(result, self.status)?;
        Some(self.coding.encode(ERROR, &bytes))
    }
}

/// What the error stream carries at the end: a `metav1.Status`, or the text of a failure.
pub fn ending(result: &Result<i32, String>, as_status: bool) -> Option<Vec<u8>> {
    let status = status(result);
    if as_status {
        return Some(status.to_string().into_bytes());
    }
    status["message"].as_str().map(|text| text.as_bytes().to_vec())
}

/// Terminal sizes are JSON with Go's field names: `{"Width":80,"Height":24}`.
pub fn resize(bytes: &[u8]) -> Option<Said> {
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

    fn binary(bytes: &'static [u8]) -> Message {
        Message::Binary(bytes.into())
    }

    #[test]
    fn messages_of_clients_are_understood() {
        let (v5, v4) = ("v5.channel.k8s.io", "v4.channel.k8s.io");
        let stdin = |text: &'static str| Some(Said::Stdin(Bytes::from_static(text.as_bytes())));
        let cases = [
            (binary(b"\x00hello"), v5, stdin("hello")),
            (binary(b"\x00"), v5, None),
            (binary(b"\xff\x00"), v5, Some(Said::StdinEnds)),
            (binary(b"\xff\x00"), v4, None),
            (binary(b"\xff\x01"), v5, None),
            (binary(b"\x04{\"Width\":80,\"Height\":24}"), v5, Some(Said::Resize { columns: 80, rows: 24 })),
            (binary(b"\x04{\"Width\":80}"), v5, None),
            (binary(b"\x01x"), v5, None),
            (binary(b""), v5, None),
            (Message::Text("0aGk=".into()), "v4.base64.channel.k8s.io", stdin("hi")),
            (Message::Text("0a".into()), "base64.channel.k8s.io", None),
            (Message::Text("0aGk=".into()), v4, None),
            (binary(b"\x00x"), "base64.channel.k8s.io", None),
        ];
        for (message, protocol, want) in cases {
            assert_eq!(Dialect::of(Some(protocol)).understand(&message), want, "{message:?} {protocol}");
        }
    }

    #[test]
    fn endings_carry_the_exit_code() {
        let parsed = |r| serde_json::from_slice::<Value>(&ending(&r, true).expect("told")).expect("json");
        assert_eq!(parsed(Ok(0))["status"], "Success");
        let three = parsed(Ok(3));
        assert_eq!(three["reason"], "NonZeroExitCode");
        assert_eq!(three["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(parsed(Err("no such file".into()))["message"], "Internal error occurred: no such file");
        assert_eq!(ending(&Ok(0), false), None);
        assert!(ending(&Ok(3), false).expect("told").ends_with(b"exit code 3"));
        let v4 = Dialect::of(Some("v4.channel.k8s.io"));
        assert_eq!(v4.output(Output::Stderr, b"x"), binary(b"\x02x"));
        let base64 = Dialect::of(Some("base64.channel.k8s.io"));
        assert_eq!(base64.output(Output::Stdout, b"hi"), Message::Text("1aGk=".into()));
    }
}
