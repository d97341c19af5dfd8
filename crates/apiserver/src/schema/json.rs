//! Parses JSON bodies, noticing duplicate fields, which a map would silently merge.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::ApiError;

/// As many messages as kube-apiserver reports of one object.
pub(super) const MAX_MESSAGES: usize = 100;

/// Parses a JSON body. Answers one message per duplicate field (the last value wins), in
/// kube-apiserver's wording; what is not JSON, or nested deeper than 128 levels, is a 400.
pub fn parse_json(body: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    let mut state = State { path: String::new(), duplicates: Vec::new(), left: usize::MAX };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = Node(&mut state).deserialize(&mut deserializer);
    let value = parsed.and_then(|value| deserializer.end().map(|()| value)).map_err(|e| {
        let why = if e.is_eof() { "unexpected end of JSON input".to_owned() } else { e.to_string() };
        ApiError::bad_request(why)
    })?;
    Ok((value, state.duplicates))
}

/// Reads YAML, or JSON, which is a part of it. What aliases multiply beyond the size of the body is refused, and so is what is
/// nested deeper than 128 levels.
pub fn parse_yaml(body: &[u8]) -> Result<Value, serde_yaml::Error> {
    /// Legitimate aliases repeat a few lines.
    const ROOM: usize = 64 << 10;
    let mut state = State { path: String::new(), duplicates: Vec::new(), left: 2 * body.len() + ROOM };
    Node(&mut state).deserialize(serde_yaml::Deserializer::from_slice(body))
}

/// How deep stored objects may nest: what is deeper than 127 levels cannot be parsed again, and lists and events need some.
pub const MAX_DEPTH: usize = 120;

/// Whether a value is nested deeper than `limit` levels.
pub fn is_deeper(value: &Value, limit: usize) -> bool {
    let below = |value: &Value| limit == 0 || is_deeper(value, limit - 1);
    match value {
        Value::Array(items) => limit == 0 || items.iter().any(below),
        Value::Object(members) => limit == 0 || members.values().any(below),
        _ => false,
    }
}

struct State {
    /// Where the parser is, e.g. `spec.ports[0]`.
    path: String,
    duplicates: Vec<String>,
    /// How much more may be read: one for each value, and the bytes of strings.
    left: usize,
}

impl State {
    fn spend<E: Error>(&mut self, amount: usize) -> Result<(), E> {
        self.left = self.left.checked_sub(amount).ok_or_else(|| {
            E::custom("the document contains excessive aliasing; write out what it repeats")
        })?;
        Ok(())
    }
}

struct Node<'a>(&'a mut State);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<Value, E> {
        self.0.spend(1)?;
        Ok(Value::Bool(v))
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        self.0.spend(1)?;
        Ok(v.into())
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        self.0.spend(1)?;
        Ok(v.into())
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        self.0.spend(1)?;
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        self.0.spend(1 + v.len())?;
        Ok(v.into())
    }

    fn visit_string<E: Error>(self, v: String) -> Result<Value, E> {
        self.0.spend(1 + v.len())?;
        Ok(v.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.0.spend(1)?;
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.0.spend(1)?;
        let mut items = Vec::new();
        let len = self.0.path.len();
        loop {
            self.0.path.push_str(&format!("[{}]", items.len()));
            let next = seq.next_element_seed(Node(self.0));
            self.0.path.truncate(len);
            match next? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.spend(1)?;
        let mut map = Map::new();
        let len = self.0.path.len();
        while let Some(key) = access.next_key::<String>()? {
            self.0.spend(key.len())?;
            if len > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            if map.contains_key(&key) && self.0.duplicates.len() < MAX_MESSAGES {
                self.0.duplicates.push(format!("duplicate field {:?}", self.0.path));
            }
            let value = access.next_value_seed(Node(self.0));
            self.0.path.truncate(len);
            map.insert(key, value?);
        }
        Ok(Value::Object(map))
    }
}
