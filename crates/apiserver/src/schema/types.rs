//! The type table: fields with their types, protobuf numbers and merge rules, as extracted by `cargo xtask schema`.

use std::collections::BTreeMap;

use super::Gvk;

/// Points at a struct type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(u16);

/// The type of a field, a list's element or a map's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ty {
    /// A string, with the name of its Go type if it has one of its own.
    String(Option<&'static str>),
    Bool,
    Int32,
    Int64,
    Float64,
    /// base64 in JSON.
    Bytes,
    Quantity,
    IntOrString,
    /// RFC 3339 with whole seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// Any JSON.
    Raw,
    /// A schema of a custom resource, or something simpler.
    SchemaOr(TypeId, Simpler),
    /// A field set of managedFields: any JSON object.
    FieldsV1,
    /// A list of strings that protobuf wraps in a message.
    Values,
    List(Box<Ty>),
    Map(Box<Ty>),
    Struct(TypeId),
}

/// What may stand where a schema may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simpler {
    Schemas,
    Bool,
    Strings,
}

/// How server-side apply merges a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    Atomic,
    Set,
    Map(Vec<&'static str>),
}

#[derive(Clone, Debug)]
pub struct Field {
    /// The JSON name; empty for an inlined type.
    pub name: &'static str,
    /// The protobuf field number; 0 if protobuf does not carry the field.
    pub number: u32,
    pub ty: Ty,
    /// A pointer: absent and zero differ.
    pub pointer: bool,
    /// Left out of JSON when empty.
    pub omit_empty: bool,
    /// Left out of JSON when it is the zero struct.
    pub omit_zero: bool,
    pub required: bool,
    /// The strategic-merge strategies, e.g. `merge,retainKeys`; empty if none.
    pub patch_strategy: &'static str,
    /// The strategic-merge key; empty if none.
    pub merge_key: &'static str,
    /// As declared; `None` if the field has no `listType`.
    pub list: Option<ListKind>,
    /// Whether server-side apply replaces the map or struct as a whole, if the field overrides its type.
    pub atomic: Option<bool>,
    /// The declared default, as JSON.
    pub default: Option<&'static str>,
}

impl Field {
    pub fn inline(&self) -> bool {
        self.name.is_empty()
    }

    /// How server-side apply merges this list: by `listType`, else by the patch tags, else atomically.
    pub fn list_kind(&self) -> ListKind {
        if let Some(kind) = &self.list {
            return kind.clone();
        }
        match (self.patch_strategy.split(',').any(|s| s == "merge"), self.merge_key) {
            (false, _) => ListKind::Atomic,
            (true, "") => ListKind::Set,
            (true, key) => ListKind::Map(vec![key]),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Type {
    pub id: TypeId,
    /// e.g. `core.v1.PodSpec`.
    pub name: &'static str,
    pub fields: Vec<Field>,
    /// Has `apiVersion` and `kind`.
    pub is_kind: bool,
    /// Replaced as a whole by server-side apply.
    pub atomic: bool,
}

impl Type {
    /// `PodSpec`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// `v1.PodSpec`, as Go names it in errors.
    pub fn go_name(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, rest)| rest)
    }
}

pub(super) struct Types {
    types: Vec<Type>,
    by_name: BTreeMap<&'static str, TypeId>,
    /// (group, version) → the prefix of its types' names.
    prefixes: BTreeMap<(&'static str, &'static str), &'static str>,
}

impl Types {
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[usize::from(id.0)]
    }

    pub fn named(&self, name: &str) -> Option<&Type> {
        self.by_name.get(name).map(|id| self.get(*id))
    }

    pub fn of_kind(&self, gvk: Gvk<'_>) -> Option<&Type> {
        let prefix = self.prefixes.get(&(gvk.group, gvk.version));
        let own = prefix.and_then(|prefix| self.by_name.get(format!("{prefix}.{}", gvk.kind).as_str()));
        // Clients send options under the group version that they speak.
        let id = own.or_else(|| match gvk.kind {
            "DeleteOptions" | "CreateOptions" | "UpdateOptions" | "PatchOptions" | "Status" => {
                self.by_name.get(format!("meta.v1.{}", gvk.kind).as_str())
            }
            _ => None,
        })?;
        Some(self.get(*id)).filter(|ty| ty.is_kind)
    }

    pub fn field<'a>(&'a self, ty: &'a Type, name: &str) -> Option<&'a Field> {
        ty.fields.iter().find_map(|field| match &field.ty {
            Ty::Struct(id) if field.inline() => self.field(self.get(*id), name),
            _ => (field.name == name).then_some(field),
        })
    }

    pub fn flatten<'a>(&'a self, ty: &'a Type, found: &mut Vec<&'a Field>) {
        for field in &ty.fields {
            match &field.ty {
                Ty::Struct(id) if field.inline() => self.flatten(self.get(*id), found),
                _ => found.push(field),
            }
        }
    }
}

/// Reads the table; it is part of the program, so a malformed line is a bug that the tests find.
pub(super) fn parse(text: &'static str) -> Types {
    let mut by_name = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("T ").and_then(|rest| rest.split(' ').next()) {
            by_name.insert(name, TypeId(by_name.len() as u16));
        }
    }
    let mut types: Vec<Type> = Vec::with_capacity(by_name.len());
    let mut prefixes = BTreeMap::new();
    for line in text.lines() {
        let columns: Vec<&'static str> = line.split(' ').collect();
        match columns[..] {
            ["G", group, version, prefix] => {
                prefixes.insert((if group == "-" { "" } else { group }, version), prefix);
            }
            ["T", name, ref flags @ ..] => types.push(Type {
                id: by_name[name],
                name,
                fields: Vec::new(),
                is_kind: flags.contains(&"kind"),
                atomic: flags.contains(&"t=atomic"),
            }),
            [name, number, ty, ref flags @ ..] => {
                let field = parse_field(&by_name, name, number, ty, flags);
                types.last_mut().expect("types.txt has a type before its first field").fields.push(field);
            }
            _ => panic!("types.txt: cannot read {line:?}"),
        }
    }
    Types { types, by_name, prefixes }
}

fn parse_field(
    by_name: &BTreeMap<&'static str, TypeId>,
    name: &'static str,
    number: &str,
    ty: &'static str,
    flags: &[&'static str],
) -> Field {
    let flag = |prefix: &str| flags.iter().find_map(|flag| flag.strip_prefix(prefix));
    Field {
        name: if name == "-" { "" } else { name },
        number: number.parse().expect("types.txt has field numbers in its second column"),
        ty: parse_ty(by_name, ty.trim_start_matches('*')),
        pointer: ty.starts_with('*'),
        omit_empty: flags.contains(&"o"),
        omit_zero: flags.contains(&"z"),
        required: flags.contains(&"r"),
        patch_strategy: flag("p=").unwrap_or(""),
        merge_key: flag("k=").unwrap_or(""),
        list: flag("l=").map(|kind| match kind.split_once(':') {
            Some((_, keys)) => ListKind::Map(keys.split(',').collect()),
            None if kind == "set" => ListKind::Set,
            None => ListKind::Atomic,
        }),
        atomic: flag("m=").or_else(|| flag("t=")).map(|kind| kind == "atomic"),
        default: flag("d="),
    }
}

fn schema_or(by_name: &BTreeMap<&'static str, TypeId>, simpler: Simpler) -> Ty {
    let of = by_name.get("apiextensions.v1.JSONSchemaProps");
    Ty::SchemaOr(*of.unwrap_or_else(|| panic!("types.txt: no type of schemas")), simpler)
}

fn parse_ty(by_name: &BTreeMap<&'static str, TypeId>, text: &'static str) -> Ty {
    if let Some(rest) = text.strip_prefix("[]") {
        return Ty::List(Box::new(parse_ty(by_name, rest)));
    }
    if let Some(rest) = text.strip_prefix("{}") {
        return Ty::Map(Box::new(parse_ty(by_name, rest)));
    }
    match text {
        "s" => Ty::String(None),
        "b" => Ty::Bool,
        "i32" => Ty::Int32,
        "i64" => Ty::Int64,
        "f64" => Ty::Float64,
        "bytes" => Ty::Bytes,
        "Quantity" => Ty::Quantity,
        "IntOrString" => Ty::IntOrString,
        "Time" => Ty::Time,
        "MicroTime" => Ty::MicroTime,
        "RawExtension" => Ty::Raw,
        "SchemaOrSchemas" => schema_or(by_name, Simpler::Schemas),
        "SchemaOrBool" => schema_or(by_name, Simpler::Bool),
        "SchemaOrStrings" => schema_or(by_name, Simpler::Strings),
        "FieldsV1" => Ty::FieldsV1,
        "Values" => Ty::Values,
        _ => match text.strip_prefix("s=") {
            Some(go) => Ty::String(Some(go)),
            None => Ty::Struct(*by_name.get(text).unwrap_or_else(|| panic!("types.txt: no type {text}"))),
        },
    }
}
