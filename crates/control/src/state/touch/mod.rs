//! Which tasks a change of an object makes necessary.

pub mod workload;

use std::time::Duration;

use daymark_model::ObjectName;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount, Taint,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{Entry, Packed, State};
use crate::endpoints::is_ours;
use crate::meta::{self, Labels, controller_key, key, labels_match, selector_matches};
use crate::task::{Controller, Task};

type Tasks = Vec<Task>;

pub fn pod(state: &mut State, old: Option<&Pod>, new: Option<&Pod>, at: Duration, out: &mut Tasks) {
    let Some(any) = new.or(old) else { return };
    let this = key(any);
    for pod in [old, new].into_iter().flatten() {
        workload::owners_of_pod(state, pod, out);
        workload::budgets_of_pod(state, pod, out);
    }
    if let Some(pod) = new {
        workload::tracked_pod(state, pod, out);
    }
    if new.is_none() {
        recreating_deployment(state, any, out);
    }
    services_of_pod(state, old, new, out);
    match new {
        Some(pod) if meta::pod_node(pod).is_none() => {
            out.push(Task::new(Controller::Scheduler, this.clone()));
            if pod.metadata.deletion_timestamp.is_some() {
                out.push(Task::new(Controller::PodCleanup, this.clone()));
            }
        }
        Some(pod) => {
            state.assumed.remove(pod.metadata.uid.as_deref().unwrap_or_default());
            bound_pod(state, pod, &this, at, out);
        }
        None => {
            state.assumed.remove(any.metadata.uid.as_deref().unwrap_or_default());
        }
    }
    let occupies = |p: Option<&Pod>| p.is_some_and(|p| meta::pod_node(p).is_some() && !meta::pod_finished(p));
    if occupies(old) && !occupies(new) {
        pending_pods(state, out);
    }
    if new.is_some_and(meta::pod_finished) {
        out.push(Task::whole(Controller::TerminatedPods));
    }
    let terminating = state
        .namespaces
        .get(&ObjectName::new("", &*this.namespace))
        .is_some_and(|ns| ns.metadata.deletion_timestamp.is_some());
    if new.is_none() && terminating {
        out.push(Task::new(Controller::NamespaceEnd, ObjectName::new("", &*this.namespace)));
    }
}

fn bound_pod(state: &mut State, pod: &Pod, this: &ObjectName, at: Duration, out: &mut Tasks) {
    let Some(name) = meta::pod_node(pod) else { return };
    match state.node(name).cloned() {
        Some(node) if has_no_execute(&node) => {
            out.push(Task::new(Controller::Eviction, this.clone()));
            if pod.metadata.deletion_timestamp.is_some() {
                out.push(Task::new(Controller::PodCleanup, this.clone()));
            }
        }
        Some(_) => {}
        None => {
            state.node_absent.entry(name.to_owned()).or_insert(at);
            out.push(Task::new(Controller::PodCleanup, this.clone()));
        }
    }
}

/// A Deployment of strategy Recreate waits for the last old pod to be gone.
fn recreating_deployment(state: &State, pod: &Pod, out: &mut Tasks) {
    let owner = controller_key(&pod.metadata, "ReplicaSet")
        .and_then(|set| state.replica_sets.get(&set))
        .and_then(|set| controller_key(&set.metadata, "Deployment"));
    out.extend(owner.map(|d| Task::new(Controller::Deployment, d)));
}

fn services_of_pod(state: &State, old: Option<&Pod>, new: Option<&Pod>, out: &mut Tasks) {
    let labels = |p: Option<&Pod>| -> Option<Labels> { p.and_then(|p| p.metadata.labels.clone()) };
    let (before, after) = (labels(old), labels(new));
    let Some(any) = new.or(old) else { return };
    for service in state.services.in_namespace(any.metadata.namespace.as_deref().unwrap_or_default()) {
        let Some(selector) = service.spec.as_ref().and_then(|s| s.selector.as_ref()) else { continue };
        if selector.is_empty() {
            continue;
        }
        let matches = (old.is_some() && labels_match(selector, before.as_ref()))
            || (new.is_some() && labels_match(selector, after.as_ref()));
        if matches {
            endpoints_of(&key(&**service), out);
        }
    }
}

fn endpoints_of(service: &ObjectName, out: &mut Tasks) {
    out.push(Task::new(Controller::EndpointSlice, service.clone()));
    out.push(Task::new(Controller::Endpoints, service.clone()));
}

fn pending_pods(state: &State, out: &mut Tasks) {
    let pending = state.pods.iter().filter(|p| meta::pod_node(p).is_none() && meta::pod_active(p));
    out.extend(pending.map(|p| Task::new(Controller::Scheduler, key(&**p))));
}

pub fn replica_set(
    state: &mut State,
    old: Option<&ReplicaSet>,
    new: Option<&ReplicaSet>,
    _: Duration,
    out: &mut Tasks,
) {
    let Some(any) = new.or(old) else { return };
    out.push(Task::new(Controller::ReplicaSet, key(any)));
    workload::budgets_of(state, &any.metadata, out);
    for set in [old, new].into_iter().flatten() {
        match controller_key(&set.metadata, "Deployment") {
            Some(owner) => out.push(Task::new(Controller::Deployment, owner)),
            None => {
                let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
                let matching = state.deployments.in_namespace(namespace).filter(|d| {
                    d.spec
                        .as_ref()
                        .is_some_and(|spec| selector_matches(&spec.selector, set.metadata.labels.as_ref()))
                });
                out.extend(matching.map(|d| Task::new(Controller::Deployment, key(&**d))));
            }
        }
    }
}

pub fn deployment(
    state: &mut State,
    old: Option<&Deployment>,
    new: Option<&Deployment>,
    _: Duration,
    out: &mut Tasks,
) {
    let Some(any) = new.or(old) else { return };
    out.push(Task::new(Controller::Deployment, key(any)));
    workload::budgets_of(state, &any.metadata, out);
}

pub fn service(_: &mut State, old: Option<&Service>, new: Option<&Service>, _: Duration, out: &mut Tasks) {
    let Some(any) = new.or(old) else { return };
    let this = key(any);
    endpoints_of(&this, out);
    out.push(Task::new(Controller::EndpointsMirror, this));
    let balanced = |s: Option<&Service>| {
        s.is_some_and(|s| {
            s.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
                || s.status.as_ref().is_some_and(|st| st.load_balancer.is_some())
        })
    };
    if balanced(old) || balanced(new) {
        out.push(Task::whole(Controller::LoadBalancer));
    }
}

pub fn slice(
    _: &mut State,
    old: Option<&Packed<EndpointSlice>>,
    new: Option<&Packed<EndpointSlice>>,
    _: Duration,
    out: &mut Tasks,
) {
    for packed in [old, new].into_iter().flatten() {
        let Some(service) = &packed.service else { continue };
        let service = ObjectName::new(&*packed.key().namespace, service.as_str());
        out.push(Task::new(Controller::EndpointSlice, service.clone()));
        out.push(Task::new(Controller::EndpointsMirror, service));
    }
}

pub fn endpoints(
    state: &mut State,
    old: Option<&Packed<Endpoints>>,
    new: Option<&Packed<Endpoints>>,
    _: Duration,
    out: &mut Tasks,
) {
    let Some(any) = new.or(old) else { return };
    out.push(Task::new(Controller::EndpointsMirror, any.key()));
    // Hand-made ones may be there before their Service; they go when it goes.
    if state.services.get(&any.key()).is_some() || is_ours(&any.unpack()) {
        out.push(Task::new(Controller::Endpoints, any.key()));
    }
}

pub fn node(state: &mut State, old: Option<&Node>, new: Option<&Node>, at: Duration, out: &mut Tasks) {
    let Some(any) = new.or(old) else { return };
    let this = key(any);
    let name = this.name.to_string();
    out.push(Task::new(Controller::NodeHealth, this));
    remember_taints(state, &name, new, at);
    match new {
        Some(_) => {
            state.node_absent.remove(&name);
            state.lease_seen.entry(name.clone()).or_insert(at);
        }
        None => {
            state.node_absent.insert(name.clone(), at);
            state.lease_seen.remove(&name);
        }
    }
    let taints = |n: Option<&Node>| n.and_then(|n| n.spec.as_ref()).and_then(|s| s.taints.clone());
    if taints(old) != taints(new) || new.is_none() {
        for pod in state.pods_on(&name) {
            out.push(Task::new(Controller::Eviction, key(&**pod)));
            out.push(Task::new(Controller::PodCleanup, key(&**pod)));
        }
    }
    let labels = |n: Option<&Node>| n.and_then(|n| n.metadata.labels.clone());
    let cordoned = |n: Option<&Node>| n.and_then(|n| n.spec.as_ref()).and_then(|s| s.unschedulable);
    if old.is_none()
        || new.is_none()
        || taints(old) != taints(new)
        || labels(old) != labels(new)
        || cordoned(old) != cordoned(new)
    {
        workload::all_daemon_sets(state, out);
    }
    if labels(old) != labels(new) {
        for pod in state.pods_on(&name).cloned().collect::<Vec<_>>() {
            services_of_pod(state, None, Some(&pod), out);
        }
    }
    pending_pods(state, out);
}

fn remember_taints(state: &mut State, name: &str, node: Option<&Node>, at: Duration) {
    let now: Vec<String> = node.map(|n| no_execute(n).map(|t| t.key.clone()).collect()).unwrap_or_default();
    state.taint_seen.retain(|(n, key), _| n != name || now.contains(key));
    for key in now {
        state.taint_seen.entry((name.to_owned(), key)).or_insert(at);
    }
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|s| s.taints.iter().flatten()).filter(|t| t.effect == "NoExecute")
}

fn has_no_execute(node: &Node) -> bool {
    no_execute(node).next().is_some()
}

pub fn lease(state: &mut State, old: Option<&Lease>, new: Option<&Lease>, at: Duration, out: &mut Tasks) {
    let Some(any) = new.or(old) else { return };
    let name = any.metadata.name.clone().unwrap_or_default();
    let renewed = |l: Option<&Lease>| l.and_then(|l| l.spec.as_ref()).and_then(|s| s.renew_time.clone());
    if new.is_some() && (old.is_none() || renewed(old) != renewed(new)) {
        state.lease_seen.insert(name.clone(), at);
    }
    out.push(Task::new(Controller::NodeHealth, ObjectName::new("", name)));
}

pub fn namespace(
    _: &mut State,
    _: Option<&Namespace>,
    new: Option<&Namespace>,
    _: Duration,
    out: &mut Tasks,
) {
    let Some(new) = new else { return };
    let this = ObjectName::new("", new.metadata.name.as_deref().unwrap_or_default());
    let controller = if new.metadata.deletion_timestamp.is_some() {
        Controller::NamespaceEnd
    } else {
        Controller::NamespaceSetup
    };
    out.push(Task::new(controller, this));
}

pub fn service_account(
    _: &mut State,
    old: Option<&ServiceAccount>,
    new: Option<&ServiceAccount>,
    _: Duration,
    out: &mut Tasks,
) {
    if let (Some(old), None) = (old, new) {
        let namespace = old.metadata.namespace.as_deref().unwrap_or_default();
        out.push(Task::new(Controller::NamespaceSetup, ObjectName::new("", namespace)));
    }
}

pub fn config_map(
    _: &mut State,
    old: Option<&ConfigMap>,
    new: Option<&ConfigMap>,
    _: Duration,
    out: &mut Tasks,
) {
    let Some(any) = new.or(old) else { return };
    let namespace = any.metadata.namespace.as_deref().unwrap_or_default();
    out.push(Task::new(Controller::NamespaceSetup, ObjectName::new("", namespace)));
}
