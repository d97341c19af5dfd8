//! Ports of a pod's containers that get in each other's way.

use serde_json::Value;

use super::pod::containers;
use crate::kinds::field::Path;
use crate::kinds::value::{int, list, text};

/// A port with its place.
struct Port<'a> {
    path: Path,
    value: &'a Value,
}

impl Port<'_> {
    fn number(&self, field: &str) -> i64 {
        int(self.value, field)
    }

    fn text(&self, field: &str) -> &str {
        text(self.value, field)
    }

    fn is_same_as(&self, other: &Self) -> bool {
        self.number("containerPort") == other.number("containerPort")
            && self.text("protocol") == other.text("protocol")
    }

    /// How a definition of the same port clashes with this one.
    fn clash(&self, other: &Self) -> Option<&'static str> {
        let (host_port, others) = (self.number("hostPort"), other.number("hostPort"));
        let (host_ip, others_ip) = (self.text("hostIP"), other.text("hostIP"));
        if host_ip == others_ip && host_port == others {
            Some("duplicate port definition")
        } else if host_port == 0 || others == 0 {
            Some("overlapping port definition")
        } else if host_port == others && host_ip.is_empty() != others_ip.is_empty() {
            Some("dangerously ambiguous port definition")
        } else {
            None
        }
    }
}

pub fn check(path: &Path, spec: &Value, found: &mut Vec<String>) {
    let mut ports: Vec<Port<'_>> = Vec::new();
    for (path, container) in containers(path, spec) {
        let of_container = list(container, "ports").iter().enumerate();
        ports.extend(of_container.map(|(i, value)| Port { path: path.child("ports").index(i), value }));
    }
    for (at, port) in ports.iter().enumerate() {
        if !port.text("hostIP").is_empty() && port.number("hostPort") == 0 {
            found.push(format!(
                "{}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
                port.path,
                port.text("name"),
                port.number("containerPort"),
                port.text("protocol"),
                port.text("hostIP")
            ));
        }
        for other in ports[..at].iter().filter(|other| other.is_same_as(port)) {
            if let Some(clash) = port.clash(other) {
                found.push(format!("{}: {clash} with {}", port.path, other.path));
            }
        }
    }
    for (at, port) in ports.iter().enumerate().filter(|(_, port)| !port.text("name").is_empty()) {
        let name = port.text("name");
        if let Some(first) = ports[..at].iter().find(|other| other.text("name") == name) {
            let Port { path: first, .. } = first;
            found.push(format!(
                "{}: duplicate port name {name:?} with {first}, services and probes that select ports by name will \
                 use {first}",
                port.path
            ));
        }
    }
}
