//! `fieldRef` and `resourceFieldRef`: facts about the pod itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use daymark_model::PerFamily;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::quantity;
use crate::pod::spec;

/// What a container may learn about where it runs.
#[derive(Clone, Debug)]
pub struct Place {
    pub node: String,
    pub host_ips: PerFamily<IpAddr>,
    /// Known once the sandbox exists.
    pub pod_ips: Option<PerFamily<IpAddr>>,
    /// What the node can give when a container has no limit: millicores and bytes.
    pub allocatable_cpu: u64,
    pub allocatable_memory: u64,
}

/// The value at a `fieldPath`.
pub fn field(pod: &Pod, place: &Place, path: &str) -> Result<String, String> {
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let entries = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(entries.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let of_spec = |get: fn(&k8s_openapi::api::core::v1::PodSpec) -> Option<String>| {
        pod.spec.as_ref().and_then(get).unwrap_or_default()
    };
    Ok(match path {
        "metadata.name" => spec::name(pod).to_owned(),
        "metadata.namespace" => spec::namespace(pod).to_owned(),
        "metadata.uid" => spec::uid(pod).to_owned(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => place.node.clone(),
        "spec.serviceAccountName" => {
            of_spec(|s| s.service_account_name.clone().or_else(|| s.service_account.clone()))
        }
        "status.hostIP" => place.host_ips.primary().to_string(),
        "status.hostIPs" => joined(place.host_ips),
        "status.podIP" => place.pod_ips.map(|ips| ips.primary().to_string()).unwrap_or_default(),
        "status.podIPs" => place.pod_ips.map(joined).unwrap_or_default(),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn joined(ips: PerFamily<IpAddr>) -> String {
    ips.iter().map(|ip| ip.to_string()).collect::<Vec<_>>().join(",")
}

/// `metadata.labels['key']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, key))
}

/// `key="value"` lines, sorted, as downward API files have them.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let line = |(k, v): (&String, &String)| format!("{k}={}", go_quote(v));
    map.into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

/// A string in double quotes as Go's `%q` writes it.
fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a `resourceFieldRef`, divided and rounded up.
pub fn resource(
    pod: &Pod,
    owner: &Container,
    place: &Place,
    of: &ResourceFieldSelector,
) -> Result<String, String> {
    let container = match of.container_name.as_deref().filter(|n| !n.is_empty()) {
        Some(name) => spec::find_container(pod, name).ok_or(format!("container {name} not found"))?,
        None => Cow::Borrowed(owner),
    };
    let (kind, name) = of.resource.split_once('.').ok_or_else(|| unsupported(&of.resource))?;
    let resources = container.resources.as_ref();
    let list = match kind {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(unsupported(&of.resource)),
    };
    let known = list.and_then(|l| l.get(name)).and_then(|q| quantity::millis(&q.0));
    let millis = match (known, kind, name) {
        (Some(value), _, _) => value,
        (None, "limits", "cpu") => i128::from(place.allocatable_cpu),
        (None, "limits", "memory") => i128::from(place.allocatable_memory) * 1000,
        (None, _, "cpu" | "memory" | "ephemeral-storage") => 0,
        _ => return Err(unsupported(&of.resource)),
    };
    let divisor = of.divisor.as_ref().and_then(|q| quantity::millis(&q.0)).filter(|d| *d > 0);
    let divisor = divisor.unwrap_or(1000);
    Ok((millis / divisor + i128::from(millis % divisor != 0)).to_string())
}

fn unsupported(resource: &str) -> String {
    format!("unsupported container resource : {resource}")
}
