//! `metav1.Table`: the columns that `kubectl get` prints, worded as the Kubernetes printers do.

use serde_json::{Value, json};

use crate::schema::Resource;

/// What a row carries beside its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Include {
    None,
    /// A `PartialObjectMetadata`; the default.
    #[default]
    Metadata,
    Object,
}

/// The `columnDefinitions` of a kind.
pub fn columns(_res: &Resource) -> Value {
    json!([])
}

/// A `Table` of `items` as of `now`; `list_meta` becomes its `metadata`.
pub fn render(
    res: &Resource,
    _items: &[&Value],
    list_meta: Value,
    _include: Include,
    _now: jiff::Timestamp,
) -> Value {
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta, "columnDefinitions": columns(res), "rows": []})
}
