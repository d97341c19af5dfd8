//! The objects of a benchmark: Services with ten endpoints each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::lan::{FAR_NAME, backend_ip};

pub const ENDPOINTS: usize = 10;
const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// A Service to make: its name, its number among all cluster IPs, where its endpoints are.
pub struct Wanted<'a> {
    pub name: &'a str,
    pub ip: Ipv4Addr,
    pub node_port: Option<u16>,
    pub target_port: u16,
    pub endpoints: Vec<IpAddr>,
    /// Where the endpoints are.
    pub node: &'a str,
}

impl Wanted<'_> {
    /// The requests that make it, in order.
    pub fn requests(&self) -> Vec<(String, Value)> {
        let mut port = json!({"port": 80, "targetPort": self.target_port, "protocol": "TCP"});
        if let Some(node_port) = self.node_port {
            port["nodePort"] = json!(node_port);
        }
        let kind = if self.node_port.is_some() { "NodePort" } else { "ClusterIP" };
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": self.name},
            "spec": {"type": kind, "clusterIP": self.ip.to_string(), "ports": [port]},
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/service-name": self.name}},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": self.target_port, "protocol": "TCP"}],
            "endpoints": endpoints(&self.endpoints, self.node),
        });
        vec![(SERVICES.to_owned(), service), (SLICES.to_owned(), slice)]
    }
}

fn endpoints(ips: &[IpAddr], node: &str) -> Value {
    let one =
        |ip: &IpAddr| json!({"addresses": [ip.to_string()], "conditions": {"ready": true}, "nodeName": node});
    ips.iter().map(one).collect()
}

/// The n-th of the many Services that are there to be many.
pub fn filler(number: usize) -> Vec<(String, Value)> {
    filler_wanted(number, &format!("filler-{number:05}")).requests()
}

pub fn filler_wanted(number: usize, name: &str) -> Wanted<'_> {
    let endpoints = (0..ENDPOINTS).map(|i| backend_ip(number * ENDPOINTS + i)).collect();
    let (ip, target_port) = (filler_ip(number), crate::servers::ACCEPT);
    Wanted { name, ip, node_port: None, target_port, endpoints, node: FAR_NAME }
}

fn filler_ip(number: usize) -> Ipv4Addr {
    // 10.97.0.0 and up: below are those with a purpose.
    let first = u32::from(Ipv4Addr::new(10, 97, 0, 0));
    Ipv4Addr::from(first + u32::try_from(number).unwrap_or(0))
}

pub fn filler_address(number: usize) -> SocketAddr {
    SocketAddr::new(filler_ip(number).into(), 80)
}

/// The requests that change all endpoints of a slice to one of two disjoint sets, whose addresses begin
/// with what [`side_prefix`] says.
pub fn change(name: &str, side: usize) -> (String, Value) {
    (format!("{SLICES}/{name}"), json!({"endpoints": endpoints(&side_endpoints(side), FAR_NAME)}))
}

pub fn side_endpoints(side: usize) -> Vec<IpAddr> {
    // .110–.119 or .120–.129.
    (0..ENDPOINTS).map(|i| backend_ip(100 + 10 * (side % 2) + i)).collect()
}

pub fn side_prefix(side: usize) -> String {
    let ip = side_endpoints(side)[0].to_string();
    ip[..ip.len() - 1].to_owned()
}
