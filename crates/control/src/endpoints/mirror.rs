//! Hand-made Endpoints of Services without selector, mirrored to EndpointSlices.

use std::net::IpAddr;

use daymark_model::ObjectName;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{LOCK, MANAGED_BY as BY_CONTROLLER};
use crate::action::{Action, Decision};
use crate::endpointslice::{Group, MANAGED_BY, SERVICE_NAME, Wanted, reconcile};
use crate::meta::{annotation, controller_reference, label};
use crate::view::View;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Looks at one Endpoints object: if its Service exists and selects nothing, slices repeat it.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    let existing: Vec<_> = view
        .state
        .slices_of(key)
        .filter(|s| {
            label(&s.metadata, MANAGED_BY) == Some(MANAGER) && s.metadata.deletion_timestamp.is_none()
        })
        .collect();
    let endpoints = view.state.endpoints.get(key).map(|packed| packed.unpack()).filter(is_mirrored);
    let unselected = view.state.services.get(key).is_some_and(|service| {
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
        selector.is_none_or(|s| s.is_empty()) && service.metadata.deletion_timestamp.is_none()
    });
    let Some(endpoints) = endpoints.filter(|_| unselected) else {
        return existing.iter().map(|s| Action::delete(s, None)).collect::<Vec<_>>().into();
    };
    let mut wanted = Wanted::new();
    for subset in endpoints.subsets.iter().flatten() {
        add(&mut wanted, subset);
    }
    reconcile(&frame(&endpoints, key), existing, wanted).into()
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    label(meta, SKIP) != Some("true")
        && label(meta, BY_CONTROLLER).is_none()
        && annotation(meta, LOCK).is_none()
        && meta.deletion_timestamp.is_none()
}

fn frame(endpoints: &Endpoints, key: &ObjectName) -> ObjectMeta {
    let meta = &endpoints.metadata;
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), key.name.to_string());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    ObjectMeta {
        generate_name: Some(format!("{}-", key.name)),
        namespace: meta.namespace.clone(),
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        owner_references: Some(vec![controller_reference(endpoints)]),
        ..Default::default()
    }
}

fn add(wanted: &mut Wanted, subset: &EndpointSubset) {
    let mut ports: Vec<_> = subset
        .ports
        .iter()
        .flatten()
        .map(|p| {
            let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
            (p.name.clone().unwrap_or_default(), protocol, p.port, p.app_protocol.clone())
        })
        .collect();
    ports.sort();
    let ready = subset.addresses.iter().flatten().map(|a| (a, true));
    let not_ready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
    for (address, ready) in ready.chain(not_ready) {
        let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
        let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
        let group = Group { address_type: family.into(), ports: ports.clone() };
        wanted.entry(group).or_default().push(endpoint(address, ip, ready));
    }
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..Default::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    }
}
