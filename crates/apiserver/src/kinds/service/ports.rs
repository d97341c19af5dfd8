//! Checks of a Service's ports: each on its own, then none twice.

use serde_json::{Value, json};

use super::kind;
use crate::kinds::{
    common,
    field::{Errors, Path},
    format,
    value::{at, int, list, present, text},
};

pub const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Checks all ports.
pub fn check(svc: &Value, errors: &mut Errors) {
    let ports = list(svc, "spec.ports");
    let path = Path::new("spec.ports");
    let mut names = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        check_port(port, ports.len() > 1, &mut names, &path.index(i), errors);
    }
}

/// Node ports where no type uses them, and repetitions.
pub fn check_uniqueness(svc: &Value, errors: &mut Errors) {
    let ports = list(svc, "spec.ports");
    let path = Path::new("spec.ports");
    if kind(svc) == "ClusterIP" {
        for (i, _) in ports.iter().enumerate().filter(|(_, p)| int(p, "nodePort") != 0) {
            let path = path.index(i).child("nodePort");
            errors.forbidden(&path, "may not be used when `type` is 'ClusterIP'");
        }
    }
    let key = |port: &Value, field: &str| (text(port, "protocol").to_owned(), int(port, field));
    for (i, port) in ports.iter().enumerate() {
        let node_port = int(port, "nodePort");
        if node_port != 0 && ports[..i].iter().any(|p| key(p, "nodePort") == key(port, "nodePort")) {
            errors.duplicate(&path.index(i).child("nodePort"), node_port);
        }
    }
    for (i, port) in ports.iter().enumerate() {
        if ports[..i].iter().any(|p| key(p, "port") == key(port, "port")) {
            let shown = json!({"protocol": text(port, "protocol"), "port": int(port, "port")});
            errors.duplicate(&path.index(i), shown);
        }
    }
}

fn check_port<'a>(port: &'a Value, named: bool, names: &mut Vec<&'a str>, path: &Path, errors: &mut Errors) {
    let name = text(port, "name");
    if name.is_empty() {
        if named {
            errors.required(&path.child("name"), "");
        }
    } else {
        errors.invalid_each(&path.child("name"), name, &format::dns1123_label(name));
        if names.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        }
        names.push(name);
    }
    common::check_port_number(int(port, "port"), &path.child("port"), errors);
    common::check_one_of(text(port, "protocol"), PROTOCOLS, &path.child("protocol"), errors);
    common::check_port_or_name(at(port, "targetPort"), &path.child("targetPort"), errors);
    if present(port, "appProtocol") {
        let protocol = text(port, "appProtocol");
        errors.invalid_each(&path.child("appProtocol"), protocol, &format::qualified_name(protocol));
    }
}
