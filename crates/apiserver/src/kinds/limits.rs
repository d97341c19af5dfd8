//! Checks of kinds that say what others may do: autoscalers, limits, classes, claims.

use serde_json::{Value, json};

use super::common::check_one_of;
use super::field::{Errors, Path};
use super::value::{at, int, list, members, present, strings, text};
use crate::schema::quantity::Quantity;

pub fn check_autoscaler(obj: &Value, _: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    let (least, most) = (int(obj, "spec.minReplicas"), int(obj, "spec.maxReplicas"));
    if present(obj, "spec.minReplicas") && least < 1 {
        errors.invalid(&path.child("minReplicas"), least, "must be greater than or equal to 1");
    }
    if most < 1 {
        errors.invalid(&path.child("maxReplicas"), most, "must be greater than 0");
    }
    if most < least {
        let why = "must be greater than or equal to `minReplicas`";
        errors.invalid(&path.child("maxReplicas"), most, why);
    }
    let target = path.child("scaleTargetRef");
    for field in ["kind", "name"] {
        if text(&obj["spec"]["scaleTargetRef"], field).is_empty() {
            errors.required(&target.child(field), "");
        }
    }
    let version = text(obj, "spec.scaleTargetRef.apiVersion");
    if !version.contains('/') && version != "v1" {
        errors.invalid(&target.child("apiVersion"), version, "apiVersion must specify API group");
    }
}

pub fn check_storage_class(obj: &Value, _: Option<&Value>, errors: &mut Errors) {
    if text(obj, "provisioner").is_empty() {
        errors.required(&Path::new("provisioner"), "");
    }
    check_one_of(text(obj, "reclaimPolicy"), &["Delete", "Retain"], &Path::new("reclaimPolicy"), errors);
}

pub fn check_priority_class(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    const HIGHEST: i64 = 1_000_000_000;
    const SYSTEM: [&str; 2] = ["system-cluster-critical", "system-node-critical"];
    let name = text(obj, "metadata.name");
    if name.starts_with("system-") && !SYSTEM.contains(&name) {
        let why = format!(
            "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known \
             system priority class"
        );
        errors.forbidden(&Path::new("metadata").child("name"), &why);
    } else if !name.starts_with("system-") && int(obj, "value") > HIGHEST {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.forbidden(&Path::new("value"), &why);
    }
    let policies = ["PreemptLowerPriority", "Never"];
    check_one_of(text(obj, "preemptionPolicy"), &policies, &Path::new("preemptionPolicy"), errors);
    if let Some(old) = old
        && int(obj, "value") != int(old, "value")
    {
        errors.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
}

const CLAIM_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn check_modes(obj: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("accessModes");
    let modes = strings(obj, "spec.accessModes");
    if modes.is_empty() {
        errors.required(&path, "");
    }
    for mode in modes.into_iter().filter(|mode| !CLAIM_MODES.contains(mode)) {
        errors.not_supported(&path, mode, &CLAIM_MODES);
    }
}

pub fn check_claim(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    if old.is_some() {
        return;
    }
    check_modes(obj, errors);
    let path = Path::new("spec").child("resources");
    match obj["spec"]["resources"]["requests"]["storage"].as_str().and_then(Quantity::parse) {
        None => errors.required(&path.key("storage"), ""),
        Some(size) if size.millis() <= 0 => {
            let shown = text(obj, "spec.resources.requests.storage");
            errors.invalid(&path.key("storage"), shown, "must be greater than zero");
        }
        Some(_) => {}
    }
}

pub fn check_volume(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    if old.is_some() {
        return;
    }
    let path = Path::new("spec");
    check_modes(obj, errors);
    if members(obj, "spec.capacity").next().is_none() {
        errors.required(&path.child("capacity"), "");
    }
    if at(obj, "spec").and_then(|spec| spec.get("capacity")?.get("storage")).is_none() {
        errors.not_supported(&path.child("capacity"), Value::Null, &["storage"]);
    }
    const PLAIN: [&str; 9] = [
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    if members(obj, "spec").all(|(field, _)| PLAIN.contains(&field.as_str())) {
        errors.required(&path, "must specify a volume type");
    }
}

/// What is left out of a limit follows from its maximum.
pub fn default_limits(obj: &mut Value) {
    for limit in super::value::items_mut(obj, "spec.limits") {
        if limit["type"] != "Container" {
            continue;
        }
        let filled = |limit: &Value, own: &str, from: &str| {
            let mut all = limit[from].as_object().cloned().unwrap_or_default();
            all.extend(limit[own].as_object().cloned().unwrap_or_default());
            all
        };
        let default = filled(limit, "default", "max");
        limit["default"] = Value::Object(default);
        let requests = filled(limit, "defaultRequest", "min");
        let mut all = limit["default"].as_object().cloned().unwrap_or_default();
        all.extend(requests);
        limit["defaultRequest"] = Value::Object(all);
    }
}

pub fn check_limits(obj: &Value, _: Option<&Value>, errors: &mut Errors) {
    const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];
    let mut seen: Vec<&str> = Vec::new();
    for (index, limit) in list(obj, "spec.limits").iter().enumerate() {
        let path = Path::new("spec").child("limits").index(index);
        let of = text(limit, "type");
        if !TYPES.contains(&of) && !of.contains('/') {
            let why = "must be a standard limit type or fully qualified";
            errors.invalid(&path.child("type"), of, why);
        }
        if seen.contains(&of) {
            errors.duplicate(&path.child("type"), of);
        }
        seen.push(of);
        for (resource, least) in members(limit, "min") {
            let (least, most) = (least.as_str().unwrap_or_default(), text(&limit["max"], resource));
            let above = Quantity::parse(least)
                .zip(Quantity::parse(most))
                .is_some_and(|(a, b)| a.millis() > b.millis());
            if above {
                let why = format!("min value {least} is greater than max value {most}");
                errors.invalid(&path.child("min").key(resource), json!(least), &why);
            }
        }
    }
}
