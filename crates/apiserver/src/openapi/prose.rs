//! What Kubernetes says of its types and fields. It is unpacked while a document is made, and not kept.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::DeflateDecoder;
use serde_json::{Map, Value, json};

use crate::schema::Ty;

pub(super) static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.deflate"));

/// The descriptions by the name of the type.
#[derive(Default)]
pub(super) struct Prose {
    text: String,
    /// Where the lines of each type begin and end.
    types: BTreeMap<String, (usize, usize)>,
}

/// What is said of one type.
#[derive(Default)]
pub(super) struct Described<'a> {
    own: &'a str,
    fields: BTreeMap<&'a str, Line<'a>>,
}

#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a str,
    values: Option<&'a str>,
    of_items: bool,
}

impl Prose {
    /// The table is part of the program, so one that cannot be unpacked is a bug that the tests find.
    pub fn unpack() -> Self {
        let mut text = String::new();
        if let Err(why) = DeflateDecoder::new(PACKED).read_to_string(&mut text) {
            tracing::error!("the descriptions of kinds cannot be unpacked: {why}");
            return Self::default();
        }
        let mut types = BTreeMap::new();
        let heads: Vec<usize> = text.match_indices("\nT ").map(|(at, _)| at + 1).collect();
        for (index, start) in heads.iter().enumerate() {
            let end = heads.get(index + 1).map_or(text.len(), |next| next - 1);
            let name = text[*start + 2..end].split([' ', '\n']).next().unwrap_or_default();
            types.insert(name.to_owned(), (*start, end));
        }
        Self { text, types }
    }

    pub fn of(&self, name: &str) -> Described<'_> {
        let Some((start, end)) = self.types.get(name) else { return Described::default() };
        let mut lines = self.text[*start..*end].lines();
        let head = lines.next().unwrap_or_default();
        let own = head.splitn(3, ' ').nth(2).unwrap_or_default();
        Described { own, fields: lines.map(line).collect() }
    }
}

/// `FIELD TEXT`, `FIELD=VALUE,VALUE TEXT` or `FIELD[]=VALUE TEXT`.
fn line(line: &str) -> (&str, Line<'_>) {
    let (head, text) = line.split_once(' ').unwrap_or((line, ""));
    let (name, values) = match head.split_once('=') {
        Some((name, values)) => (name, Some(values)),
        None => (head, None),
    };
    let of_items = name.ends_with("[]");
    (name.trim_end_matches("[]"), Line { text, values, of_items })
}

impl Described<'_> {
    /// Says what the type is.
    pub fn model(&self, model: &mut Value) {
        say(model, self.own);
    }

    /// Says what a field is, and which values it takes.
    pub fn field(&self, name: &str, property: &mut Value) {
        let Some(line) = self.fields.get(name) else { return };
        say(property, line.text);
        let Some(values) = line.values else { return };
        let place = if line.of_items { property.get_mut("items") } else { Some(property) };
        if let Some(place) = place {
            place["enum"] = values.split(',').collect();
        }
    }
}

/// `apiVersion` and `kind` of the types that are kinds.
pub(super) fn type_meta(prose: &Prose, properties: &mut Map<String, Value>) {
    let described = prose.of("meta.v1.Status");
    for name in ["apiVersion", "kind"] {
        let mut property = json!({"type": "string"});
        described.field(name, &mut property);
        properties.insert(name.to_owned(), property);
    }
}

/// The name under which a type with an encoding of its own is described.
pub(super) fn special(ty: &Ty) -> &'static str {
    match ty {
        Ty::Quantity => "Quantity",
        Ty::IntOrString => "IntOrString",
        Ty::Time => "Time",
        Ty::MicroTime => "MicroTime",
        Ty::Raw | Ty::SchemaOr(..) => "RawExtension",
        Ty::FieldsV1 => "FieldsV1",
        _ => "",
    }
}

fn say(model: &mut Value, text: &str) {
    if !text.is_empty() {
        model["description"] = unescape(text).into();
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        plain.push(if rest[at + 1..].starts_with('n') { '\n' } else { '\\' });
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::schema;

    #[test]
    fn every_type_that_is_served_is_in_the_table() {
        let prose = Prose::unpack();
        for resource in schema().resources() {
            let ty = schema().type_of(resource.gvk()).expect("served kinds have types");
            let described = prose.of(ty.name);
            assert!(!described.own.is_empty(), "{}", ty.name);
            for field in schema().fields(ty).iter().filter(|field| field.name != "metadata") {
                assert!(described.fields.contains_key(field.name), "{}.{}", ty.name, field.name);
            }
        }
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape(r"a\nb\\nc\\"), "a\nb\\nc\\");
    }

    #[test]
    fn values_are_of_fields_or_of_items() {
        let text = "T x.v1.Y Whole.\na=,B One.\nc[]=D,E";
        let prose = Prose { text: text.into(), types: [("x.v1.Y".into(), (0, text.len()))].into() };
        let described = prose.of("x.v1.Y");
        let (mut own, mut a, mut c) = (json!({}), json!({}), json!({"items": {}}));
        described.model(&mut own);
        described.field("a", &mut a);
        described.field("c", &mut c);
        assert_eq!(own, json!({"description": "Whole."}));
        assert_eq!(a, json!({"description": "One.", "enum": ["", "B"]}));
        assert_eq!(c, json!({"items": {"enum": ["D", "E"]}}));
    }
}
