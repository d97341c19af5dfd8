//! API objects as they are read: the fields that count here and no others. What else they carry (managed fields
//! above all) is most of their bytes, and is skipped without a copy.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize as Read;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::reduce;

/// A Service; metadata as in [`EndpointSlice`].
#[derive(Clone, Debug, Default, Read)]
pub struct Service {
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    pub spec: Option<ServiceSpec>,
    pub status: Option<core::ServiceStatus>,
}

#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    #[serde(default, rename = "type", deserialize_with = "shared")]
    pub type_: Option<Arc<str>>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Vec<String>>,
    pub external_name: Option<String>,
    #[serde(default, deserialize_with = "shared")]
    pub external_traffic_policy: Option<Arc<str>>,
    pub health_check_node_port: Option<i32>,
    #[serde(default, deserialize_with = "shared")]
    pub internal_traffic_policy: Option<Arc<str>>,
    pub load_balancer_source_ranges: Option<Vec<String>>,
    pub ports: Option<Vec<ServicePort>>,
    pub publish_not_ready_addresses: Option<bool>,
    #[serde(default, deserialize_with = "shared")]
    pub session_affinity: Option<Arc<str>>,
    pub session_affinity_config: Option<core::SessionAffinityConfig>,
    #[serde(default, deserialize_with = "shared")]
    pub traffic_distribution: Option<Arc<str>>,
}

#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    #[serde(default, deserialize_with = "shared")]
    pub name: Option<Arc<str>>,
    pub node_port: Option<i32>,
    #[serde(default)]
    pub port: i32,
    #[serde(default, deserialize_with = "shared")]
    pub protocol: Option<Arc<str>>,
}

/// An EndpointSlice. Its metadata has name, namespace, resource version, time of deletion, and those labels and
/// annotations that [`crate::reduce`] asks for.
#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub address_type: String,
    pub endpoints: Option<Vec<Endpoint>>,
    pub ports: Option<Vec<EndpointPort>>,
}

#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Only the first has a meaning, says the API.
    #[serde(default, rename = "addresses", deserialize_with = "first")]
    pub address: Option<Address>,
    pub conditions: Option<Conditions>,
    pub hints: Option<discovery::EndpointHints>,
    pub hostname: Option<String>,
    #[serde(default, deserialize_with = "shared")]
    pub node_name: Option<Arc<str>>,
}

/// An address as it stands there, read already if it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Ip(IpAddr),
    Other(String),
}

#[derive(Clone, Copy, Debug, Default, Read)]
pub struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, Read)]
pub struct EndpointPort {
    #[serde(default, deserialize_with = "shared")]
    pub name: Option<Arc<str>>,
    pub port: Option<i32>,
    #[serde(default, deserialize_with = "shared")]
    pub protocol: Option<Arc<str>>,
}

/// A Node; metadata as in [`EndpointSlice`].
#[derive(Clone, Debug, Default, Read)]
pub struct Node {
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    pub spec: Option<core::NodeSpec>,
    pub status: Option<NodeStatus>,
}

#[derive(Clone, Debug, Default, Read)]
pub struct NodeStatus {
    pub addresses: Option<Vec<core::NodeAddress>>,
    pub conditions: Option<Vec<NodeCondition>>,
}

#[derive(Clone, Debug, Default, Read)]
pub struct NodeCondition {
    #[serde(default, rename = "type")]
    pub type_: String,
    #[serde(default)]
    pub status: String,
}

/// A Pod; metadata as in [`EndpointSlice`].
#[derive(Clone, Debug, Default, Read)]
pub struct Pod {
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    pub spec: Option<PodSpec>,
    pub status: Option<PodStatus>,
}

#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    #[serde(default)]
    pub containers: Vec<Container>,
    pub host_network: Option<bool>,
    pub init_containers: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    pub ports: Option<Vec<core::ContainerPort>>,
    pub restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    pub phase: Option<String>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<core::PodIP>>,
}

#[derive(Default, Read)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    labels: Option<Kept>,
    annotations: Option<Kept>,
}

fn metadata<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let read = Option::<Metadata>::deserialize(from)?.unwrap_or_default();
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        resource_version: read.resource_version,
        deletion_timestamp: read.deletion_timestamp,
        labels: read.labels.map(|kept| kept.0),
        annotations: read.annotations.map(|kept| kept.0),
        ..ObjectMeta::default()
    })
}

/// The labels or annotations that are asked for.
struct Kept(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(KeptVisitor)
    }
}

struct KeptVisitor;

impl<'de> Visitor<'de> for KeptVisitor {
    type Value = Kept;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Kept, A::Error> {
        let mut kept = BTreeMap::new();
        while let Some(Key(key)) = from.next_key()? {
            match key {
                Some(key) => drop(kept.insert(key.to_owned(), from.next_value()?)),
                None => drop(from.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Kept(kept))
    }
}

/// A key that is asked for, or none.
struct Key(Option<&'static str>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(Key(reduce::ASKED_FOR.into_iter().find(|asked| *asked == key)))
    }
}

/// How many strings are remembered to be shared.
const REMEMBERED: usize = 4096;

thread_local! {
    /// Strings that came before. A few (protocols, names of nodes and ports) come over and over.
    static STRINGS: RefCell<HashSet<Arc<str>>> = RefCell::default();
}

/// A string, or none, of which there is one copy if it came before.
fn shared<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<str>>, D::Error> {
    struct Shared;

    impl<'de> Visitor<'de> for Shared {
        type Value = Option<Arc<str>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            from.deserialize_str(self)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(STRINGS.with_borrow_mut(|strings| {
                if let Some(known) = strings.get(text) {
                    return known.clone();
                }
                if strings.len() == REMEMBERED {
                    strings.clear();
                }
                let new: Arc<str> = text.into();
                strings.insert(new.clone());
                new
            })))
        }
    }

    from.deserialize_option(Shared)
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reads;

        impl Visitor<'_> for Reads {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Address, E> {
                Ok(text.parse().map_or_else(|_| Address::Other(text.to_owned()), Address::Ip))
            }
        }

        from.deserialize_str(Reads)
    }
}

fn first<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Address>, D::Error> {
    struct First;

    impl<'de> Visitor<'de> for First {
        type Value = Option<Address>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of strings")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let first = from.next_element()?;
            while from.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }

    from.deserialize_any(First)
}
