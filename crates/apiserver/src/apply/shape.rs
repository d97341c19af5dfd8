//! How server-side apply sees a value: as a leaf, or as something whose parts have owners of their own.

use serde_json::Value;

use super::Kind;
use crate::custom::structural::{Additional, List, Structural};
use crate::schema::{Field, ListKind, Schema, Ty, Type, schema};

/// What merging does with a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'a> {
    /// Owned and replaced as a whole: scalars, atomic lists, maps and structs.
    Leaf(&'static Ty),
    /// A struct; `kind` if it also has `apiVersion` and `kind`.
    Struct(&'static Type),
    /// A map, entry by entry.
    Map(&'static Ty),
    /// A list of scalars that are each there or not.
    Set(&'static Ty),
    /// A list of structs told apart by keys.
    Keyed(&'static Type, &'static Field),
    /// The root of a custom resource, or an embedded one.
    Resource(&'a Structural),
    /// An object, list or scalar of a custom resource.
    Custom(&'a Structural),
    /// Nothing is known: objects are merged by name, everything else is a leaf.
    Open,
    /// A field that the type doesn't have.
    Unknown,
}

static STRING: Ty = Ty::String(None);

impl<'a> Shape<'a> {
    /// The shape of an object of that kind.
    pub fn of_kind(kind: Kind<'a>) -> Self {
        let schema: &'static Schema = schema();
        match kind.custom {
            Some(custom) => Shape::Resource(&custom.schema),
            None => schema.type_of(kind.gvk).map_or(Shape::Open, Shape::Struct),
        }
    }

    /// The shape of a struct's or map's member.
    pub fn member(self, name: &str) -> Shape<'a> {
        let schema: &'static Schema = schema();
        match self {
            Shape::Struct(ty) if ty.is_kind && (name == "apiVersion" || name == "kind") => {
                Shape::Leaf(&STRING)
            }
            Shape::Struct(ty) => schema.field(ty, name).map_or(Shape::Unknown, of_field),
            Shape::Map(of) => of_ty(of),
            Shape::Resource(_) if name == "apiVersion" || name == "kind" => Shape::Leaf(&STRING),
            Shape::Resource(_) if name == "metadata" => schema.metadata().map_or(Shape::Open, Shape::Struct),
            Shape::Resource(of) | Shape::Custom(of) => match of.properties.get(name) {
                Some(of) => of_structural(of),
                None => additional(of),
            },
            Shape::Open => Shape::Open,
            _ => Shape::Unknown,
        }
    }

    /// Whether the member is a declared field, not an entry of a map.
    pub fn declares(self, name: &str) -> bool {
        match self {
            Shape::Struct(_) | Shape::Resource(_) => !matches!(self.member(name), Shape::Unknown),
            Shape::Custom(of) => of.properties.contains_key(name),
            _ => false,
        }
    }

    /// Whether the member is an entry of a map.
    pub fn is_entry(self, name: &str) -> bool {
        match self {
            Shape::Map(_) => true,
            Shape::Custom(of) => matches!(of.additional, Some(Additional::Of(_))) && !self.declares(name),
            _ => false,
        }
    }

    /// The shape of a list's items.
    pub fn item(self) -> Shape<'a> {
        match self {
            Shape::Set(of) => Shape::Leaf(of),
            Shape::Keyed(_, Field { ty: Ty::List(of), .. }) => of_ty(of),
            Shape::Custom(Structural { items: Some(of), .. }) => of_structural(of),
            Shape::Open => Shape::Open,
            _ => Shape::Unknown,
        }
    }

    /// Whether `value` has parts with owners of their own.
    pub fn has_members(self, value: &Value) -> bool {
        match self {
            Shape::Struct(_) | Shape::Map(_) | Shape::Open | Shape::Resource(_) => value.is_object(),
            Shape::Custom(of) => value.is_object() && !of.atomic,
            _ => false,
        }
    }

    pub fn has_items(self, value: &Value) -> bool {
        match self {
            Shape::Set(_) | Shape::Keyed(..) => value.is_array(),
            Shape::Custom(of) => value.is_array() && of.list != List::Atomic,
            _ => false,
        }
    }

    /// Whether items are told apart by keys.
    pub fn is_keyed(self) -> bool {
        match self {
            Shape::Keyed(..) => true,
            Shape::Custom(of) => matches!(of.list, List::Map(_)),
            _ => false,
        }
    }

    /// The name of an item among its siblings, as field sets write it: `k:{"name":"web"}` or `v:"x"`.
    /// A key that is left out has its default; `Err` names one that has none.
    pub fn item_name(self, item: &Value) -> Result<String, String> {
        match self {
            Shape::Keyed(ty, field) => {
                let Some(ListKind::Map(keys)) = Some(field.list_kind()) else { return Err(String::new()) };
                let mut named: Vec<(&str, Value)> = Vec::with_capacity(keys.len());
                for key in keys {
                    let value = item.get(key).filter(|v| !v.is_null()).cloned();
                    let value = value.or_else(|| key_default(ty, key)).ok_or_else(|| key.to_owned())?;
                    named.push((key, value));
                }
                named.sort_by_key(|(key, _)| *key);
                let entries: serde_json::Map<String, Value> =
                    named.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
                Ok(format!("k:{}", Value::Object(entries)))
            }
            Shape::Custom(Structural { list: List::Map(keys), items: Some(of), .. }) => {
                let mut named = serde_json::Map::new();
                let mut keys: Vec<&String> = keys.iter().collect();
                keys.sort();
                for key in keys {
                    let default = of.properties.get(key).and_then(|key| key.default.as_ref());
                    let value =
                        item.get(key).filter(|v| !v.is_null()).or(default).ok_or_else(|| key.clone())?;
                    named.insert(key.clone(), value.clone());
                }
                Ok(format!("k:{}", Value::Object(named)))
            }
            _ => Ok(format!("v:{item}")),
        }
    }
}

/// What a key is when it is left out: its declared default, or the zero of a field that is always there.
fn key_default(ty: &Type, key: &str) -> Option<Value> {
    let field = schema().field(ty, key)?;
    if let Some(default) = field.default {
        return serde_json::from_str(default).ok();
    }
    match &field.ty {
        _ if field.pointer || field.omit_empty => None,
        Ty::String(_) => Some("".into()),
        Ty::Int32 | Ty::Int64 => Some(0.into()),
        _ => None,
    }
}

fn of_structural(of: &Structural) -> Shape<'_> {
    if of.embedded {
        return Shape::Resource(of);
    }
    if of.ty.is_empty() && of.preserve { Shape::Open } else { Shape::Custom(of) }
}

/// The shape of members that no property names.
fn additional(of: &Structural) -> Shape<'_> {
    match &of.additional {
        Some(Additional::Of(of)) => of_structural(of),
        Some(Additional::Any) => Shape::Open,
        None if of.preserve => Shape::Open,
        None => Shape::Unknown,
    }
}

fn of_field(field: &'static Field) -> Shape<'static> {
    let schema: &'static Schema = schema();
    match (&field.ty, field.atomic) {
        (ty, Some(true)) => Shape::Leaf(ty),
        (Ty::Struct(id), Some(false)) => Shape::Struct(schema.get(*id)),
        (Ty::List(of), _) => match (field.list_kind(), &**of) {
            (ListKind::Set, _) => Shape::Set(of),
            (ListKind::Map(_), Ty::Struct(id)) => Shape::Keyed(schema.get(*id), field),
            _ => Shape::Leaf(&field.ty),
        },
        (ty, _) => of_ty(ty),
    }
}

fn of_ty(ty: &'static Ty) -> Shape<'static> {
    let schema: &'static Schema = schema();
    match ty {
        Ty::Struct(id) if !schema.get(*id).atomic => Shape::Struct(schema.get(*id)),
        Ty::Map(of) => Shape::Map(of),
        _ => Shape::Leaf(ty),
    }
}
