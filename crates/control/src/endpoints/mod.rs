//! The Endpoints controller, for clients older than EndpointSlices, and the mirror of hand-made ones.

pub mod mirror;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use daymark_model::ObjectName;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::action::{Action, Decision};
use crate::endpointslice::{HEADLESS, TRIGGER_TIME, build};
use crate::meta::{Labels, annotation, label, pod_node, pod_ready};
use crate::view::View;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// An Endpoints object that serves as a lock, not as endpoints.
const LOCK: &str = "control-plane.alpha.kubernetes.io/leader";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in an Endpoints object.
const CAPACITY: usize = 1000;

/// Whether this controller wrote the Endpoints.
pub fn is_ours(endpoints: &Endpoints) -> bool {
    label(&endpoints.metadata, MANAGED_BY) == Some(MANAGER)
}

/// Looks at one Service: its Endpoints object holds its pods by distinct ports, ready and not; without
/// a Service there are no Endpoints.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let known = view.state.endpoints.get(key).map(|packed| packed.unpack());
    let Some(service) = view.state.services.get(key) else {
        let left_over = known.filter(|e| annotation(&e.metadata, LOCK).is_none());
        return left_over.iter().map(|e| Action::delete(e, None)).collect::<Vec<_>>().into();
    };
    let spec = service.spec.clone().unwrap_or_default();
    let selects = spec.selector.as_ref().is_some_and(|s| !s.is_empty());
    if !selects
        || spec.type_.as_deref() == Some("ExternalName")
        || service.metadata.deletion_timestamp.is_some()
    {
        return Decision::default();
    }
    let (subsets, truncated) = subsets(view, service);
    let mut new = known.clone().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..Default::default()
        },
        subsets: None,
    });
    new.metadata.labels = Some(labels(service));
    let changed = known.as_ref().is_none_or(|k| k.subsets.as_deref().unwrap_or_default() != subsets);
    if changed {
        new.subsets = (!subsets.is_empty()).then_some(subsets);
        let annotations = new.metadata.annotations.get_or_insert_default();
        if let Some(time) = build::trigger_time(view, service) {
            annotations.insert(TRIGGER_TIME.into(), time);
        }
        if truncated {
            annotations.insert(OVER_CAPACITY.into(), "truncated".into());
        } else {
            annotations.remove(OVER_CAPACITY);
        }
    }
    let action = match &known {
        Some(old) => Action::update(old, &new, ""),
        None => Some(Action::create(&new, None)),
    };
    action.into_iter().collect::<Vec<_>>().into()
}

fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels
}

type Ports = Vec<(Option<String>, i32, String, Option<String>)>;

fn subsets(view: &View<'_>, service: &Service) -> (Vec<EndpointSubset>, bool) {
    let spec = service.spec.clone().unwrap_or_default();
    let publish = spec.publish_not_ready_addresses == Some(true);
    let v6 = spec.ip_families.as_ref().and_then(|f| f.first()).is_some_and(|f| f == "IPv6");
    let mut by_ports: BTreeMap<Ports, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let mut count = 0;
    for pod in build::selected(view, service) {
        if pod.metadata.deletion_timestamp.is_some() && !publish {
            continue;
        }
        let Some(ip) = build::addresses(pod).into_iter().find(|ip| ip.is_ipv6() == v6) else { continue };
        let ports: Ports = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|p| {
                let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
                Some((p.name.clone(), build::target_port(pod, p)?, protocol, p.app_protocol.clone()))
            })
            .collect();
        if ports.is_empty() && spec.ports.as_ref().is_some_and(|p| !p.is_empty()) {
            continue;
        }
        count += 1;
        if count > CAPACITY {
            continue;
        }
        let (ready, not_ready) = by_ports.entry(ports).or_default();
        let list = if publish || pod_ready(pod) { ready } else { not_ready };
        list.push(address(service, pod, ip.to_string()));
    }
    (by_ports.into_iter().map(|(ports, both)| subset(ports, both)).collect(), count > CAPACITY)
}

fn subset(ports: Ports, both: (Vec<EndpointAddress>, Vec<EndpointAddress>)) -> EndpointSubset {
    let sorted = |mut list: Vec<EndpointAddress>| {
        list.sort_by(|a, b| a.ip.cmp(&b.ip));
        (!list.is_empty()).then_some(list)
    };
    let ports: Vec<_> = ports
        .into_iter()
        .map(|(name, port, protocol, app_protocol)| EndpointPort {
            name,
            port,
            protocol: Some(protocol),
            app_protocol,
        })
        .collect();
    EndpointSubset {
        addresses: sorted(both.0),
        not_ready_addresses: sorted(both.1),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

fn address(service: &Service, pod: &Pod, ip: String) -> EndpointAddress {
    let spec = pod.spec.as_ref();
    let named_here = spec.is_some_and(|s| s.subdomain.is_some() && s.subdomain == service.metadata.name);
    EndpointAddress {
        ip,
        hostname: spec.and_then(|s| s.hostname.clone()).filter(|_| named_here),
        node_name: pod_node(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
    }
}
