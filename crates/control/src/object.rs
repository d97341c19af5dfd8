//! The kinds that controllers cache and write, and objects of any of them.

use daymark_model::ObjectName;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolumeClaim, Pod, ReplicationController, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::de::DeserializeOwned;
use std::any::TypeId;

macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// A kind of object that controllers work with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($kind),* }

        /// An object of any of these kinds.
        #[derive(Clone, Debug)]
        pub enum Object { $($kind(Box<$kind>)),* }

        impl Kind {
            /// `apps/v1`, or `v1` for the core group.
            pub const fn api_version(self) -> &'static str {
                match self { $(Kind::$kind => <$kind as Resource>::API_VERSION),* }
            }

            /// The kind's name, e.g. `ReplicaSet`.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$kind => <$kind as Resource>::KIND),* }
            }

            /// The kind of that name.
            #[cfg(test)]
            pub fn named(name: &str) -> Option<Self> {
                [$(Kind::$kind),*].into_iter().find(|kind| kind.name() == name)
            }

            /// The resource in URLs, e.g. `replicasets`.
            pub const fn plural(self) -> &'static str {
                match self { $(Kind::$kind => <$kind as Resource>::URL_PATH_SEGMENT),* }
            }

            /// Whether objects of the kind live in namespaces.
            pub fn namespaced(self) -> bool {
                match self { $(Kind::$kind => scope_is_namespace::<$kind>()),* }
            }

            /// Reads an object of this kind.
            pub fn parse(self, json: &str) -> serde_json::Result<Object> {
                Ok(match self { $(Kind::$kind => Object::$kind(serde_json::from_str(json)?)),* })
            }
        }

        impl Object {
            /// The kind of the object.
            pub const fn kind(&self) -> Kind {
                match self { $(Object::$kind(_) => Kind::$kind),* }
            }

            /// The object's metadata.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Object::$kind(o) => &o.metadata),* }
            }
        }

        $(impl Cached for $kind {
            const WHAT: Kind = Kind::$kind;
            fn wrap(self) -> Object { Object::$kind(Box::new(self)) }
        })*
    };
}

kinds!(
    Pod,
    ReplicaSet,
    Deployment,
    StatefulSet,
    DaemonSet,
    ControllerRevision,
    ReplicationController,
    Job,
    CronJob,
    PodDisruptionBudget,
    PersistentVolumeClaim,
    Service,
    EndpointSlice,
    Endpoints,
    Node,
    Lease,
    Namespace,
    ServiceAccount,
    ConfigMap,
    Event
);

/// A typed object of one of the [`Kind`]s.
pub trait Cached: Resource + Metadata<Ty = ObjectMeta> + serde::Serialize + DeserializeOwned + Clone {
    /// The kind as a value.
    const WHAT: Kind;
    /// The object, its type forgotten.
    fn wrap(self) -> Object;
}

fn scope_is_namespace<K: Resource>() -> bool
where
    K::Scope: 'static,
{
    TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>()
}

/// The namespace (empty for cluster-scoped objects) and name of an object.
pub fn key_of(meta: &ObjectMeta) -> ObjectName {
    ObjectName::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

impl Kind {
    /// The URL path of an object of this kind or, with an empty name, of their collection.
    pub fn path(self, key: &ObjectName, subresource: &str) -> String {
        let version = self.api_version();
        let mut path =
            if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        if self.namespaced() {
            path.push_str("/namespaces/");
            path.push_str(&key.namespace);
        }
        path.push('/');
        path.push_str(self.plural());
        for part in [&*key.name, subresource] {
            if !part.is_empty() {
                path.push('/');
                path.push_str(part);
            }
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let pod = ObjectName::new("shop", "web");
        assert_eq!(Kind::Pod.path(&pod, "status"), "/api/v1/namespaces/shop/pods/web/status");
        let all = ObjectName::new("shop", "");
        assert_eq!(Kind::Deployment.path(&all, ""), "/apis/apps/v1/namespaces/shop/deployments");
        assert_eq!(Kind::Node.path(&ObjectName::new("", "n1"), ""), "/api/v1/nodes/n1");
    }
}
