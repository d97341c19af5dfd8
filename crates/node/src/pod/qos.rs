//! The pod's quality of service class, from requests and limits of CPU and memory.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::spec;
use crate::env::quantity;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(pod: &Pod) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for c in spec::init_containers(pod).iter().chain(spec::containers(pod)) {
        for resource in ["cpu", "memory"] {
            let (request, limit) = (amount(c, false, resource), amount(c, true, resource));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// A positive request or limit in thousandths.
fn amount(container: &Container, limit: bool, resource: &str) -> Option<i128> {
    let resources = container.resources.as_ref()?;
    let list = if limit { &resources.limits } else { &resources.requests };
    let value = quantity::millis(&list.as_ref()?.get(resource)?.0)?;
    (value > 0).then_some(value)
}
