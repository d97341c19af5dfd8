//! Columns of Services, their endpoints, and the other networking kinds.

use std::collections::BTreeSet;

use serde_json::Value;

use super::column::{AGE, Column, NAME, first_three, labels, or_none, selector};
use crate::kinds::value::{at, int, list, strings, text};

pub const SERVICES: &[Column] = &[
    NAME,
    Column::string("Type", "How the service is exposed", |o, _| text(o, "spec.type").into()),
    Column::string("Cluster-IP", "Address inside the cluster", |o, _| {
        or_none(strings(o, "spec.clusterIPs").first().copied().unwrap_or(text(o, "spec.clusterIP")))
    }),
    Column::string("External-IP", "Addresses outside the cluster", |o, _| external_ip(o).into()),
    Column::string("Port(s)", "Ports, each with its node port and protocol", |o, _| {
        or_none(&list(o, "spec.ports").iter().map(port).collect::<Vec<_>>().join(","))
    }),
    AGE,
    Column::string("Selector", "Labels of the pods that serve it", |o, _| labels(&o["spec"]["selector"]))
        .wide(),
];

fn port(port: &Value) -> String {
    let (number, protocol) = (int(port, "port"), text(port, "protocol"));
    match int(port, "nodePort") {
        0 => format!("{number}/{protocol}"),
        node_port => format!("{number}:{node_port}/{protocol}"),
    }
}

/// The addresses or names that the load balancer gave, sorted.
fn ingress_points(obj: &Value) -> Vec<&str> {
    let points = list(obj, "status.loadBalancer.ingress").iter().map(|point| match text(point, "ip") {
        "" => text(point, "hostname"),
        ip => ip,
    });
    points.filter(|p| !p.is_empty()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn external_ip(svc: &Value) -> String {
    let external = strings(svc, "spec.externalIPs");
    match text(svc, "spec.type") {
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let mut all = ingress_points(svc);
            all.extend(external);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => text(svc, "spec.externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

pub const ENDPOINTS: &[Column] =
    &[NAME, Column::string("Endpoints", "Addresses and ports that are ready", |o, _| endpoints(o)), AGE];

fn endpoints(obj: &Value) -> Value {
    let mut all = Vec::new();
    for subset in list(obj, "subsets") {
        let ips = || list(subset, "addresses").iter().map(|a| text(a, "ip"));
        let ports = list(subset, "ports");
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports.iter().map(|p| int(p, "port")) {
            let join =
                |ip: &str| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
            all.extend(ips().map(join));
        }
    }
    match (list(obj, "subsets").is_empty(), all.is_empty()) {
        (true, _) => or_none(""),
        (_, true) => "".into(),
        _ => first_three(&all).into(),
    }
}

pub const ENDPOINT_SLICES: &[Column] = &[
    NAME,
    Column::string("AddressType", "Family of the addresses", |o, _| text(o, "addressType").into()),
    Column::string("Ports", "Port numbers of every endpoint", |o, _| {
        let ports = list(o, "ports").iter().map(|port| match at(port, "port") {
            Some(number) => number.to_string(),
            None if at(port, "name").is_some() => text(port, "name").to_owned(),
            None => "*".to_owned(),
        });
        first_three(&ports.collect::<Vec<_>>()).into()
    }),
    Column::string("Endpoints", "Addresses of the endpoints", |o, _| {
        let addresses = list(o, "endpoints").iter().flat_map(|e| strings(e, "addresses"));
        first_three(&addresses.map(str::to_owned).collect::<Vec<_>>()).into()
    }),
    AGE,
];

pub const INGRESSES: &[Column] = &[
    NAME,
    Column::string("Class", "Class of controllers that serve it", |o, _| {
        or_none(text(o, "spec.ingressClassName"))
    }),
    Column::string("Hosts", "Names that requests are for", |o, _| hosts(o).into()),
    Column::string("Address", "Where it can be reached", |o, _| ingress_points(o).join(",").into()),
    Column::string("Ports", "Ports that are open", |o, _| {
        if list(o, "spec.tls").is_empty() { "80" } else { "80, 443" }.into()
    }),
    AGE,
];

fn hosts(ingress: &Value) -> String {
    let rules = list(ingress, "spec.rules");
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == 3;
        if !more && !text(rule, "host").is_empty() {
            shown.push(text(rule, "host"));
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, false) => shown.join(","),
        (false, true) => format!("{} + {} more...", shown.join(","), rules.len() - 3),
    }
}

pub const INGRESS_CLASSES: &[Column] = &[
    Column::string("Name", "Name of the class", |o, _| {
        let name = text(o, "metadata.name");
        if is_default(o, "ingressclass.kubernetes.io/is-default-class") {
            format!("{name} (default)").into()
        } else {
            name.into()
        }
    }),
    Column::string("Controller", "Controller that serves the class", |o, _| {
        text(o, "spec.controller").into()
    }),
    Column::string("Parameters", "Object that configures the controller", |o, _| {
        let Some(parameters) = at(o, "spec.parameters") else { return or_none("") };
        let (kind, group) = (text(parameters, "kind"), text(parameters, "apiGroup"));
        let dot = if group.is_empty() { "" } else { "." };
        format!("{kind}{dot}{group}/{}", text(parameters, "name")).into()
    }),
    AGE,
];

pub const NETWORK_POLICIES: &[Column] = &[
    NAME,
    Column::string("Pod-Selector", "Pods that the policy is about", |o, _| {
        selector(&o["spec"]["podSelector"])
    }),
    AGE,
];

pub const SERVICE_CIDRS: &[Column] = &[
    NAME,
    Column::string("CIDRs", "Ranges that cluster IPs are taken from", |o, _| {
        strings(o, "spec.cidrs").join(",").into()
    }),
    AGE,
];

pub const IP_ADDRESSES: &[Column] = &[
    NAME,
    Column::string("ParentRef", "Object that uses the address", |o, _| {
        let Some(parent) = at(o, "spec.parentRef") else { return or_none("") };
        let (group, namespace) = (text(parent, "group"), text(parent, "namespace"));
        let dot = if group.is_empty() { "" } else { "." };
        let slash = if namespace.is_empty() { "" } else { "/" };
        let resource = text(parent, "resource");
        format!("{resource}{dot}{group}{slash}{namespace}/{}", text(parent, "name")).to_lowercase().into()
    }),
    AGE,
];

/// API services: which Service answers for a group and version.
pub const API_SERVICES: &[Column] = &[
    NAME,
    Column::string("Service", "Service that serves the API", |o, _| match at(o, "spec.service") {
        None => "Local".into(),
        Some(service) => format!("{}/{}", text(service, "namespace"), text(service, "name")).into(),
    }),
    Column::string("Available", "Whether the API can be used", |o, _| {
        let conditions = list(o, "status.conditions");
        match conditions.iter().find(|c| text(c, "type") == "Available") {
            Some(c) if text(c, "status") == "True" => "True".into(),
            Some(c) => format!("{} ({})", text(c, "status"), text(c, "reason")).into(),
            None => "Unknown".into(),
        }
    }),
    AGE,
];

/// Whether the object is the default of its kind, by an annotation.
pub fn is_default(obj: &Value, annotation: &str) -> bool {
    obj["metadata"]["annotations"][annotation] == "true"
}
