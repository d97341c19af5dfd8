//! What an object counts against a quota, by the names that quotas have for it.

use jiff::Timestamp;
use serde_json::Value;

use super::amounts::Amounts;
use super::{pod, scope};
use crate::kinds::value::{at, list, text, truth};
use crate::schema::Resource;
use crate::schema::quantity::Quantity;

/// Of a pod's containers; for each `requests.NAME`, and for requests also `NAME`.
const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
const OF_CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
/// Kinds that quotas also count by their plain name.
const COUNTED: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];
/// Quotas on these make it a duty of every container to say what it needs.
const DUTIES: [&str; 6] = ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

/// `count/pods`, `count/deployments.apps`.
pub fn count_name(resource: &Resource) -> String {
    format!("count/{}", resource.qualified())
}

/// Whether a quota's limit by this name is about the resource.
pub fn concerns(resource: &Resource, name: &str) -> bool {
    if name.strip_prefix("count/") == Some(resource.qualified().as_str()) {
        return true;
    }
    match (resource.group, resource.plural) {
        ("", "pods") => {
            let plain = name.strip_prefix("requests.").or(name.strip_prefix("limits.")).unwrap_or(name);
            let extended = name.strip_prefix("requests.").is_some_and(is_extended);
            name == "pods" || OF_CONTAINERS.contains(&plain) || is_huge_pages(name) || extended
        }
        ("", "services") => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
        ("", "persistentvolumeclaims") => {
            OF_CLAIMS.contains(&name.split_once(BY_CLASS).map_or(name, |(_, rest)| rest))
        }
        ("", plural) => COUNTED.contains(&plural) && name == plural,
        _ => false,
    }
}

fn is_huge_pages(name: &str) -> bool {
    name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-")
}

/// Resources of a domain other than Kubernetes'.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

/// Whether every object of the resource counts the same.
pub fn is_uniform(resource: &Resource) -> bool {
    !matches!((resource.group, resource.plural), ("", "pods" | "services" | "persistentvolumeclaims"))
}

/// What `count` objects of a uniform resource count.
pub fn uniform(resource: &Resource, count: usize) -> Amounts {
    let name = count_name(resource);
    match COUNTED.contains(&resource.plural) && resource.group.is_empty() {
        true => Amounts::counts(&[&name, resource.plural], count),
        false => Amounts::counts(&[&name], count),
    }
}

pub fn of(resource: &Resource, object: &Value, now: Timestamp) -> Amounts {
    match (resource.group, resource.plural) {
        ("", "pods") => of_pod(object, now),
        ("", "services") => of_service(object),
        ("", "persistentvolumeclaims") => of_claim(object),
        _ => uniform(resource, 1),
    }
}

fn of_pod(object: &Value, now: Timestamp) -> Amounts {
    let mut usage = Amounts::counts(&["count/pods"], 1);
    if pod::is_charged(object, now) {
        let (requests, limits) =
            (pod::total_with_overhead(object, "requests"), pod::total_with_overhead(object, "limits"));
        usage.add(&named(&requests, &limits));
    }
    usage
}

/// Requests and limits under the names that quotas have for them.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::counts(&["pods"], 1);
    for (name, amount) in requests.iter() {
        if OF_CONTAINERS.contains(&name) || is_huge_pages(name) {
            usage.set(name, amount);
            usage.set(format!("requests.{name}"), amount);
        } else if is_extended(name) {
            usage.set(format!("requests.{name}"), amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| OF_CONTAINERS.contains(name)) {
        usage.set(format!("limits.{name}"), amount);
    }
    usage
}

fn of_service(object: &Value) -> Amounts {
    let ports = list(object, "spec.ports");
    let chosen = ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or_default() != 0).count();
    let allocates = at(object, "spec.allocateLoadBalancerNodePorts").is_none()
        || truth(object, "spec.allocateLoadBalancerNodePorts");
    let (balancers, node_ports) = match text(object, "spec.type") {
        "NodePort" => (0, ports.len()),
        "LoadBalancer" if allocates => (1, ports.len()),
        "LoadBalancer" => (1, chosen),
        _ => (0, 0),
    };
    let mut usage = Amounts::counts(&["count/services", "services"], 1);
    usage.set("services.loadbalancers", Quantity::whole(balancers));
    usage.set("services.nodeports", Quantity::whole(node_ports));
    usage
}

fn of_claim(object: &Value) -> Amounts {
    let mut usage = Amounts::counts(&["count/persistentvolumeclaims", "persistentvolumeclaims"], 1);
    let requested = Amounts::read(at(object, "spec.resources.requests")).get("storage");
    let allocated = Amounts::read(at(object, "status.allocatedResources")).get("storage");
    let most = match (requested, allocated) {
        (Some(requested), Some(allocated)) if allocated.exceeds(&requested) => Some(allocated),
        (requested, _) => requested,
    };
    if let Some(size) = most {
        usage.set("requests.storage", size.rounded());
    }
    let annotated = object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    let class = annotated.unwrap_or_else(|| text(object, "spec.storageClassName"));
    if !class.is_empty() {
        for name in OF_CLAIMS {
            if let Some(amount) = usage.get(name) {
                usage.set(format!("{class}{BY_CLASS}{name}"), amount);
            }
        }
    }
    usage
}

/// What a pod's containers have to say because of these limits of a quota, and do not.
pub fn missing(resource: &Resource, hard: &Amounts, object: &Value) -> Option<String> {
    if resource.plural != "pods" || scope::says_whole(object) {
        return None;
    }
    let containers = || list(object, "spec.containers").iter().chain(list(object, "spec.initContainers"));
    let lacks = |container: &Value, name: &str| {
        let of = |kind: &str| Amounts::read(container["resources"].get(kind));
        named(&of("requests"), &of("limits")).get(name).is_none()
    };
    let mut parts = Vec::new();
    for name in hard.names().filter(|name| DUTIES.contains(name)) {
        let mut silent: Vec<&str> =
            containers().filter(|c| lacks(c, name)).map(|c| text(c, "name")).collect();
        silent.sort_unstable();
        if !silent.is_empty() {
            parts.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
}
