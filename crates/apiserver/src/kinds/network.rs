//! Endpoints, EndpointSlices, and the defaults of the other networking kinds.

use serde_json::{Value, json};

use super::{
    common,
    field::{Errors, Path},
    format, ip,
    service::PROTOCOLS,
    value::{at, fill, int, is_empty, items_mut, list, object, present, strings, text},
};

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20000;
const MAX_ADDRESSES: usize = 100;
const MAX_HINTS: usize = 8;

pub fn default_endpoints(obj: &mut Value) {
    for port in items_mut(obj, "subsets").flat_map(|s| items_mut(s, "ports")) {
        fill(port, "protocol", "TCP");
    }
}

pub fn check_endpoints(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let subsets = list(obj, "subsets");
    if old.is_some_and(|old| list(old, "subsets") == subsets) {
        return;
    }
    for (i, subset) in subsets.iter().enumerate() {
        let path = Path::new("subsets").index(i);
        if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
            errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (j, address) in list(subset, field).iter().enumerate() {
                check_endpoint_address(address, &path.child(field).index(j), errors);
            }
        }
        let ports = list(subset, "ports");
        for (j, port) in ports.iter().enumerate() {
            let path = path.child("ports").index(j);
            let name = text(port, "name");
            if !name.is_empty() {
                errors.invalid_each(&path.child("name"), name, &format::dns1123_label(name));
            } else if ports.len() > 1 {
                errors.required(&path.child("name"), "");
            }
            common::check_port_number(int(port, "port"), &path.child("port"), errors);
            common::check_one_of(text(port, "protocol"), PROTOCOLS, &path.child("protocol"), errors);
            check_app_protocol(port, &path, errors);
        }
    }
}

fn check_endpoint_address(address: &Value, path: &Path, errors: &mut Errors) {
    let (own_ip, hostname) = (text(address, "ip"), text(address, "hostname"));
    errors.invalid_each(&path.child("ip"), own_ip, &ip::address(own_ip));
    if !hostname.is_empty() {
        errors.invalid_each(&path.child("hostname"), hostname, &format::dns1123_label(hostname));
    }
    check_node_name(address, path, errors);
    errors.invalid_each(&path.child("ip"), own_ip, &ip::endpoint_address(own_ip));
}

fn check_node_name(endpoint: &Value, path: &Path, errors: &mut Errors) {
    if present(endpoint, "nodeName") {
        let name = text(endpoint, "nodeName");
        errors.invalid_each(&path.child("nodeName"), name, &format::dns1123_subdomain(name));
    }
}

fn check_app_protocol(port: &Value, path: &Path, errors: &mut Errors) {
    if present(port, "appProtocol") {
        let protocol = text(port, "appProtocol");
        errors.invalid_each(&path.child("appProtocol"), protocol, &format::qualified_name(protocol));
    }
}

pub fn default_endpoint_slice(obj: &mut Value) {
    for port in items_mut(obj, "ports") {
        fill(port, "name", "");
        fill(port, "protocol", "TCP");
    }
}

pub fn check_endpoint_slice(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let family = text(obj, "addressType");
    let families = ["FQDN", "IPv4", "IPv6"];
    common::check_one_of(family, &families, &Path::new("addressType"), errors);
    check_slice_ports(obj, errors);
    if old.is_none_or(|old| at(old, "endpoints") != at(obj, "endpoints")) {
        check_slice_endpoints(obj, family, errors);
    }
    if let Some(old) = old {
        let path = Path::new("addressType");
        common::check_immutable(at(old, "addressType"), at(obj, "addressType"), &path, errors);
    }
}

fn check_slice_ports(obj: &Value, errors: &mut Errors) {
    let (ports, path) = (list(obj, "ports"), Path::new("ports"));
    if ports.len() > MAX_PORTS {
        return errors.too_many(&path, ports.len(), MAX_PORTS);
    }
    let mut names = std::collections::BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let (path, name) = (path.index(i), text(port, "name"));
        if !name.is_empty() {
            errors.invalid_each(&path.child("name"), name, &format::dns1123_label(name));
        }
        if !names.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        if present(port, "port") {
            common::check_port_number(int(port, "port"), &path.child("port"), errors);
        }
        common::check_one_of(text(port, "protocol"), PROTOCOLS, &path.child("protocol"), errors);
        check_app_protocol(port, &path, errors);
    }
}

fn check_slice_endpoints(obj: &Value, family: &str, errors: &mut Errors) {
    let (endpoints, path) = (list(obj, "endpoints"), Path::new("endpoints"));
    if endpoints.len() > MAX_ENDPOINTS {
        return errors.too_many(&path, endpoints.len(), MAX_ENDPOINTS);
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(i);
        let (addresses, addresses_path) = (strings(endpoint, "addresses"), path.child("addresses"));
        if addresses.is_empty() {
            errors.required(&addresses_path, "must contain at least 1 address");
        } else if addresses.len() > MAX_ADDRESSES {
            errors.too_many(&addresses_path, addresses.len(), MAX_ADDRESSES);
        }
        for (j, address) in addresses.into_iter().enumerate() {
            check_slice_address(address, family, &addresses_path, j, errors);
        }
        check_node_name(endpoint, &path, errors);
        if present(endpoint, "hostname") {
            let name = text(endpoint, "hostname");
            errors.invalid_each(&path.child("hostname"), name, &format::dns1123_label(name));
        }
        check_hints(endpoint, &path.child("hints"), errors);
    }
}

fn check_slice_address(address: &str, family: &str, list: &Path, i: usize, errors: &mut Errors) {
    let path = list.index(i);
    match family {
        "IPv4" | "IPv6" => {
            let mut complaints = ip::address(address);
            if family == "IPv6" && complaints.is_empty() {
                complaints = ip::canonical(address);
            }
            errors.invalid_each(&path, address, &complaints);
            if !complaints.is_empty() {
                return;
            }
            if address.contains(':') != (family == "IPv6") {
                errors.invalid(list, address, &format!("must be an {family} address"));
            }
            errors.invalid_each(&path, address, &ip::endpoint_address(address));
        }
        "FQDN" => {
            let name = address.strip_suffix('.').unwrap_or(address);
            if name.is_empty() {
                return errors.required(&path, "");
            }
            let complaints = format::dns1123_subdomain(name);
            if complaints.is_empty() && !name.contains('.') {
                let why = "should be a domain with at least two segments separated by dots";
                errors.invalid(&path, name, why);
            }
            errors.invalid_each(&path, name, &complaints);
        }
        _ => {}
    }
}

fn check_hints(endpoint: &Value, path: &Path, errors: &mut Errors) {
    let zone: fn(&str) -> format::Complaints = format::label_value;
    let node: fn(&str) -> format::Complaints = format::dns1123_subdomain;
    for (field, check) in [("forZones", zone), ("forNodes", node)] {
        let (hints, path) = (list(&endpoint["hints"], field), path.child(field));
        if hints.len() > MAX_HINTS {
            errors.too_many(&path, hints.len(), MAX_HINTS);
            continue;
        }
        for (i, hint) in hints.iter().enumerate() {
            let (name, path) = (text(hint, "name"), path.index(i).child("name"));
            if hints[..i].iter().any(|h| text(h, "name") == name) {
                errors.duplicate(&path, name);
            }
            errors.invalid_each(&path, name, &check(name));
        }
    }
}

pub fn default_network_policy(obj: &mut Value) {
    let egress = !list(obj, "spec.egress").is_empty();
    let Some(spec) = obj.get_mut("spec").filter(|s| s.is_object()) else { return };
    object(spec, "podSelector");
    if is_empty(at(spec, "policyTypes")) {
        spec["policyTypes"] = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
    for direction in ["ingress", "egress"] {
        for port in items_mut(spec, direction).flat_map(|rule| items_mut(rule, "ports")) {
            fill(port, "protocol", "TCP");
        }
    }
}
