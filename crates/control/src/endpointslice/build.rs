//! From pods to endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, ForNode, ForZone};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Group, Wanted};
use crate::meta::{label, labels_match, pod_condition, pod_finished, pod_node, pod_ready};
use crate::view::View;

const ZONE: &str = "topology.kubernetes.io/zone";

/// The pods that a Service selects and that can be endpoints.
pub(crate) fn selected<'a>(view: &View<'a>, service: &'a Service) -> impl Iterator<Item = &'a Arc<Pod>> {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|s| !s.is_empty());
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    view.state.pods.in_namespace(namespace).filter(move |pod| {
        selector.is_some_and(|s| labels_match(s, pod.metadata.labels.as_ref()))
            && !pod_finished(pod)
            && !addresses(pod).is_empty()
    })
}

/// All addresses of a pod, the first first.
pub(crate) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let mut all: Vec<IpAddr> = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
    if let Some(first) = status.pod_ip.as_ref().and_then(|ip| ip.parse().ok())
        && !all.contains(&first)
    {
        all.insert(0, first);
    }
    all
}

/// All endpoints of a Service by group; one empty slice stands for none at all.
pub fn wanted(view: &View<'_>, service: &Service) -> Wanted {
    let spec = service.spec.clone().unwrap_or_default();
    let families = spec.ip_families.clone().filter(|f| !f.is_empty()).unwrap_or_else(|| {
        let v6 = spec.cluster_ip.as_deref().is_some_and(|ip| ip.contains(':'));
        vec![if v6 { "IPv6" } else { "IPv4" }.to_owned()]
    });
    let mut wanted = Wanted::new();
    for pod in selected(view, service) {
        let node = pod_node(pod).and_then(|n| view.state.node(n));
        let ports = resolve(pod, spec.ports.as_deref().unwrap_or_default());
        for family in &families {
            let address = addresses(pod).into_iter().find(|ip| ip.is_ipv6() == (family == "IPv6"));
            let Some(address) = address else { continue };
            let group = Group { address_type: family.clone(), ports: ports.clone() };
            let publish = spec.publish_not_ready_addresses == Some(true);
            wanted.entry(group).or_default().push(endpoint(service, pod, node, address, publish));
        }
    }
    if let Some(how) = &spec.traffic_distribution {
        wanted.values_mut().for_each(|endpoints| hint(endpoints, how));
    }
    for family in families {
        if !wanted.keys().any(|g| g.address_type == family) {
            wanted.insert(Group { address_type: family, ports: Vec::new() }, Vec::new());
        }
    }
    wanted
}

fn endpoint(service: &Service, pod: &Pod, node: Option<&Arc<Node>>, ip: IpAddr, publish: bool) -> Endpoint {
    let meta = &pod.metadata;
    let serving = pod_ready(pod);
    let terminating = meta.deletion_timestamp.is_some();
    let spec = pod.spec.as_ref();
    let subdomain = spec.and_then(|s| s.subdomain.as_deref());
    let named_here = subdomain.is_some() && subdomain == service.metadata.name.as_deref();
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec.and_then(|s| s.hostname.clone()).filter(|h| named_here && !h.is_empty()),
        node_name: pod_node(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..Default::default()
        }),
        zone: node.and_then(|n| label(&n.metadata, ZONE)).map(str::to_owned),
        ..Default::default()
    }
}

/// The ports that a Service means on one pod. A name that the pod doesn't have leaves the port out.
fn resolve(pod: &Pod, ports: &[ServicePort]) -> Vec<(String, String, i32, Option<String>)> {
    let mut resolved: Vec<_> = ports
        .iter()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            let number = target_port(pod, port)?;
            Some((port.name.clone().unwrap_or_default(), protocol, number, port.app_protocol.clone()))
        })
        .collect();
    resolved.sort();
    resolved
}

/// The number of a Service port's target on one pod.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => return Some(port.port),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let spec = pod.spec.as_ref()?;
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|p| p.container_port)
}

/// Hints of `trafficDistribution`: only if every ready endpoint can have one.
fn hint(endpoints: &mut [Endpoint], how: &str) {
    let is_ready = |e: &Endpoint| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true));
    let by_zone = endpoints.iter().filter(|e| is_ready(e)).all(|e| e.zone.is_some());
    let by_node =
        how == "PreferSameNode" && endpoints.iter().filter(|e| is_ready(e)).all(|e| e.node_name.is_some());
    for endpoint in endpoints.iter_mut().filter(|e| is_ready(e)) {
        let for_zones = endpoint.zone.clone().filter(|_| by_zone).map(|name| vec![ForZone { name }]);
        let for_nodes = endpoint.node_name.clone().filter(|_| by_node).map(|name| vec![ForNode { name }]);
        if for_zones.is_some() || for_nodes.is_some() {
            endpoint.hints = Some(EndpointHints { for_nodes, for_zones });
        }
    }
}

/// When the newest of the changes happened that make the endpoints what they are.
pub(crate) fn trigger_time(view: &View<'_>, service: &Service) -> Option<String> {
    let created = service.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let changes = selected(view, service).filter_map(|pod| {
        let ready = pod_condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
        // A deletion's time lies a grace period ahead of the request.
        let grace = jiff::SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
        let deleted = pod.metadata.deletion_timestamp.as_ref().and_then(|t| t.0.checked_sub(grace).ok());
        ready.max(deleted)
    });
    let newest: Timestamp = changes.chain(created).max()?;
    Some(newest.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
