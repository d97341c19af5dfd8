//! Resources for tests of this crate, independent of the schema table.

use crate::schema::Resource;

/// A resource of the given kind; it has a status, and `plural` and verbs are not right.
pub fn resource(group: &'static str, kind: &'static str, namespaced: bool) -> Resource {
    Resource {
        group,
        version: "v1",
        kind,
        plural: kind,
        singular: kind,
        short_names: &[],
        categories: &[],
        namespaced,
        verbs: &[],
        subresources: &["status"],
        custom: None,
    }
}
