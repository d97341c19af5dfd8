//! The resource table: what is served, under which names, with which verbs and subresources.

use std::sync::Arc;

use super::Gvk;
use crate::custom::Custom;

/// One served resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// `""` is the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [&'static str],
    /// What a CustomResourceDefinition says of it; nothing for built-in kinds.
    pub custom: Option<Arc<Custom>>,
}

/// What discovery tells about one subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresource {
    pub name: &'static str,
    /// The kind of the body, which is not always the resource's own.
    pub gvk: Gvk<'static>,
    pub verbs: &'static [&'static str],
}

const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const SINGLE: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const READ: &[&str] = &["get", "list"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
const CHANGE: &[&str] = &["get", "patch", "update"];

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        self.gvk().api_version()
    }

    /// `pods` or `deployments.apps`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The kind of lists, e.g. `PodList`.
    pub fn list_kind(&self) -> String {
        self.custom.as_ref().map_or_else(|| format!("{}List", self.kind), |custom| custom.list_kind.clone())
    }

    pub fn gvk(&self) -> Gvk<'static> {
        Gvk { group: self.group, version: self.version, kind: self.kind }
    }

    /// The subresource of that name, if this resource has it.
    pub fn subresource(&self, name: &str) -> Option<Subresource> {
        let name = self.subresources.iter().find(|s| **s == name)?;
        let core = |kind| Gvk { group: "", version: "v1", kind };
        let (gvk, verbs) = match (*name, self.plural) {
            ("attach", _) => (core("PodAttachOptions"), CONNECT),
            ("exec", _) => (core("PodExecOptions"), CONNECT),
            ("portforward", _) => (core("PodPortForwardOptions"), CONNECT),
            ("binding", _) => (core("Binding"), CREATE),
            ("eviction", _) => (Gvk { group: "policy", version: "v1", kind: "Eviction" }, CREATE),
            ("token", _) => {
                (Gvk { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" }, CREATE)
            }
            ("scale", _) => (Gvk { group: "autoscaling", version: "v1", kind: "Scale" }, CHANGE),
            ("log", _) => (self.gvk(), &["get"][..]),
            ("finalize", _) => (self.gvk(), &["update"][..]),
            ("proxy", "pods") => (core("PodProxyOptions"), PROXY),
            ("proxy", "nodes") => (core("NodeProxyOptions"), PROXY),
            ("proxy", _) => (core("ServiceProxyOptions"), PROXY),
            _ => (self.gvk(), CHANGE),
        };
        Some(Subresource { name, gvk, verbs })
    }
}

/// Reads the table; it is part of the program, so a malformed line is a bug that the tests find.
pub(super) fn parse(text: &'static str) -> Vec<Arc<Resource>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(parse_line).map(Arc::new).collect()
}

fn parse_line(line: &'static str) -> Resource {
    let columns: Vec<&str> = line.split(' ').collect();
    let [group, version, kind, plural, singular, scope, verbs, short_names, categories, subresources] =
        columns[..]
    else {
        panic!("resources.txt: expected ten columns in {line:?}");
    };
    Resource {
        group: if group == "-" { "" } else { group },
        version,
        kind,
        plural,
        singular,
        short_names: list(short_names),
        categories: list(categories),
        namespaced: scope == "ns",
        verbs: match verbs {
            "all" => ALL,
            "single" => SINGLE,
            "create" => CREATE,
            "read" => READ,
            other => panic!("resources.txt: unknown verbs {other:?}"),
        },
        subresources: list(subresources),
        custom: None,
    }
}

fn list(column: &'static str) -> &'static [&'static str] {
    if column == "-" { &[] } else { column.split(',').collect::<Vec<_>>().leak() }
}
