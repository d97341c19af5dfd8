//! Where `pods/proxy` and `services/proxy` lead: from `[scheme:]name[:port]` to a pod's address.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::error::ApiError;
use crate::registry::object::text;

/// The parts of `name`, `name:port` or `scheme:name:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    pub https: bool,
    pub name: &'a str,
    /// A number or a name; may be empty.
    pub port: &'a str,
}

impl<'a> Asked<'a> {
    /// `kind` is what the name stands for, in the error.
    pub fn parse(id: &'a str, kind: &str) -> Result<Self, ApiError> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match *parts.as_slice() {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => ("?", "", ""),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return Err(ApiError::bad_request(format!("invalid {kind} request {id:?}")));
        }
        Ok(Self { https: scheme == "https", name, port })
    }

    fn default_port(&self) -> u16 {
        if self.https { 443 } else { 80 }
    }
}

/// A port of a pod, and the node that runs the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub https: bool,
    pub address: SocketAddr,
    pub node: String,
}

fn unavailable(message: String) -> ApiError {
    ApiError::new(503, "ServiceUnavailable", message)
}

/// The port asked for, or the first that the pod's containers name.
pub fn of_pod(asked: &Asked, pod: &Value) -> Result<Destination, ApiError> {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let first = || {
        let mut ports = containers.into_iter().flatten().filter_map(|c| c.pointer("/ports/0/containerPort"));
        ports.next().and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok())
    };
    let port = match asked.port {
        "" => first().unwrap_or_else(|| asked.default_port()),
        text => text.parse().map_err(|_| unavailable(trouble(&format!("unknown port {text:?} of a pod"))))?,
    };
    let ip = text(pod, "/status/podIP").parse::<IpAddr>().ok().filter(proxyable);
    let ip = ip.ok_or_else(|| ApiError::bad_request("address not allowed"))?;
    let node = text(pod, "/spec/nodeName").to_owned();
    Ok(Destination { https: asked.https, address: SocketAddr::new(ip, port), node })
}

/// What a client is told when a pod cannot be talked to.
pub fn trouble(cause: &dyn std::fmt::Display) -> String {
    format!("error trying to reach service: {cause}")
}

fn proxyable(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || link_local)
}

/// The name of the Service port asked for: a number stands for the port that has it.
pub fn port_name(
    asked: &Asked,
    service: impl FnOnce() -> Result<Value, ApiError>,
) -> Result<String, ApiError> {
    let Ok(number) = asked.port.parse::<i64>() else { return Ok(asked.port.to_owned()) };
    let service = service()?;
    let mut ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    let found = ports.find(|p| p["port"].as_i64() == Some(number));
    let missing = || unavailable(format!("no service port {number} found for service {:?}", asked.name));
    found.map(|p| text(p, "/name").to_owned()).ok_or_else(missing)
}

/// One address that serves a port, before it is known to be a pod's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub pod: String,
    pub address: SocketAddr,
}

/// The ready pods behind a port of a Service, by its Endpoints. `id` is as the client wrote it.
pub fn candidates(
    asked: &Asked,
    id: &str,
    port: &str,
    endpoints: &Value,
) -> Result<Vec<Candidate>, ApiError> {
    let subsets = endpoints.pointer("/subsets").and_then(Value::as_array);
    let Some(subsets) = subsets.filter(|s| !s.is_empty()) else {
        return Err(none(asked.name));
    };
    let mut found = Vec::new();
    for subset in subsets {
        let mut ports = subset["ports"].as_array().into_iter().flatten();
        let number = ports.find(|p| text(p, "/name") == port).and_then(|p| p["port"].as_u64());
        let Some(number) = number.and_then(|p| u16::try_from(p).ok()) else { continue };
        for address in subset["addresses"].as_array().into_iter().flatten() {
            let ip = text(address, "/ip").parse::<IpAddr>().ok();
            // Only pods of the Service's own namespace: an address that somebody wrote by hand is no way in.
            let pod = text(address, "/targetRef/name");
            let same = text(address, "/targetRef/namespace") == text(endpoints, "/metadata/namespace");
            if let (Some(ip), true, false) = (ip, same, pod.is_empty()) {
                found.push(Candidate { pod: pod.to_owned(), address: SocketAddr::new(ip, number) });
            }
        }
    }
    if found.is_empty() { Err(none(id)) } else { Ok(found) }
}

/// No ready pod serves what was asked for.
pub fn none(id: &str) -> ApiError {
    unavailable(format!("no endpoints available for service {id:?}"))
}

/// The candidate's pod, if it really has the address.
pub fn confirm(asked: &Asked, candidate: &Candidate, pod: &Value) -> Option<Destination> {
    let ips = pod.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten();
    let mut ips = ips.filter_map(|ip| text(ip, "/ip").parse::<IpAddr>().ok());
    let its = ips.any(|ip| ip == candidate.address.ip()) && proxyable(&candidate.address.ip());
    let node = text(pod, "/spec/nodeName").to_owned();
    its.then_some(Destination { https: asked.https, address: candidate.address, node })
}

#[cfg(test)]
#[path = "destination_tests.rs"]
mod tests;
