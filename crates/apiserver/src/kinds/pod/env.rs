//! Checks of environment variables and the things they refer to.

use serde_json::Value;

use crate::kinds::{
    field::{Errors, Path},
    format,
    value::{at, list, present, text},
};

const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields that a downward API volume may show.
pub const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

/// Checks `env` and `envFrom` of a container at `path`.
pub fn check(container: &Value, path: &Path, errors: &mut Errors) {
    for (i, variable) in list(container, "env").iter().enumerate() {
        let path = path.child("env").index(i);
        let name = text(variable, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.invalid_each(&path.child("name"), name, &format::env_var_name(name));
        }
        check_source(variable, &path.child("valueFrom"), errors);
    }
    let path = path.child("envFrom");
    for (i, source) in list(container, "envFrom").iter().enumerate() {
        check_bulk_source(source, &path, i, errors);
    }
}

fn check_source(variable: &Value, path: &Path, errors: &mut Errors) {
    let Some(source) = at(variable, "valueFrom") else { return };
    let given: Vec<&str> = SOURCES.into_iter().filter(|s| present(source, s)).collect();
    for kind in &given {
        let (reference, path) = (&source[*kind], path.child(kind));
        match *kind {
            "fieldRef" => check_field_ref(reference, FIELDS, &path, errors),
            "resourceFieldRef" => check_resource_ref(reference, false, &path, errors),
            "fileKeyRef" => check_file_ref(reference, &path, errors),
            _ => check_key_ref(reference, &path, errors),
        }
    }
    if given.is_empty() {
        let one_of = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(path, "", one_of);
    } else if !text(variable, "value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if given.len() > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn check_bulk_source(source: &Value, list: &Path, i: usize, errors: &mut Errors) {
    let path = list.index(i);
    let prefix = text(source, "prefix");
    if !prefix.is_empty() {
        errors.invalid_each(&path.child("prefix"), prefix, &format::env_var_name(prefix));
    }
    let mut given = 0;
    for kind in ["configMapRef", "secretRef"] {
        let Some(reference) = at(source, kind) else { continue };
        given += 1;
        let (name, path) = (text(reference, "name"), path.child(kind).child("name"));
        if name.is_empty() {
            errors.required(&path, "");
        } else {
            errors.invalid_each(&path, name, &format::dns1123_subdomain(name));
        }
    }
    match given {
        0 => errors.invalid(list, "", "must specify one of: `configMapRef` or `secretRef`"),
        1 => {}
        _ => errors.invalid(list, "", "may not have more than one field specified at a time"),
    }
}

/// A field of the pod, one of `allowed` or one label or annotation.
pub fn check_field_ref(reference: &Value, allowed: &[&str], path: &Path, errors: &mut Errors) {
    if text(reference, "apiVersion").is_empty() {
        return errors.required(&path.child("apiVersion"), "");
    }
    let field = text(reference, "fieldPath");
    if field.is_empty() {
        return errors.required(&path.child("fieldPath"), "");
    }
    let subscripted = field.strip_suffix("']").and_then(|f| f.split_once("['"));
    match subscripted {
        Some(("metadata.annotations", key)) => {
            errors.invalid_each(path, &key.to_lowercase(), &format::qualified_name(&key.to_lowercase()));
        }
        Some(("metadata.labels", key)) => errors.invalid_each(path, key, &format::qualified_name(key)),
        Some((other, _)) => errors.invalid(path, other, "does not support subscript"),
        None if allowed.contains(&field) => {}
        None if FIELDS.contains(&field) || VOLUME_FIELDS.contains(&field) => {
            errors.not_supported(&path.child("fieldPath"), field, allowed);
        }
        None => {
            let why = format!("error converting fieldPath: field label not supported: {field}");
            errors.invalid(&path.child("fieldPath"), field, &why);
        }
    }
}

/// A container's request or limit; volumes must name the container.
pub fn check_resource_ref(reference: &Value, in_volume: bool, path: &Path, errors: &mut Errors) {
    let resource = text(reference, "resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|p| resource.starts_with(p));
    if in_volume && text(reference, "containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.not_supported(&path.child("resource"), resource, RESOURCES);
    }
    check_divisor(reference, resource, path, errors);
}

fn check_divisor(reference: &Value, resource: &str, path: &Path, errors: &mut Errors) {
    const UNITS: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let divisor = text(reference, "divisor");
    let what = match resource.split_once('.').map_or("", |(_, r)| r) {
        _ if matches!(divisor, "" | "0") => return,
        "cpu" if matches!(divisor, "1m" | "1") => return,
        "cpu" => {
            let why = "only divisor's values 1m and 1 are supported with the cpu resource";
            return errors.invalid(&path.child("divisor"), resource, why);
        }
        _ if UNITS.contains(&divisor) => return,
        "memory" => "memory",
        "ephemeral-storage" => "local ephemeral storage",
        r if r.starts_with("hugepages-") => "hugepages",
        _ => return,
    };
    let why = format!("only divisor's values {} are supported with the {what} resource", UNITS.join(", "));
    errors.invalid(&path.child("divisor"), resource, &why);
}

fn check_key_ref(reference: &Value, path: &Path, errors: &mut Errors) {
    let (name, key) = (text(reference, "name"), text(reference, "key"));
    errors.invalid_each(&path.child("name"), name, &format::dns1123_subdomain(name));
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        errors.invalid_each(&path.child("key"), key, &format::config_key(key));
    }
}

fn check_file_ref(reference: &Value, path: &Path, errors: &mut Errors) {
    for field in ["volumeName", "path", "key"] {
        if text(reference, field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
}
