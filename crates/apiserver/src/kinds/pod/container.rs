//! Checks of containers, init containers and ephemeral containers.

use serde_json::Value;

use super::{
    env, probe, resources,
    volumes::{self, Volumes},
};
use crate::kinds::{
    common,
    field::{Errors, Path},
    format,
    service::PROTOCOLS,
    value::{at, int, list, present, text, truth},
};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

/// What the containers of one pod are checked against.
pub struct PodContext<'a> {
    pub volumes: Volumes<'a>,
    /// `terminationGracePeriodSeconds`
    pub grace: i64,
}

/// Checks all containers of a pod spec at `path`.
pub fn check_all(spec: &Value, pod: &PodContext<'_>, path: &Path, errors: &mut Errors) {
    let containers = list(spec, "containers");
    let list_path = path.child("containers");
    if containers.is_empty() {
        errors.required(&list_path, "");
    }
    let mut names: Vec<&str> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let path = list_path.index(i);
        check_common(container, pod, &path, errors);
        check_name_is_new(text(container, "name"), &mut names, &path, errors);
        probe::check_lifecycle(container, pod.grace, &path, errors);
        probe::check_probes(container, pod.grace, &path, errors);
        check_restart_policy(container, &path, errors);
    }
    check_host_ports(containers, &list_path, errors);
    for (i, container) in list(spec, "initContainers").iter().enumerate() {
        check_init(container, pod, &mut names, &path.child("initContainers").index(i), errors);
    }
    for (i, container) in list(spec, "ephemeralContainers").iter().enumerate() {
        check_ephemeral(container, pod, &mut names, &path.child("ephemeralContainers").index(i), errors);
    }
}

fn check_name_is_new<'a>(name: &'a str, names: &mut Vec<&'a str>, path: &Path, errors: &mut Errors) {
    if names.contains(&name) {
        errors.duplicate(&path.child("name"), name);
    } else if !name.is_empty() {
        names.push(name);
    }
}

fn check_init<'a>(
    container: &'a Value,
    pod: &PodContext<'_>,
    names: &mut Vec<&'a str>,
    path: &Path,
    errors: &mut Errors,
) {
    check_common(container, pod, path, errors);
    check_restart_policy(container, path, errors);
    check_name_is_new(text(container, "name"), names, path, errors);
    check_host_ports(std::slice::from_ref(container), path, errors);
    if text(container, "restartPolicy") == "Always" {
        probe::check_lifecycle(container, pod.grace, path, errors);
        probe::check_probes(container, pod.grace, path, errors);
        return;
    }
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if present(container, field) {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.forbidden(&path.child(field), why);
        }
    }
}

fn check_ephemeral<'a>(
    container: &'a Value,
    pod: &PodContext<'_>,
    names: &mut Vec<&'a str>,
    path: &Path,
    errors: &mut Errors,
) {
    check_common(container, pod, path, errors);
    check_name_is_new(text(container, "name"), names, path, errors);
    for field in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
        if !crate::kinds::value::is_empty(at(container, field)) {
            errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
        }
    }
}

fn check_restart_policy(container: &Value, path: &Path, errors: &mut Errors) {
    const POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
    if present(container, "restartPolicy") {
        let policy = text(container, "restartPolicy");
        if !POLICIES.contains(&policy) {
            errors.not_supported(&path.child("restartPolicy"), policy, POLICIES);
        }
    }
}

fn check_common(container: &Value, pod: &PodContext<'_>, path: &Path, errors: &mut Errors) {
    let (name, image) = (text(container, "name"), text(container, "image"));
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        errors.invalid_each(&path.child("name"), name, &format::dns1123_label(name));
    }
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    }
    let policy = text(container, "terminationMessagePolicy");
    let policies = ["File", "FallbackToLogsOnError"];
    common::check_one_of(policy, &policies, &path.child("terminationMessagePolicy"), errors);
    check_ports(container, path, errors);
    env::check(container, path, errors);
    volumes::check_mounts(container, &pod.volumes, path, errors);
    let pull = text(container, "imagePullPolicy");
    common::check_one_of(pull, PULL_POLICIES, &path.child("imagePullPolicy"), errors);
    resources::check(container, path, errors);
    check_security(container, &path.child("securityContext"), errors);
}

fn check_ports(container: &Value, path: &Path, errors: &mut Errors) {
    let mut names = Vec::new();
    for (i, port) in list(container, "ports").iter().enumerate() {
        let path = path.child("ports").index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let complaints = format::port_name(name);
            if complaints.is_empty() {
                check_name_is_new(name, &mut names, &path, errors);
            }
            errors.invalid_each(&path.child("name"), name, &complaints);
        }
        match int(port, "containerPort") {
            0 => errors.required(&path.child("containerPort"), ""),
            number => common::check_port_number(number, &path.child("containerPort"), errors),
        }
        let host = int(port, "hostPort");
        if host != 0 {
            common::check_port_number(host, &path.child("hostPort"), errors);
        }
        common::check_one_of(text(port, "protocol"), PROTOCOLS, &path.child("protocol"), errors);
    }
}

/// No two containers may want the same port of the host.
fn check_host_ports(containers: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in list(container, "ports").iter().enumerate() {
            let number = int(port, "hostPort");
            if number == 0 {
                continue;
            }
            let key = (text(port, "protocol"), text(port, "hostIP"), number);
            if seen.contains(&key) {
                let path = path.index(i).child("ports").index(j).child("hostPort");
                errors.duplicate(&path, format!("{}/{}/{number}", key.0, key.1));
            }
            seen.push(key);
        }
    }
}

/// User and group ids: 0–2147483647.
pub fn check_id(context: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if present(context, field) {
        let id = int(context, field);
        for complaint in format::in_range(id, 0, i64::from(i32::MAX)) {
            errors.invalid(&path.child(field), id, &complaint);
        }
    }
}

fn check_security(container: &Value, path: &Path, errors: &mut Errors) {
    let Some(context) = at(container, "securityContext") else { return };
    check_id(context, "runAsUser", path, errors);
    check_id(context, "runAsGroup", path, errors);
    let escalation = at(context, "allowPrivilegeEscalation").and_then(Value::as_bool);
    if escalation == Some(false) {
        if truth(context, "privileged") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, context.clone(), why);
        }
        if list(context, "capabilities.add").iter().any(|c| c == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, context.clone(), why);
        }
    }
}
