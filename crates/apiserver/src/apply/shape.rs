//! How server-side apply sees a value: as a leaf, or as something whose parts have owners of their own.

use serde_json::Value;

use crate::schema::{Field, Gvk, ListKind, Schema, Ty, Type, schema};

/// What merging does with a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
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
    /// Nothing is known: objects are merged by name, everything else is a leaf.
    Open,
    /// A field that the type doesn't have.
    Unknown,
}

static STRING: Ty = Ty::String(None);

impl Shape {
    /// The shape of an object of that kind.
    pub fn of_kind(gvk: Gvk<'_>) -> Shape {
        let schema: &'static Schema = schema();
        schema.type_of(gvk).map_or(Shape::Open, Shape::Struct)
    }

    /// The shape of a struct's or map's member.
    pub fn member(self, name: &str) -> Shape {
        let schema: &'static Schema = schema();
        match self {
            Shape::Struct(ty) if ty.is_kind && (name == "apiVersion" || name == "kind") => {
                Shape::Leaf(&STRING)
            }
            Shape::Struct(ty) => schema.field(ty, name).map_or(Shape::Unknown, of_field),
            Shape::Map(of) => of_ty(of),
            Shape::Open => Shape::Open,
            _ => Shape::Unknown,
        }
    }

    /// Whether the member is a declared field, not an entry of a map.
    pub fn declares(self, name: &str) -> bool {
        matches!(self, Shape::Struct(_)) && !matches!(self.member(name), Shape::Unknown)
    }

    /// The shape of a list's items.
    pub fn item(self) -> Shape {
        match self {
            Shape::Set(of) => Shape::Leaf(of),
            Shape::Keyed(_, Field { ty: Ty::List(of), .. }) => of_ty(of),
            Shape::Open => Shape::Open,
            _ => Shape::Unknown,
        }
    }

    /// Whether `value` has parts with owners of their own.
    pub fn has_members(self, value: &Value) -> bool {
        match self {
            Shape::Struct(_) | Shape::Map(_) | Shape::Open => value.is_object(),
            _ => false,
        }
    }

    pub fn has_items(self, value: &Value) -> bool {
        matches!(self, Shape::Set(_) | Shape::Keyed(..)) && value.is_array()
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

fn of_field(field: &'static Field) -> Shape {
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

fn of_ty(ty: &'static Ty) -> Shape {
    let schema: &'static Schema = schema();
    match ty {
        Ty::Struct(id) if !schema.get(*id).atomic => Shape::Struct(schema.get(*id)),
        Ty::Map(of) => Shape::Map(of),
        _ => Shape::Leaf(ty),
    }
}
