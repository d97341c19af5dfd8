//! Checks of probes and lifecycle hooks.

use serde_json::Value;

use crate::kinds::{
    common,
    field::{Errors, Path},
    format,
    value::{at, int, list, present, text},
};

/// Checks the three probes of a container.
pub fn check_probes(container: &Value, grace: i64, path: &Path, errors: &mut Errors) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = at(container, name) else { continue };
        let path = path.child(name);
        check_handler(probe, grace, &["exec", "httpGet", "tcpSocket", "grpc"], &path, errors);
        for field in
            ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            common::check_nonnegative(int(probe, field), &path.child(field), errors);
        }
        let (own_grace, own_path) =
            (int(probe, "terminationGracePeriodSeconds"), path.child("terminationGracePeriodSeconds"));
        let has_grace = present(probe, "terminationGracePeriodSeconds");
        if has_grace && own_grace <= 0 {
            errors.invalid(&own_path, own_grace, "must be greater than 0");
        }
        let threshold = int(probe, "successThreshold");
        if name == "readinessProbe" {
            if has_grace {
                errors.invalid(&own_path, own_grace, "must not be set for readinessProbes");
            }
        } else if threshold != 1 {
            errors.invalid(&path.child("successThreshold"), threshold, "must be 1");
        }
    }
}

/// Checks the hooks of a container.
pub fn check_lifecycle(container: &Value, grace: i64, path: &Path, errors: &mut Errors) {
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = at(container, "lifecycle").and_then(|l| at(l, hook)) {
            let path = path.child("lifecycle").child(hook);
            check_handler(handler, grace, &["exec", "httpGet", "tcpSocket", "sleep"], &path, errors);
        }
    }
}

fn check_handler(handler: &Value, grace: i64, kinds: &[&str], path: &Path, errors: &mut Errors) {
    let mut given = 0;
    for kind in kinds {
        let Some(action) = at(handler, kind) else { continue };
        let path = path.child(kind);
        given += 1;
        if given > 1 {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" if list(action, "command").is_empty() => errors.required(&path.child("command"), ""),
            "httpGet" => check_http_get(action, &path, errors),
            "tcpSocket" => common::check_port_or_name(at(action, "port"), &path.child("port"), errors),
            "grpc" => common::check_port_number(int(action, "port"), &path.child("port"), errors),
            "sleep" => {
                let seconds = int(action, "seconds");
                if seconds < 0 || seconds > grace {
                    let why =
                        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.invalid(&path, seconds, &why);
                }
            }
            _ => {}
        }
    }
    if given == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn check_http_get(action: &Value, path: &Path, errors: &mut Errors) {
    if text(action, "path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    common::check_port_or_name(at(action, "port"), &path.child("port"), errors);
    let scheme = text(action, "scheme");
    if !["HTTP", "HTTPS"].contains(&scheme) {
        errors.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in list(action, "httpHeaders") {
        let name = text(header, "name");
        errors.invalid_each(&path.child("httpHeaders"), name, &format::http_header_name(name));
    }
}
