//! API objects in Kubernetes' protobuf (`application/vnd.kubernetes.protobuf`), read into what JSON is read into.
//! Fields have the numbers of `generated.proto` in k8s.io/api; those that nobody asks for are skipped.

mod messages;

use std::str::Utf8Error;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// What an object begins with that says its kind.
const MAGIC: &[u8] = b"k8s\0";

/// Room for the elements of a list at first: slices of few endpoints need no more.
const AT_FIRST: usize = 16;

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("no protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("a field of protobuf ends before its length")]
    Truncated,
    #[error("field {0} of protobuf is not of the type that Kubernetes gives it")]
    Type(u32),
    #[error("a string in protobuf: {0}")]
    Text(#[from] Utf8Error),
    #[error("an object in protobuf does not begin with \"k8s\\0\"")]
    Magic,
    #[error("a {found:?} in protobuf where a {wanted} belongs")]
    Kind { wanted: String, found: String },
}

/// One event of a watch (`meta.v1.WatchEvent`).
#[derive(Default)]
pub struct Event<'a> {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub what: &'a str,
    object: &'a [u8],
}

impl<'a> Event<'a> {
    /// The object, if it is of this kind.
    pub fn object<M: Message<'a>>(&self, kind: &str) -> Result<M, Malformed> {
        object(self.object, kind)
    }
}

/// What a server says of a failure (`meta.v1.Status`).
#[derive(Debug, Default)]
pub struct Status<'a> {
    pub message: &'a str,
    pub reason: &'a str,
    pub code: i32,
}

/// Reads an event.
pub fn event(bytes: &[u8]) -> Result<Event<'_>, Malformed> {
    read(bytes)
}

/// Reads an object with its kind before it, which must be this one.
pub fn object<'a, M: Message<'a>>(bytes: &'a [u8], kind: &str) -> Result<M, Malformed> {
    let envelope: Envelope<'_> = read(bytes.strip_prefix(MAGIC).ok_or(Malformed::Magic)?)?;
    if envelope.type_meta.kind != kind {
        return Err(Malformed::Kind { wanted: kind.to_owned(), found: envelope.type_meta.kind.to_owned() });
    }
    read(envelope.raw)
}

/// An object and of which kind it is (`runtime.Unknown`).
#[derive(Default)]
struct Envelope<'a> {
    type_meta: TypeMeta<'a>,
    raw: &'a [u8],
}

#[derive(Default)]
struct TypeMeta<'a> {
    kind: &'a str,
}

/// What is read field by field. Of a field that comes twice the last one counts, or both if they add up.
pub trait Message<'a>: Default {
    /// Takes one field by its number.
    fn take(&mut self, number: u32, value: Value<'a>) -> Result<(), Malformed>;
}

fn read<'a, M: Message<'a>>(bytes: &'a [u8]) -> Result<M, Malformed> {
    let mut message = M::default();
    merge(&mut message, bytes)?;
    Ok(message)
}

fn merge<'a>(message: &mut impl Message<'a>, mut rest: &'a [u8]) -> Result<(), Malformed> {
    while !rest.is_empty() {
        let (number, wire_type) = key(&mut rest)?;
        let content = match wire_type {
            WireType::Varint => Content::Varint(varint(&mut rest)?),
            WireType::LengthDelimited => {
                let length = usize::try_from(varint(&mut rest)?).unwrap_or(usize::MAX);
                let Some((bytes, after)) = rest.split_at_checked(length) else {
                    return Err(Malformed::Truncated);
                };
                rest = after;
                Content::Bytes(bytes)
            }
            other => {
                skip_field(other, number, &mut rest, DecodeContext::default())?;
                Content::Skipped
            }
        };
        message.take(number, Value { number, content })?;
    }
    Ok(())
}

/// Nearly all keys and lengths are one byte, which costs a call otherwise.
#[inline]
fn varint(rest: &mut &[u8]) -> Result<u64, prost::DecodeError> {
    match *rest {
        [byte @ ..0x80, after @ ..] => {
            *rest = after;
            Ok((*byte).into())
        }
        _ => decode_varint(rest),
    }
}

#[inline]
fn key(rest: &mut &[u8]) -> Result<(u32, WireType), prost::DecodeError> {
    match *rest {
        [byte @ 8..0x80, after @ ..] => {
            *rest = after;
            Ok((u32::from(byte >> 3), WireType::try_from(u64::from(byte & 7))?))
        }
        _ => decode_key(rest),
    }
}

/// What a field holds, until its message says what it should be.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    number: u32,
    content: Content<'a>,
}

#[derive(Clone, Copy)]
enum Content<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of a form that no field has which is asked for.
    Skipped,
}

/// Go writes what is no pointer even if it is empty, and JSON leaves it out then: methods that give an `Option` do so too.
impl<'a> Value<'a> {
    fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self.content {
            Content::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::Type(self.number)),
        }
    }

    fn str(self) -> Result<&'a str, Malformed> {
        Ok(std::str::from_utf8(self.bytes()?)?)
    }

    /// A string as what is made of one.
    fn text<T: From<&'a str>>(self) -> Result<T, Malformed> {
        self.str().map(T::from)
    }

    fn filled_str(self) -> Result<Option<&'a str>, Malformed> {
        Ok(Some(self.str()?).filter(|text| !text.is_empty()))
    }

    fn filled_text<T: From<&'a str>>(self) -> Result<Option<T>, Malformed> {
        Ok(self.filled_str()?.map(T::from))
    }

    fn varint(self) -> Result<u64, Malformed> {
        match self.content {
            Content::Varint(number) => Ok(number),
            _ => Err(Malformed::Type(self.number)),
        }
    }

    /// Negative numbers of 32 bits are carried in 64.
    #[expect(clippy::cast_possible_truncation, reason = "protobuf's int32")]
    fn int32(self) -> Result<i32, Malformed> {
        Ok(self.varint()? as i32)
    }

    fn filled_int32(self) -> Result<Option<i32>, Malformed> {
        Ok(Some(self.int32()?).filter(|number| *number != 0))
    }

    fn bool(self) -> Result<bool, Malformed> {
        Ok(self.varint()? != 0)
    }

    fn filled_bool(self) -> Result<Option<bool>, Malformed> {
        Ok(Some(self.bool()?).filter(|set| *set))
    }

    fn message<M: Message<'a>>(self) -> Result<M, Malformed> {
        read(self.bytes()?)
    }

    /// Adds to a message that may have begun.
    fn merge_into<M: Message<'a>>(self, message: &mut Option<M>) -> Result<(), Malformed> {
        merge(message.get_or_insert_default(), self.bytes()?)
    }

    /// One more element of a list.
    fn push_to<M: Message<'a>>(self, list: &mut Option<Vec<M>>) -> Result<(), Malformed> {
        list.get_or_insert_with(|| Vec::with_capacity(AT_FIRST)).push(self.message()?);
        Ok(())
    }

    /// One more string of a list.
    fn push_text_to<T: From<&'a str>>(self, list: &mut Option<Vec<T>>) -> Result<(), Malformed> {
        list.get_or_insert_default().push(self.text()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
