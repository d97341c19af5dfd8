//! What pods ask for and what of a node is taken.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, Pod};

use super::quantity::milli;
use crate::meta::pod_finished;
use crate::state::State;

/// Resources by name, in thousandths.
pub type Resources = BTreeMap<String, i128>;

/// What one pod takes.
#[derive(Default)]
pub struct Need {
    pub resources: Resources,
    /// Host address, protocol, port.
    pub host_ports: Vec<(String, String, i32)>,
}

fn requests(container: &Container) -> Resources {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    requests.into_iter().flatten().map(|(name, q)| (name.clone(), milli(q))).collect()
}

fn add(to: &mut Resources, more: &Resources) {
    for (name, n) in more {
        *to.entry(name.clone()).or_default() += n;
    }
}

impl Need {
    /// The sum over containers, or what the neediest init container takes beside started sidecars,
    /// whichever is more, plus the pod's overhead.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let mut total = Resources::new();
        spec.containers.iter().for_each(|c| add(&mut total, &requests(c)));
        let mut sidecars = Resources::new();
        let mut peak = Resources::new();
        for container in spec.init_containers.iter().flatten() {
            let mut now = requests(container);
            if container.restart_policy.as_deref() == Some("Always") {
                add(&mut total, &now);
                add(&mut sidecars, &now);
                now = sidecars.clone();
            } else {
                add(&mut now, &sidecars);
            }
            for (name, n) in now {
                let most = peak.entry(name).or_default();
                *most = (*most).max(n);
            }
        }
        for (name, n) in peak {
            let sum = total.entry(name).or_default();
            *sum = (*sum).max(n);
        }
        for (name, q) in spec.overhead.iter().flatten() {
            *total.entry(name.clone()).or_default() += milli(q);
        }
        let host_ports = spec
            .containers
            .iter()
            .flat_map(|c| c.ports.iter().flatten())
            .filter_map(|p| {
                let port = p.host_port.filter(|n| *n > 0)?;
                let ip = p.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
                Some((ip, p.protocol.clone().unwrap_or_else(|| "TCP".into()), port))
            })
            .collect();
        Self { resources: total, host_ports }
    }
}

/// What is taken of a node, pods that are being bound to it included.
#[derive(Default)]
pub struct Usage {
    pub pods: i128,
    pub need: Need,
}

impl Usage {
    /// Sums up the pods of a node.
    pub fn of(state: &State, node: &Node) -> Self {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let mut usage = Usage::default();
        for pod in state.pods_on(name).filter(|p| !pod_finished(p)) {
            usage.count(pod);
        }
        for (pod, _) in state.assumed.values().filter(|(_, to)| to == name) {
            if let Some(pod) = state.pods.get(pod) {
                usage.count(pod);
            }
        }
        usage
    }

    fn count(&mut self, pod: &Pod) {
        let need = Need::of(pod);
        self.pods += 1;
        add(&mut self.need.resources, &need.resources);
        self.need.host_ports.extend(need.host_ports);
    }
}
