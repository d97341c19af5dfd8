//! The EndpointSlice controller: the pods behind each Service, in slices of at most 100.

pub(crate) mod build;
mod pack;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use daymark_model::ObjectName;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::action::{Action, Decision};
use crate::meta::{Labels, controller_reference, label};
use crate::view::View;

/// Label `endpointslice.kubernetes.io/managed-by` of the slices of this controller.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Endpoints per slice.
pub(crate) const PER_SLICE: usize = 100;

/// What distinguishes the slices of a Service: the address type, and the ports their endpoints share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    pub address_type: String,
    /// Name, protocol, number, application protocol; sorted.
    pub ports: Vec<(String, String, i32, Option<String>)>,
}

impl Group {
    pub(crate) fn of(slice: &EndpointSlice) -> Self {
        let port = |p: &EndpointPort| {
            let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
            (p.name.clone().unwrap_or_default(), protocol, p.port.unwrap_or(0), p.app_protocol.clone())
        };
        let mut ports: Vec<_> = slice.ports.iter().flatten().map(port).collect();
        ports.sort();
        Self { address_type: slice.address_type.clone(), ports }
    }

    pub(crate) fn api_ports(&self) -> Vec<EndpointPort> {
        let port = |(name, protocol, number, app): &(String, String, i32, Option<String>)| EndpointPort {
            name: Some(name.clone()),
            protocol: Some(protocol.clone()),
            port: Some(*number),
            app_protocol: app.clone(),
        };
        self.ports.iter().map(port).collect()
    }
}

/// Endpoints by group, as they shall be.
pub(crate) type Wanted = BTreeMap<Group, Vec<Endpoint>>;

/// Looks at one Service:
/// 1. each matching pod with an address becomes an endpoint in the group of its resolved ports;
/// 2. slices that are right stay; endpoints that changed are replaced in place; room in slices is used
///    before new slices are made; slices of no use are deleted.
pub fn decide(view: &View<'_>, key: &ObjectName) -> Decision {
    // The slices of a Service that is gone fall to the garbage collector.
    let Some(service) = view.state.services.get(key) else { return Decision::default() };
    let Some(spec) = &service.spec else { return Decision::default() };
    if service.metadata.deletion_timestamp.is_some() {
        return Decision::default();
    }
    let existing: Vec<_> = view
        .state
        .slices_of(key)
        .filter(|s| {
            label(&s.metadata, MANAGED_BY) == Some(MANAGER) && s.metadata.deletion_timestamp.is_none()
        })
        .collect();
    let selects = spec.selector.as_ref().is_some_and(|s| !s.is_empty());
    if spec.type_.as_deref() == Some("ExternalName") {
        return existing.iter().map(|s| Action::delete(s, None)).collect::<Vec<_>>().into();
    }
    if !selects {
        return Decision::default();
    }
    let wanted = build::wanted(view, service);
    let frame = frame(service, build::trigger_time(view, service));
    pack::reconcile(&frame, existing, wanted).into()
}

/// The metadata that all slices of a Service have.
fn frame(service: &Service, trigger: Option<String>) -> ObjectMeta {
    let meta = &service.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels: Labels = meta.labels.clone().unwrap_or_default();
    labels.retain(|k, _| k != HEADLESS);
    labels.insert(SERVICE_NAME.into(), name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: meta.namespace.clone(),
        labels: Some(labels),
        annotations: trigger.map(|t| [(TRIGGER_TIME.to_owned(), t)].into()),
        owner_references: Some(vec![controller_reference(service)]),
        ..Default::default()
    }
}

pub(crate) use pack::reconcile;
