//! API objects as they are read: the fields that count here and no others. What else they carry (managed fields
//! above all) is most of their bytes, and is skipped without a copy. Strings stay where they were read.

mod json;
pub mod protobuf;

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde::Deserialize as Read;
use serde::de::IgnoredAny;

use crate::reduce;
use crate::world::HashSet;
use json::{first, shared};

/// A Service.
#[derive(Clone, Debug, Default, Read)]
pub struct Service<'a> {
    #[serde(borrow, default)]
    pub metadata: Metadata<'a>,
    #[serde(borrow)]
    pub spec: Option<ServiceSpec<'a>>,
    #[serde(borrow)]
    pub status: Option<ServiceStatus<'a>>,
}

#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec<'a> {
    #[serde(borrow, rename = "type")]
    pub type_: Option<Text<'a>>,
    #[serde(borrow, rename = "clusterIP")]
    pub cluster_ip: Option<Text<'a>>,
    #[serde(borrow, rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<Text<'a>>>,
    #[serde(borrow, rename = "externalIPs")]
    pub external_ips: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    pub external_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub external_traffic_policy: Option<Text<'a>>,
    pub health_check_node_port: Option<i32>,
    #[serde(borrow)]
    pub internal_traffic_policy: Option<Text<'a>>,
    #[serde(borrow)]
    pub load_balancer_source_ranges: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    pub ports: Option<Vec<ServicePort<'a>>>,
    pub publish_not_ready_addresses: Option<bool>,
    #[serde(borrow)]
    pub session_affinity: Option<Text<'a>>,
    pub session_affinity_config: Option<core::SessionAffinityConfig>,
    #[serde(borrow)]
    pub traffic_distribution: Option<Text<'a>>,
}

#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort<'a> {
    #[serde(default, deserialize_with = "shared")]
    pub name: Option<Arc<str>>,
    pub node_port: Option<i32>,
    #[serde(default)]
    pub port: i32,
    #[serde(borrow)]
    pub protocol: Option<Text<'a>>,
}

#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus<'a> {
    #[serde(borrow)]
    pub load_balancer: Option<LoadBalancerStatus<'a>>,
}

#[derive(Clone, Debug, Default, Read)]
pub struct LoadBalancerStatus<'a> {
    #[serde(borrow)]
    pub ingress: Option<Vec<LoadBalancerIngress<'a>>>,
}

#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerIngress<'a> {
    #[serde(borrow)]
    pub ip: Option<Text<'a>>,
    #[serde(borrow)]
    pub ip_mode: Option<Text<'a>>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice<'a> {
    #[serde(borrow, default)]
    pub metadata: Metadata<'a>,
    #[serde(borrow, default)]
    pub address_type: Text<'a>,
    #[serde(borrow)]
    pub endpoints: Option<Vec<Endpoint<'a>>>,
    #[serde(borrow)]
    pub ports: Option<Vec<EndpointPort<'a>>>,
}

#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint<'a> {
    /// Only the first has a meaning, says the API.
    #[serde(default, rename = "addresses", deserialize_with = "first")]
    pub address: Option<Address>,
    pub conditions: Option<Conditions>,
    pub hints: Option<discovery::EndpointHints>,
    #[serde(borrow)]
    pub hostname: Option<Text<'a>>,
    #[serde(default, deserialize_with = "shared")]
    pub node_name: Option<Arc<str>>,
}

/// An address as it stands there, read already if it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Ip(IpAddr),
    Other(String),
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Other(text.to_owned()), Self::Ip)
    }
}

#[derive(Clone, Copy, Debug, Default, Read)]
pub struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, Read)]
pub struct EndpointPort<'a> {
    #[serde(default, deserialize_with = "shared")]
    pub name: Option<Arc<str>>,
    pub port: Option<i32>,
    #[serde(borrow)]
    pub protocol: Option<Text<'a>>,
}

/// A Node.
#[derive(Clone, Debug, Default, Read)]
pub struct Node<'a> {
    #[serde(borrow, default)]
    pub metadata: Metadata<'a>,
    #[serde(borrow)]
    pub spec: Option<NodeSpec<'a>>,
    pub status: Option<NodeStatus>,
}

#[derive(Clone, Debug, Default, Read)]
pub struct NodeSpec<'a> {
    #[serde(borrow, rename = "podCIDR")]
    pub pod_cidr: Option<Text<'a>>,
    #[serde(borrow, rename = "podCIDRs")]
    pub pod_cidrs: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    pub taints: Option<Vec<Taint<'a>>>,
}

#[derive(Clone, Debug, Default, Read)]
pub struct Taint<'a> {
    #[serde(borrow, default)]
    pub key: Text<'a>,
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

/// A Pod.
#[derive(Clone, Debug, Default, Read)]
pub struct Pod<'a> {
    #[serde(borrow, default)]
    pub metadata: Metadata<'a>,
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

/// Labels and annotations are those that [`crate::reduce`] asks for.
#[derive(Clone, Debug, Default, Read)]
#[serde(rename_all = "camelCase")]
pub struct Metadata<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(default, deserialize_with = "shared")]
    pub namespace: Option<Arc<str>>,
    #[serde(borrow)]
    pub resource_version: Option<Text<'a>>,
    pub deletion_timestamp: Option<IgnoredAny>,
    #[serde(borrow)]
    labels: Option<Kept<'a>>,
    #[serde(borrow)]
    annotations: Option<Kept<'a>>,
}

impl Metadata<'_> {
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key)
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key)
    }
}

/// A string where it was read, or a copy where there were escapes in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        self
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

/// The labels or annotations that are asked for, in the order of [`reduce::ASKED_FOR`].
#[derive(Clone, Debug, Default)]
struct Kept<'a>([Option<Text<'a>>; reduce::ASKED_FOR.len()]);

impl Kept<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0[asked_for(key)?].as_deref()
    }
}

/// The number of a key that is asked for.
fn asked_for(key: &str) -> Option<usize> {
    reduce::ASKED_FOR.iter().position(|asked| *asked == key)
}

/// How many strings are remembered to be shared.
const REMEMBERED: usize = 4096;

thread_local! {
    /// Strings that came before. A few (names of namespaces, nodes and ports) come over and over.
    static STRINGS: RefCell<HashSet<Arc<str>>> = RefCell::default();
}

/// A string of which there is one copy if it came before.
fn share(text: &str) -> Arc<str> {
    STRINGS.with_borrow_mut(|strings| {
        if let Some(known) = strings.get(text) {
            return known.clone();
        }
        if strings.len() == REMEMBERED {
            strings.clear();
        }
        let new: Arc<str> = text.into();
        strings.insert(new.clone());
        new
    })
}
