//! What Services ask for and do not get, told as Kubernetes Events: once each, by one node for all.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use daymark_control::{EventNote, EventRecorder};
use daymark_model::{HostPorts, ObjectName, Protocol, Touched, World};
use daymark_plan::{Issue, Planner};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;

const COMPONENT: &str = "daymark-agent";
/// Of so many objects Events tell at once, and then how many more there are.
pub const MOST_TOLD: usize = 20;

pub struct Events {
    client: kube::Client,
    recorder: EventRecorder,
    node: Arc<str>,
    speaks_sctp: bool,
    told: BTreeSet<Issue>,
    told_of_sctp: BTreeSet<ObjectName>,
}

impl Events {
    pub fn new(client: kube::Client, node: Arc<str>, speaks_sctp: bool) -> Self {
        let recorder = EventRecorder::new(client.clone(), &node);
        Self { client, recorder, node, speaks_sctp, told: BTreeSet::new(), told_of_sctp: BTreeSet::new() }
    }

    /// Tells of issues that are new. What was told and is mended may be told again.
    pub fn update(&mut self, planner: &Planner, touched: &Touched) {
        let issues: BTreeSet<Issue> = planner.issues().into_iter().collect();
        let for_all = speaks_for_all(planner.world(), &self.node);
        // Of a pod only its own node knows.
        let ours = |issue: &&Issue| for_all || issue.regarding().0 == "Pod";
        let new: Vec<&Issue> = issues.difference(&self.told).filter(ours).collect();
        for issue in new.iter().take(MOST_TOLD) {
            let (kind, name) = issue.regarding();
            self.warn(kind, name, issue.reason(), issue.to_string());
        }
        if let Some(more) = new.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
            let tell = self.about_this_node("TooManyIssues");
            tell(format!("{more} more objects ask for what they cannot get, as those of which Events tell"));
        }
        self.told = issues;
        if !self.speaks_sctp {
            self.tell_of_sctp(planner.world(), touched);
        }
    }

    /// The kernel refused what a Service needs: what was there before is served on.
    pub fn refused(&self, service: &ObjectName, why: &str) {
        let text = format!("node {}: {why}; what was programmed before stays", self.node);
        self.warn("Service", service, "ProgrammingFailed", text);
    }

    /// Tells of this node's troubles, for parts that run beside the agent's loop.
    pub fn about_this_node(&self, reason: &'static str) -> impl Fn(String) + Clone + Send + use<> {
        let (recorder, node) = (self.recorder.clone(), self.node.to_string());
        move |message| {
            tracing::error!(reason, "{message}");
            let about = ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(node.clone()),
                // As kubelets have it.
                uid: Some(node.clone()),
                ..ObjectReference::default()
            };
            recorder.record(EventNote { about, warning: true, reason, message, component: COMPONENT });
        }
    }

    fn tell_of_sctp(&mut self, world: &World, touched: &Touched) {
        for name in &touched.services {
            let ports = world.service(name).map(|service| service.ports.as_slice()).unwrap_or_default();
            if !ports.iter().any(|port| port.protocol == Protocol::Sctp) {
                self.told_of_sctp.remove(name);
            } else if self.told_of_sctp.insert(name.clone()) {
                let text = format!(
                    "the kernel of node {} has no SCTP: packets of other machines are translated, but no \
                     process here can use it; load the module sctp",
                    self.node
                );
                self.warn("Service", name, "SCTPUnsupported", text);
            }
        }
    }

    /// `kubectl describe` finds events by the object's uid, which only the API knows.
    fn warn(&self, kind: &'static str, name: &ObjectName, reason: &'static str, message: String) {
        tracing::warn!(%kind, object = %name, reason, "{message}");
        let (client, recorder) = (self.client.clone(), self.recorder.clone());
        let name = HostPorts::pod_of(name).unwrap_or_else(|| name.clone());
        tokio::spawn(async move {
            let (group, uid) = match kind {
                "EndpointSlice" => ("discovery.k8s.io/v1", uid::<EndpointSlice>(client, &name).await),
                "Pod" => ("v1", uid::<Pod>(client, &name).await),
                _ => ("v1", uid::<Service>(client, &name).await),
            };
            let about = ObjectReference {
                api_version: Some(group.into()),
                kind: Some(kind.into()),
                namespace: Some(name.namespace.to_string()),
                name: Some(name.name.to_string()),
                uid,
                ..ObjectReference::default()
            };
            recorder.record(EventNote { about, warning: true, reason, message, component: COMPONENT });
        });
    }
}

async fn uid<K>(client: kube::Client, name: &ObjectName) -> Option<String>
where
    K: kube::Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let api = Api::<K>::namespaced(client, &name.namespace);
    api.get_metadata(&name.name).await.ok()?.metadata.uid
}

/// Every node finds the same issues: the first that is ready tells of them.
fn speaks_for_all(world: &World, node: &str) -> bool {
    world.nodes().find(|known| known.ready).is_none_or(|first| &*first.name == node)
}

#[cfg(test)]
mod tests {
    use daymark_model::{Change, Node};

    use super::*;

    #[test]
    fn the_first_ready_node_speaks() {
        let mut world = World::new();
        assert!(speaks_for_all(&world, "n2"), "while nobody is known everybody speaks");
        world.apply(Change::Node(Node { ready: false, ..Node::new("n1") }));
        world.apply(Change::Node(Node::new("n2")));
        world.apply(Change::Node(Node::new("n3")));
        assert!(speaks_for_all(&world, "n2"));
        assert!(!speaks_for_all(&world, "n1") && !speaks_for_all(&world, "n3"));
    }
}
