//! Checks of Ingresses and NetworkPolicies.

use serde_json::Value;

use super::common::{check_one_of, check_port_or_name};
use super::field::{Errors, Path};
use super::format;
use super::value::{at, list, present, strings, text};
use crate::selector::validate_selector;

pub fn check_ingress(obj: &Value, _: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    let rules = list(obj, "spec.rules");
    if rules.is_empty() && !present(obj, "spec.defaultBackend") {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(&path, Value::Null, why);
    }
    if let Some(backend) = at(obj, "spec.defaultBackend") {
        check_backend(backend, &path.child("defaultBackend"), errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(index);
        let host = text(rule, "host");
        if let Some(rest) = host.strip_prefix("*.") {
            errors.invalid_each(&path.child("host"), host, &format::dns1123_subdomain(rest));
        } else if !host.is_empty() {
            errors.invalid_each(&path.child("host"), host, &format::dns1123_subdomain(host));
        }
        if let Some(http) = at(rule, "http") {
            let path = path.child("http").child("paths");
            if list(http, "paths").is_empty() {
                errors.required(&path, "");
            }
            for (index, one) in list(http, "paths").iter().enumerate() {
                check_path(one, &path.index(index), errors);
            }
        }
    }
}

fn check_path(one: &Value, path: &Path, errors: &mut Errors) {
    let wanted = text(one, "path");
    match text(one, "pathType") {
        "" => return errors.required(&path.child("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !wanted.starts_with('/') {
                errors.invalid(&path.child("path"), wanted, "must be an absolute path");
            }
        }
        "ImplementationSpecific" => {
            if !wanted.is_empty() && !wanted.starts_with('/') {
                errors.invalid(&path.child("path"), wanted, "must be an absolute path");
            }
        }
        other => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.not_supported(&path.child("pathType"), other, &known);
        }
    }
    check_backend(&one["backend"], &path.child("backend"), errors);
}

fn check_backend(backend: &Value, path: &Path, errors: &mut Errors) {
    match (at(backend, "service"), at(backend, "resource")) {
        (Some(_), Some(_)) => {
            errors.invalid_bare(path, "cannot set both resource and service backends");
        }
        (Some(service), None) => {
            let path = path.child("service");
            if text(service, "name").is_empty() {
                errors.required(&path.child("name"), "");
            }
            if at(service, "port").is_none() {
                errors.required(&path, "port name or number is required");
            }
        }
        _ => {}
    }
}

pub fn check_policy(obj: &Value, _: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    validate_selector(&obj["spec"]["podSelector"], &path.child("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list(&obj["spec"], direction).iter().enumerate() {
            let path = path.child(direction).index(index);
            for (index, port) in list(rule, "ports").iter().enumerate() {
                let path = path.child("ports").index(index);
                if let Some(number) = at(port, "port") {
                    check_port_or_name(Some(number), &path.child("port"), errors);
                }
            }
            for (index, peer) in list(rule, peers).iter().enumerate() {
                let path = path.child(peers).index(index);
                if ["podSelector", "namespaceSelector", "ipBlock"].iter().all(|kind| at(peer, kind).is_none())
                {
                    errors.required(&path, "must specify a peer");
                }
            }
        }
    }
    for (index, of) in strings(obj, "spec.policyTypes").into_iter().enumerate() {
        check_one_of(of, &["Ingress", "Egress"], &path.child("policyTypes").index(index), errors);
    }
}
