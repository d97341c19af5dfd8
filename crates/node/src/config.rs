//! What a node process needs to know before it can run pods.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::runtime::RuntimeConfig;

/// Everything [`crate::run`] is told; nothing else is read from the environment.
#[derive(Clone)]
pub struct NodeConfig {
    /// How pods' sandboxes and containers are made; also holds the node's name, address and pod CIDR.
    pub runtime: RuntimeConfig,
    /// Address of the cluster's DNS Service, the name server of pods with `dnsPolicy: ClusterFirst`.
    pub dns_ip: IpAddr,
    /// DNS domain of the cluster, such as `cluster.local`.
    pub domain: String,
    /// Resolvers of the host, for pods with `dnsPolicy: Default`; normally `/etc/resolv.conf`.
    pub host_resolv_conf: PathBuf,
    /// Port of the kubelet API on the node's address, normally 10250.
    pub kubelet_port: u16,
    /// Certificate chain of the kubelet API, PEM.
    pub kubelet_cert_pem: String,
    /// Private key of the kubelet API, PEM.
    pub kubelet_key_pem: String,
    /// Clients of the kubelet API must show a certificate of this authority, PEM.
    pub client_ca_pem: String,
    /// How often the Lease in `kube-node-lease` is renewed.
    pub lease_interval: Duration,
    /// How often the Node's status is refreshed when nothing changed.
    pub status_interval: Duration,
    /// Most pods that run here at once.
    pub max_pods: u32,
    /// Extra labels of the Node, for instance its zone.
    pub labels: BTreeMap<String, String>,
}
