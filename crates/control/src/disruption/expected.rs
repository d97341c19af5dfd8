//! How many pods a budget should have, by what their owners ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use daymark_model::ObjectName;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::meta::controller;
use crate::template::share;
use crate::view::View;

/// What a budget expects.
#[derive(Debug, Default, PartialEq)]
pub struct Expected {
    pub pods: i32,
    pub healthy: i32,
    /// Some pods have no owner, so that a percentage of them says nothing.
    pub unmanaged: bool,
}

/// Counts what the budget expects, or says why that cannot be known.
pub fn count(view: &View<'_>, spec: &PodDisruptionBudgetSpec, pods: &[Arc<Pod>]) -> Result<Expected, String> {
    let here = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let (scale, unmanaged) = scale(view, pods)?;
            let healthy = (scale - share(most, scale, true)).max(0);
            Ok(Expected { pods: scale, healthy, unmanaged })
        }
        (None, Some(IntOrString::Int(least))) => {
            Ok(Expected { pods: here, healthy: (*least).max(0), unmanaged: false })
        }
        (None, Some(least)) => {
            let (scale, unmanaged) = scale(view, pods)?;
            Ok(Expected { pods: scale, healthy: share(least, scale, true), unmanaged })
        }
        (None, None) => Ok(Expected::default()),
    }
}

/// The replicas that all owners of these pods ask for together.
fn scale(view: &View<'_>, pods: &[Arc<Pod>]) -> Result<(i32, bool), String> {
    let mut scales: BTreeMap<String, i32> = BTreeMap::new();
    let mut unmanaged = false;
    for pod in pods {
        let Some(owner) = controller(&pod.metadata) else {
            unmanaged = true;
            continue;
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        match scale_of(view, namespace, owner) {
            Some((uid, replicas)) => {
                scales.insert(uid, replicas);
            }
            None => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                return Err(format!("found no controllers for pod \"{name}\""));
            }
        }
    }
    Ok((scales.values().sum(), unmanaged))
}

/// The owner that decides how many pods there are, and how many it asks for.
fn scale_of(view: &View<'_>, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
    let key = ObjectName::new(namespace, owner.name.as_str());
    let found = match owner.kind.as_str() {
        "ReplicaSet" => {
            let set =
                view.state.replica_sets.get(&key).filter(|s| s.metadata.uid.as_ref() == Some(&owner.uid))?;
            if let Some(above) = controller(&set.metadata).filter(|o| o.kind == "Deployment") {
                let deployment =
                    view.state.deployments.get(&ObjectName::new(namespace, above.name.as_str()))?;
                let replicas = deployment.spec.as_ref()?.replicas;
                return Some((above.uid.clone(), replicas.unwrap_or(1)));
            }
            set.spec.as_ref()?.replicas
        }
        "ReplicationController" => view.state.replication_controllers.get(&key)?.spec.as_ref()?.replicas,
        "StatefulSet" => view.state.stateful_sets.get(&key)?.spec.as_ref()?.replicas,
        _ => return None,
    };
    Some((owner.uid.clone(), found.unwrap_or(1)))
}
