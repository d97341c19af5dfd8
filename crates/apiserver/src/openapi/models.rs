//! The schemas of a document: every type that its kinds reach.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::prose::{Prose, special, type_meta};
use crate::custom::Custom;
use crate::schema::{Field, Gvk, ListKind, Ty, Type, schema};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// What Kubernetes says of the metadata of custom resources.
const METADATA: &str = "Standard object's metadata. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// Collects schemas by name; referring to a type adds it.
pub(super) struct Models {
    schemas: BTreeMap<String, Value>,
    prose: Prose,
}

impl Models {
    pub fn new() -> Self {
        Self { schemas: BTreeMap::new(), prose: Prose::unpack() }
    }

    /// A reference to a kind's schema, which tells its group, version and kind.
    pub fn kind(&mut self, gvk: Gvk<'_>) -> Option<Value> {
        let ty = schema().type_of(gvk)?;
        let name = self.structure(ty);
        let own = json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
        let listed = self.schemas.get_mut(&name)?.as_object_mut()?;
        let kinds = listed.entry("x-kubernetes-group-version-kind").or_insert_with(|| json!([]));
        if let Value::Array(kinds) = kinds
            && !kinds.contains(&own)
        {
            kinds.push(own);
        }
        Some(reference(&name))
    }

    /// A reference to a custom kind's schema.
    pub fn custom(&mut self, gvk: Gvk<'_>, custom: &Custom) -> Value {
        let name = custom_name(gvk);
        if !self.schemas.contains_key(&name) {
            let metadata = schema().metadata().map(|ty| self.structure(ty));
            let mut model = custom.source.clone();
            if let Some(map) = model.as_object_mut() {
                let properties = map.entry("properties").or_insert_with(|| json!({}));
                if let Some(properties) = properties.as_object_mut() {
                    type_meta(&self.prose, properties);
                    if let Some(metadata) = metadata {
                        let property = json!({"allOf": [reference(&metadata)], "description": METADATA});
                        properties.insert("metadata".to_owned(), property);
                    }
                }
            }
            model["x-kubernetes-group-version-kind"] =
                json!([{"group": gvk.group, "version": gvk.version, "kind": gvk.kind}]);
            self.schemas.insert(name.clone(), model);
        }
        reference(&name)
    }

    /// A reference to the schema of a custom kind's lists.
    pub fn custom_list(&mut self, gvk: Gvk<'_>, custom: &Custom) -> Value {
        let item = self.custom(gvk, custom);
        let name = custom_name(Gvk { kind: &custom.list_kind, ..gvk });
        let metadata = format!("#/components/schemas/{META}.ListMeta");
        if let Some(status) = schema().type_of(Gvk { group: "", version: "v1", kind: "Status" }) {
            // It reaches the metadata of lists.
            self.structure(status);
        }
        let own = json!({"group": gvk.group, "version": gvk.version, "kind": custom.list_kind});
        self.schemas.entry(name.clone()).or_insert_with(|| {
            json!({
                "type": "object", "required": ["items"],
                "properties": {
                    "apiVersion": {"type": "string"}, "kind": {"type": "string"},
                    "items": {"type": "array", "items": item},
                    "metadata": {"allOf": [{"$ref": metadata}]},
                },
                "x-kubernetes-group-version-kind": [own],
            })
        });
        reference(&name)
    }

    /// The schemas by their names.
    pub fn finish(self) -> Map<String, Value> {
        self.schemas.into_iter().collect()
    }

    /// Adds a struct's schema and answers its name.
    fn structure(&mut self, ty: &Type) -> String {
        let name = full_name(ty);
        if self.schemas.contains_key(&name) {
            return name;
        }
        self.schemas.insert(name.clone(), Value::Null);
        let mut properties = Map::new();
        if ty.is_kind {
            type_meta(&self.prose, &mut properties);
        }
        let mut required = Vec::new();
        for field in schema().fields(ty) {
            if field.required {
                required.push(field.name);
            }
            properties.insert(field.name.to_owned(), self.property(field));
        }
        let described = self.prose.of(ty.name);
        for (name, property) in &mut properties {
            described.field(name, property);
        }
        let mut model = json!({"type": "object", "properties": properties});
        described.model(&mut model);
        if !required.is_empty() {
            model["required"] = json!(required);
        }
        if ty.atomic {
            model["x-kubernetes-map-type"] = "atomic".into();
        }
        self.schemas.insert(name.clone(), model);
        name
    }

    fn property(&mut self, field: &Field) -> Value {
        let mut property = self.value(&field.ty);
        if property.get("$ref").is_some() {
            property = json!({"allOf": [property]});
        }
        if let Some(default) = field.default.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            property["default"] = default;
        } else if matches!(field.ty, Ty::Struct(_)) && !field.pointer {
            property["default"] = json!({});
        }
        match &field.list {
            Some(ListKind::Atomic) => property["x-kubernetes-list-type"] = "atomic".into(),
            Some(ListKind::Set) => property["x-kubernetes-list-type"] = "set".into(),
            Some(ListKind::Map(keys)) => {
                property["x-kubernetes-list-type"] = "map".into();
                property["x-kubernetes-list-map-keys"] = json!(keys);
            }
            None => {}
        }
        if let Some(atomic) = field.atomic {
            property["x-kubernetes-map-type"] = if atomic { "atomic" } else { "granular" }.into();
        }
        if !field.patch_strategy.is_empty() {
            property["x-kubernetes-patch-strategy"] = field.patch_strategy.into();
        }
        if !field.merge_key.is_empty() {
            property["x-kubernetes-patch-merge-key"] = field.merge_key.into();
        }
        property
    }

    fn value(&mut self, ty: &Ty) -> Value {
        match ty {
            Ty::String(_) => json!({"type": "string"}),
            Ty::Bool => json!({"type": "boolean"}),
            Ty::Int32 => json!({"type": "integer", "format": "int32"}),
            Ty::Int64 => json!({"type": "integer", "format": "int64"}),
            Ty::Float64 => json!({"type": "number", "format": "double"}),
            Ty::Bytes => json!({"type": "string", "format": "byte"}),
            Ty::Values => json!({"type": "array", "items": {"type": "string"}}),
            Ty::Quantity => {
                self.special(ty, QUANTITY, json!({"oneOf": [{"type": "string"}, {"type": "number"}]}))
            }
            Ty::IntOrString => self.special(
                ty,
                INT_OR_STRING,
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
            ),
            Ty::Time => {
                self.special(ty, &format!("{META}.Time"), json!({"type": "string", "format": "date-time"}))
            }
            Ty::MicroTime => self.special(
                ty,
                &format!("{META}.MicroTime"),
                json!({"type": "string", "format": "date-time"}),
            ),
            Ty::Raw | Ty::SchemaOr(..) => self.special(ty, RAW, json!({"type": "object"})),
            Ty::FieldsV1 => self.special(ty, &format!("{META}.FieldsV1"), json!({"type": "object"})),
            Ty::List(of) => {
                let of = self.element(of);
                json!({"type": "array", "items": of})
            }
            Ty::Map(of) => {
                let of = self.element(of);
                json!({"type": "object", "additionalProperties": of})
            }
            Ty::Struct(id) => {
                let name = self.structure(schema().get(*id));
                reference(&name)
            }
        }
    }

    /// The schema of a list's items or a map's values.
    fn element(&mut self, ty: &Ty) -> Value {
        let element = self.value(ty);
        match ty {
            Ty::Struct(_) => json!({"allOf": [element], "default": {}}),
            _ => element,
        }
    }

    fn special(&mut self, ty: &Ty, name: &str, mut model: Value) -> Value {
        if !self.schemas.contains_key(name) {
            self.prose.of(special(ty)).model(&mut model);
            self.schemas.insert(name.to_owned(), model);
        }
        reference(name)
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// `org.example.v1.CronTab` of `example.org/v1 CronTab`.
fn custom_name(gvk: Gvk<'_>) -> String {
    let mut parts: Vec<&str> = gvk.group.split('.').rev().collect();
    parts.extend([gvk.version, gvk.kind]);
    parts.join(".")
}

/// `io.k8s.api.core.v1.Pod` of `core.v1.Pod`.
fn full_name(ty: &Type) -> String {
    match ty.name.strip_prefix("meta.v1.") {
        Some(name) => format!("{META}.{name}"),
        None => match ty.name.strip_prefix("apiextensions.") {
            Some(name) => format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{name}"),
            None => format!("io.k8s.api.{}", ty.name),
        },
    }
}
