//! Checks of volumes and of what containers mount.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{env, resources};
use crate::kinds::{
    field::{Errors, Path},
    format,
    value::{at, int, list, present, text},
};

/// Names of sound volumes, with the type of each.
pub type Volumes<'a> = BTreeMap<&'a str, &'a str>;

const MODE_ERROR: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Checks all volumes; the sound ones may be mounted.
pub fn check<'a>(spec: &'a Value, path: &Path, errors: &mut Errors) -> Volumes<'a> {
    let mut out = Volumes::new();
    for (i, volume) in list(spec, "volumes").iter().enumerate() {
        let path = path.child("volumes").index(i);
        let before = errors.len();
        let kind = check_source(volume, &path, errors);
        let name = text(volume, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.invalid_each(&path.child("name"), name, &format::dns1123_label(name));
        }
        if out.contains_key(name) {
            errors.duplicate(&path.child("name"), name);
        }
        if errors.len() == before {
            out.insert(name, kind);
        }
    }
    out
}

fn check_source<'a>(volume: &'a Value, path: &Path, errors: &mut Errors) -> &'a str {
    let mut given = volume.as_object().into_iter().flatten().filter(|(k, v)| *k != "name" && !v.is_null());
    let Some((kind, source)) = given.next() else {
        errors.required(path, "must specify a volume type");
        return "";
    };
    for (other, _) in given {
        errors.forbidden(&path.child(other), "may not specify more than 1 volume type");
    }
    let path = path.child(kind);
    let required = |field: &str, errors: &mut Errors| {
        if text(source, field).is_empty() {
            errors.required(&path.child(field), "");
        }
    };
    match kind.as_str() {
        "emptyDir" => {
            let limit = source.get("sizeLimit").and_then(resources::amount);
            if limit.is_some_and(|limit| limit < 0) {
                let why = "SizeLimit field must be a valid resource quantity";
                errors.forbidden(&path.child("sizeLimit"), why);
            }
        }
        "hostPath" => check_host_path(source, &path, errors),
        "secret" => {
            required("secretName", errors);
            check_items(source, &path, errors);
        }
        "configMap" => {
            required("name", errors);
            check_items(source, &path, errors);
        }
        "downwardAPI" => check_downward(source, &path, errors),
        "projected" => check_projected(source, &path, errors),
        "persistentVolumeClaim" => required("claimName", errors),
        "nfs" => {
            required("server", errors);
            required("path", errors);
        }
        "csi" => required("driver", errors),
        "image" => required("reference", errors),
        _ => {}
    }
    kind
}

fn check_host_path(source: &Value, path: &Path, errors: &mut Errors) {
    const TYPES: &[&str] = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    let target = text(source, "path");
    if target.is_empty() {
        return errors.required(&path.child("path"), "");
    }
    check_no_backsteps(target, &path.child("path"), errors);
    let kind = text(source, "type");
    if !TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, TYPES);
    }
}

fn check_mode(source: &Value, field: &str, path: &Path, errors: &mut Errors) {
    let mode = int(source, field);
    if !(0..=0o777).contains(&mode) {
        errors.invalid(&path.child(field), mode, MODE_ERROR);
    }
}

fn check_items(source: &Value, path: &Path, errors: &mut Errors) {
    check_mode(source, "defaultMode", path, errors);
    for (i, item) in list(source, "items").iter().enumerate() {
        let path = path.child("items").index(i);
        for field in ["key", "path"] {
            if text(item, field).is_empty() {
                errors.required(&path.child(field), "");
            }
        }
        check_inside(text(item, "path"), &path.child("path"), errors);
        check_mode(item, "mode", &path, errors);
    }
}

fn check_downward(source: &Value, path: &Path, errors: &mut Errors) {
    check_mode(source, "defaultMode", path, errors);
    for (i, item) in list(source, "items").iter().enumerate() {
        let path = path.child("items").index(i);
        if text(item, "path").is_empty() {
            errors.required(&path.child("path"), "");
        }
        check_inside(text(item, "path"), &path.child("path"), errors);
        match (at(item, "fieldRef"), at(item, "resourceFieldRef")) {
            (Some(_), Some(_)) => errors.invalid(
                &path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (Some(field), None) => {
                env::check_field_ref(field, env::VOLUME_FIELDS, &path.child("fieldRef"), errors);
            }
            (None, Some(resource)) => {
                env::check_resource_ref(resource, true, &path.child("resourceFieldRef"), errors);
            }
            (None, None) => errors.required(&path, "one of fieldRef and resourceFieldRef is required"),
        }
        check_mode(item, "mode", &path, errors);
    }
}

fn check_projected(source: &Value, path: &Path, errors: &mut Errors) {
    check_mode(source, "defaultMode", path, errors);
    check_files_differ(source, path, errors);
    let volume = path;
    for (i, part) in list(source, "sources").iter().enumerate() {
        let path = path.child("sources").index(i);
        for kind in ["secret", "configMap"] {
            if let Some(part) = at(part, kind) {
                if text(part, "name").is_empty() {
                    errors.required(&path.child(kind).child("name"), "");
                }
                check_items(part, &path.child(kind), errors);
            }
        }
        if let Some(part) = at(part, "downwardAPI") {
            check_downward(part, &path.child("downwardAPI"), errors);
        }
        if let Some(token) = at(part, "serviceAccountToken") {
            check_inside(text(token, "path"), &volume.child("path"), errors);
            let (path, seconds) = (path.child("serviceAccountToken"), int(token, "expirationSeconds"));
            if seconds < 600 {
                errors.invalid(
                    &path.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            }
            if text(token, "path").is_empty() {
                errors.required(&path.child("path"), "");
            }
        }
    }
}

/// Two sources of one volume may not give the same file.
fn check_files_differ(source: &Value, path: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for part in list(source, "sources") {
        for kind in ["secret", "configMap", "downwardAPI"] {
            for file in list(&part[kind], "items").iter().map(|item| text(item, "path")) {
                if seen.contains(&file) {
                    let shown = if kind == "downwardAPI" { file } else { text(&part[kind], "name") };
                    errors.invalid(path, shown, "conflicting duplicate paths");
                }
                seen.extend((!file.is_empty()).then_some(file));
            }
        }
    }
}

fn check_no_backsteps(target: &str, path: &Path, errors: &mut Errors) {
    if target.split('/').any(|part| part == "..") {
        errors.invalid(path, target, "must not contain '..'");
    }
}

/// A relative path that stays below its start.
fn check_inside(target: &str, path: &Path, errors: &mut Errors) {
    if target.starts_with('/') {
        errors.invalid(path, target, "must be a relative path");
    }
    check_no_backsteps(target, path, errors);
    if target.starts_with("..") && !target.starts_with("../") && target != ".." {
        errors.invalid(path, target, "must not start with '..'");
    }
}

/// Checks the mounts and devices of a container against the pod's volumes.
pub fn check_mounts(container: &Value, volumes: &Volumes<'_>, path: &Path, errors: &mut Errors) {
    let devices = list(container, "volumeDevices");
    let mut points = Vec::new();
    let mounts_path = path.child("volumeMounts");
    for (i, mount) in list(container, "volumeMounts").iter().enumerate() {
        let path = mounts_path.index(i);
        let (name, point) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if !volumes.contains_key(name) {
            errors.not_found(&path.child("name"), name);
        }
        if point.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if points.contains(&point) {
            errors.invalid(&path.child("mountPath"), point, "must be unique");
        }
        points.push(point);
        if devices.iter().any(|d| text(d, "name") == name) {
            errors.invalid(&path.child("name"), name, "must not already exist in volumeDevices");
        }
        let (sub, expr) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        check_below(sub, &mounts_path.child("subPath"), errors);
        if !expr.is_empty() && !sub.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&path.child("subPathExpr"), expr, why);
        }
        check_below(expr, &mounts_path.child("subPathExpr"), errors);
        let propagation = text(mount, "mountPropagation");
        let known = ["Bidirectional", "HostToContainer", "None"];
        if present(mount, "mountPropagation") && !known.contains(&propagation) {
            errors.not_supported(&mounts_path.child("mountPropagation"), propagation, &known);
        }
    }
    for (i, device) in devices.iter().enumerate() {
        let path = path.child("volumeDevices").index(i);
        let name = text(device, "name");
        match volumes.get(name) {
            _ if name.is_empty() => errors.required(&path.child("name"), ""),
            None => errors.not_found(&path.child("name"), name),
            Some(&("persistentVolumeClaim" | "ephemeral")) => {}
            Some(_) => errors.invalid(
                &path.child("name"),
                name,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            ),
        }
        if text(device, "devicePath").is_empty() {
            errors.required(&path.child("devicePath"), "");
        }
    }
}

fn check_below(target: &str, path: &Path, errors: &mut Errors) {
    if target.starts_with('/') {
        errors.invalid(path, target, "must be a relative path");
    }
    check_no_backsteps(target, path, errors);
}
