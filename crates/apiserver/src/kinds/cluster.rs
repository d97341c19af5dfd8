//! Namespaces, Nodes, and the defaults of kinds that describe the cluster: storage, priorities.

use serde_json::{Value, json};

use super::{
    common,
    field::{Errors, Path},
    format, ip,
    pod::TAINT_EFFECTS,
    value::{at, fill, list, object, present, set, strings, text},
};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";

pub fn default_namespace(obj: &mut Value) {
    let name = text(obj, "metadata.name").to_owned();
    if !name.is_empty()
        && let Some(labels) = object(obj, "metadata").and_then(|m| object(m, "labels"))
    {
        set(labels, NAME_LABEL, name);
    }
}

/// A new Namespace is Active, and has the finalizer that lets its content go first.
pub fn prepare_namespace(obj: &mut Value) {
    set(obj, "status", json!({"phase": "Active"}));
    let Some(spec) = object(obj, "spec") else { return };
    if !strings(spec, "finalizers").contains(&FINALIZER) {
        let mut finalizers = list(spec, "finalizers").to_vec();
        finalizers.push(json!(FINALIZER));
        spec["finalizers"] = json!(finalizers);
    }
}

/// Finalizers change through the `finalize` subresource only.
pub fn keep_finalizers(old: &Value, new: &mut Value) {
    if let Some(spec) = object(new, "spec") {
        super::value::copy_key(&old["spec"], spec, "finalizers");
    }
}

pub fn check_namespace(obj: &Value, _old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec.finalizers");
    for finalizer in strings(obj, "spec.finalizers") {
        errors.invalid_each(&path, finalizer, &format::qualified_name(finalizer));
        if !finalizer.contains('/') && ![FINALIZER, "orphan", "foregroundDeletion"].contains(&finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&path, finalizer, why);
        }
    }
}

pub fn check_namespace_status(_old: &Value, new: &Value, errors: &mut Errors) {
    let phase = text(new, "status.phase");
    let path = Path::new("status.Phase");
    match (present(new, "metadata.deletionTimestamp"), phase) {
        (false, "Active") | (true, "Terminating") => {}
        (false, _) => {
            errors.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty");
        }
        (true, _) => {
            errors.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
        }
    }
}

pub fn default_node(obj: &mut Value) {
    let capacity = at(obj, "status.capacity").cloned();
    if let (Some(capacity), None) = (capacity, at(obj, "status.allocatable")) {
        obj["status"]["allocatable"] = capacity;
    }
}

pub fn check_node(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Path::new("spec");
    check_taints(obj, &Path::new("metadata.taints"), errors);
    let cidrs = strings(obj, "spec.podCIDRs");
    for (i, cidr) in cidrs.iter().enumerate() {
        errors.invalid_each(&spec.child("podCIDRs").index(i), cidr, &ip::cidr(cidr));
    }
    let v6 = cidrs.iter().filter(|c| c.contains(':')).count();
    if cidrs.len() > 2 || (cidrs.len() == 2 && v6 != 1) {
        let why = "may specify no more than one CIDR for each IP family";
        errors.invalid(&spec.child("podCIDRs"), json!(cidrs), why);
    }
    let addresses = list(obj, "status.addresses");
    for (i, address) in addresses.iter().enumerate().filter(|(i, a)| addresses[..*i].contains(a)) {
        errors.duplicate(&Path::new("status.addresses").index(i), address.clone());
    }
    let Some(old) = old else { return };
    let before = strings(old, "spec.podCIDRs");
    if !before.is_empty() && before != cidrs {
        let why = r#"node updates may not change podCIDR except from "" to valid"#;
        errors.forbidden(&spec.child("podCIDRs"), why);
    }
    let provider = text(old, "spec.providerID");
    if !provider.is_empty() && provider != text(obj, "spec.providerID") {
        let why = r#"node updates may not change providerID except from "" to valid"#;
        errors.forbidden(&spec.child("providerID"), why);
    }
}

fn check_taints(node: &Value, path: &Path, errors: &mut Errors) {
    let taints = list(node, "spec.taints");
    for (i, taint) in taints.iter().enumerate() {
        let path = path.index(i);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        errors.invalid_each(&path.child("key"), key, &format::qualified_name(key));
        let complaints = format::label_value(value);
        if !complaints.is_empty() {
            errors.invalid(&path.child("value"), value, &complaints.join(";"));
        }
        common::check_one_of(effect, TAINT_EFFECTS, &path.child("effect"), errors);
        if taints[..i].iter().any(|t| text(t, "key") == key && text(t, "effect") == effect) {
            errors.duplicate(&path, taint.clone());
        }
    }
}

pub fn default_volume(obj: &mut Value) {
    let Some(spec) = obj.get_mut("spec").filter(|s| s.is_object()) else { return };
    fill(spec, "persistentVolumeReclaimPolicy", "Retain");
    fill(spec, "volumeMode", "Filesystem");
    if let Some(path) = spec.get_mut("hostPath").filter(|path| path.is_object()) {
        default_once(path, "type", "");
    }
}

/// Sets a member that is missing or null; an empty text stays.
fn default_once(obj: &mut Value, key: &str, default: impl Into<Value>) {
    if let Some(map) = obj.as_object_mut()
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), default.into());
    }
}

pub fn default_autoscaler(obj: &mut Value) {
    let v2 = obj["apiVersion"] == "autoscaling/v2";
    let Some(spec) = obj.get_mut("spec").filter(|s| s.is_object()) else { return };
    default_once(spec, "minReplicas", 1);
    if v2 && spec["metrics"].as_array().is_none_or(Vec::is_empty) {
        spec["metrics"] = serde_json::json!([{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
        }]);
    }
}

pub fn default_csi_driver(obj: &mut Value) {
    let Some(spec) = obj.get_mut("spec").filter(|s| s.is_object()) else { return };
    default_once(spec, "attachRequired", true);
    for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        default_once(spec, field, false);
    }
    default_once(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if spec["volumeLifecycleModes"].as_array().is_none_or(Vec::is_empty) {
        spec["volumeLifecycleModes"] = serde_json::json!(["Persistent"]);
    }
}

pub fn default_claim(obj: &mut Value) {
    if let Some(spec) = obj.get_mut("spec").filter(|s| s.is_object()) {
        fill(spec, "volumeMode", "Filesystem");
    }
}

/// Volumes and claims wait for each other at first.
pub fn prepare_pending(obj: &mut Value) {
    set(obj, "status", json!({"phase": "Pending"}));
}

pub fn default_storage_class(obj: &mut Value) {
    fill(obj, "reclaimPolicy", "Delete");
    fill(obj, "volumeBindingMode", "Immediate");
}

pub fn default_priority_class(obj: &mut Value) {
    fill(obj, "preemptionPolicy", "PreemptLowerPriority");
}

pub fn check_lease(obj: &Value, _old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    for (field, positive) in [("leaseDurationSeconds", true), ("leaseTransitions", false)] {
        let dotted = format!("spec.{field}");
        let number = super::value::int(obj, &dotted);
        if present(obj, &dotted) && positive && number <= 0 {
            errors.invalid(&path.child(field), number, "must be greater than 0");
        } else if !positive {
            common::check_nonnegative(number, &path.child(field), errors);
        }
    }
}
