//! Objects that every cluster has from its first start, and that come back at every later one.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::access::{self, accounts};
use crate::admission::system_classes;
use crate::error::ApiError;
use crate::http::request::Target;
use crate::registry::{Call, Registry};
use crate::schema::schema;
use crate::server::Config;

const MANAGER: &str = "daymark-apiserver";
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const DNS_PORT: u16 = 53;

/// Makes what is missing and corrects the address at which the API server is reached.
pub async fn run(registry: &Registry, config: &Config) -> Result<(), ApiError> {
    for name in NAMESPACES {
        ensure(registry, "", "namespaces", namespace(name)).await?;
    }
    access::bootstrap::run(registry).await?;
    client_authorities(registry, config).await?;
    ensure(registry, "", "configmaps", token_tracking(jiff::Timestamp::now())).await?;
    for class in system_classes() {
        ensure(registry, "scheduling.k8s.io", "priorityclasses", class).await?;
    }
    ensure(registry, "networking.k8s.io", "servicecidrs", service_cidr(config)).await?;
    ensure(registry, "", "services", kubernetes_service(config)).await?;
    correct(registry, "", "endpoints", kubernetes_endpoints(config.advertise), "/subsets").await?;
    let slice = kubernetes_slice(config.advertise);
    correct(registry, "discovery.k8s.io", "endpointslices", slice, "/endpoints").await?;
    ensure(registry, "", "services", dns_service(config)).await
}

fn target(group: &str, plural: &str, object: &Value) -> Result<Target, ApiError> {
    let text = |pointer| crate::registry::object::text(object, pointer).to_owned();
    let resource = schema()
        .resource(group, "v1", plural)
        .cloned()
        .ok_or_else(|| ApiError::internal(format!("the schema has no {plural}")))?;
    Ok(Target {
        resource,
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
        subresource: String::new(),
        rest: String::new(),
    })
}

async fn ensure(registry: &Registry, group: &str, plural: &str, object: Value) -> Result<(), ApiError> {
    let target = target(group, plural, &object)?;
    if registry.get(&target).is_ok() {
        return Ok(());
    }
    let mut call = Call::new(MANAGER, jiff::Timestamp::now());
    registry.create(&target, object, &[], &mut call).await.map(drop)
}

/// As `ensure`, and replaces the object when the part at `pointer` or its ports are not as wanted.
async fn correct(
    registry: &Registry,
    group: &str,
    plural: &str,
    object: Value,
    pointer: &str,
) -> Result<(), ApiError> {
    let target = target(group, plural, &object)?;
    let Ok(present) = registry.get(&target) else {
        return ensure(registry, group, plural, object).await;
    };
    if addresses(present.pointer(pointer)) == addresses(object.pointer(pointer))
        && ports(&present) == ports(&object)
    {
        return Ok(());
    }
    let mut call = Call::new(MANAGER, jiff::Timestamp::now());
    registry.update(&target, object, &[], &mut call).await.map(drop)
}

/// Where servers beside this one (kube-controller-manager, kube-scheduler, those of extensions) find whom to
/// believe who a client is. What others added stays.
async fn client_authorities(registry: &Registry, config: &Config) -> Result<(), ApiError> {
    let object = config_map("extension-apiserver-authentication", authorities(config));
    let target = target("", "configmaps", &object)?;
    let Ok(mut present) = registry.get(&target) else {
        return ensure(registry, "", "configmaps", object).await;
    };
    let before = present.clone();
    match (present["data"].as_object_mut(), object["data"].as_object()) {
        (Some(data), Some(wanted)) => data.extend(wanted.clone()),
        _ => present["data"] = object["data"].clone(),
    }
    if present == before {
        return Ok(());
    }
    let mut call = Call::new(MANAGER, jiff::Timestamp::now());
    registry.update(&target, present, &[], &mut call).await.map(drop)
}

fn authorities(config: &Config) -> Value {
    let mut data = json!({"client-ca-file": config.ca_pem});
    if !config.front_proxy_ca_pem.is_empty() {
        data["requestheader-client-ca-file"] = config.front_proxy_ca_pem.as_str().into();
        for (key, value) in [
            ("allowed-names", "front-proxy-client"),
            ("username-headers", "X-Remote-User"),
            ("uid-headers", "X-Remote-Uid"),
            ("group-headers", "X-Remote-Group"),
            ("extra-headers-prefix", "X-Remote-Extra-"),
        ] {
            data[format!("requestheader-{key}")] = json!([value]).to_string().into();
        }
    }
    data
}

/// Since when the last use of tokens in Secrets is written down; who cleans up old ones asks.
fn token_tracking(now: jiff::Timestamp) -> Value {
    let since = accounts::day(now);
    config_map("kube-apiserver-legacy-service-account-token-tracking", json!({"since": since}))
}

fn config_map(name: &str, data: Value) -> Value {
    json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "kube-system"}, "data": data,
    })
}

fn addresses(part: Option<&Value>) -> String {
    let Some(part) = part else { return String::new() };
    let first = part.pointer("/0/addresses/0").unwrap_or(&Value::Null);
    first.get("ip").unwrap_or(first).to_string()
}

fn ports(object: &Value) -> Option<&Value> {
    object.pointer("/ports/0/port").or_else(|| object.pointer("/subsets/0/ports/0/port"))
}

fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})
}

/// The ranges that the server was started with; it is kept by its finalizer.
fn service_cidr(config: &Config) -> Value {
    let cidrs: Vec<String> = config.service_cidrs.iter().map(ToString::to_string).collect();
    json!({
        "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "kubernetes", "finalizers": ["networking.k8s.io/service-cidr-finalizer"]},
        "spec": {"cidrs": cidrs},
    })
}

fn kubernetes_service(config: &Config) -> Value {
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let mut service = json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP", "sessionAffinity": "None",
            "ports": [{
                "name": "https", "protocol": "TCP", "port": 443, "targetPort": config.advertise.port(),
            }],
        },
    });
    if let Some(first) = config.service_cidrs.first().and_then(first_address) {
        service["spec"]["clusterIP"] = first.to_string().into();
    }
    service
}

/// The first address that a Service can have. (`IpNet::hosts` begins with the network's own for IPv6.)
fn first_address(cidr: &IpNet) -> Option<IpAddr> {
    let network = cidr.network();
    cidr.hosts().find(|ip| *ip != network)
}

fn kubernetes_endpoints(advertise: SocketAddr) -> Value {
    json!({
        "kind": "Endpoints", "apiVersion": "v1",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": [{"ip": advertise.ip().to_string()}],
            "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}],
        }],
    })
}

fn kubernetes_slice(advertise: SocketAddr) -> Value {
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": if advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [advertise.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}],
    })
}

/// Its endpoints are published by the nodes themselves.
fn dns_service(config: &Config) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {
            "name": "kube-dns", "namespace": "kube-system",
            "labels": {
                "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": config.dns_ip.to_string(),
            "trafficDistribution": "PreferSameNode",
            "ports": [
                {"name": "dns", "protocol": "UDP", "port": DNS_PORT, "targetPort": DNS_PORT},
                {"name": "dns-tcp", "protocol": "TCP", "port": DNS_PORT, "targetPort": DNS_PORT},
            ],
        },
    })
}
