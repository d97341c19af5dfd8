//! StatefulSets: defaults and checks.

use serde_json::{Value, json};

use super::{
    apps::{check_nonnegative, check_selector, check_template, spec_of},
    common,
    field::{Errors, Path},
    format,
    value::{at, copy_key, drop_key, fill, int, list, object, present, text},
};

pub fn default_stateful_set(obj: &mut Value) {
    let Some(spec) = spec_of(obj) else { return };
    fill(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = object(spec, "updateStrategy") {
        if text(strategy, "type").is_empty() {
            fill(strategy, "type", "RollingUpdate");
            object(strategy, "rollingUpdate");
        }
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = strategy.get_mut("rollingUpdate")
        {
            fill(rolling, "partition", 0);
        }
    }
    if let Some(policy) = object(spec, "persistentVolumeClaimRetentionPolicy") {
        fill(policy, "whenDeleted", "Retain");
        fill(policy, "whenScaled", "Retain");
    }
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    for claim in super::value::items_mut(spec, "volumeClaimTemplates") {
        fill(claim, "apiVersion", "v1");
        fill(claim, "kind", "PersistentVolumeClaim");
        if let Some(spec) = claim.get_mut("spec") {
            fill(spec, "volumeMode", "Filesystem");
        }
        if let Some(status) = object(claim, "status") {
            fill(status, "phase", "Pending");
        }
    }
}

pub fn check_stateful_set(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let policy = text(obj, "spec.podManagementPolicy");
    let path = Path::new("spec");
    if policy.is_empty() {
        errors.required(&path.child("podManagementPolicy"), "");
    } else if !["OrderedReady", "Parallel"].contains(&policy) {
        let path = path.child("podManagementPolicy");
        errors.invalid(&path, policy, "must be 'OrderedReady' or 'Parallel'");
    }
    check_update_strategy(&obj["spec"]["updateStrategy"], &path.child("updateStrategy"), errors);
    let retention = path.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let word = text(&obj["spec"]["persistentVolumeClaimRetentionPolicy"], field);
        if !word.is_empty() && !["Retain", "Delete"].contains(&word) {
            errors.not_supported(&retention.child(field), word, &["Retain", "Delete"]);
        }
    }
    check_nonnegative(obj, &["replicas", "minReadySeconds"], errors);
    let start = int(obj, "spec.ordinals.start");
    common::check_nonnegative(start, &path.child("ordinals.start"), errors);
    let service = text(obj, "spec.serviceName");
    if !service.is_empty() && old.is_none() {
        errors.invalid_each(&path.child("serviceName"), service, &format::dns1123_label(service));
    }
    check_selector(obj, "statefulset", true, errors);
    check_template(&with_claims_as_volumes(obj), "StatefulSet", errors);
    if let Some(old) = old {
        check_update(old, obj, errors);
    }
}

fn check_update_strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    let rolling_path = path.child("rollingUpdate");
    match text(strategy, "type") {
        "OnDelete" => {
            if let Some(rolling) = at(strategy, "rollingUpdate") {
                let why = "only allowed for updateStrategy 'RollingUpdate'";
                errors.invalid(&rolling_path, rolling.clone(), why);
            }
        }
        "RollingUpdate" => {
            let Some(rolling) = at(strategy, "rollingUpdate") else { return };
            let partition = int(rolling, "partition");
            common::check_nonnegative(partition, &rolling_path.child("partition"), errors);
            let (most, path) = (&rolling["maxUnavailable"], rolling_path.child("maxUnavailable"));
            if present(rolling, "maxUnavailable") {
                common::check_count_or_percent(most, &path, errors);
                if common::count_or_percent(most) == 0 {
                    errors.invalid(&path, most.clone(), "cannot be 0");
                }
                common::check_at_most_all(most, &path, errors);
            }
        }
        _ => errors.invalid(path, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

/// Claim templates count as volumes of the pods; hostname and subdomain are the controller's.
fn with_claims_as_volumes(obj: &Value) -> Value {
    let mut copy = obj.clone();
    let claims = list(obj, "spec.volumeClaimTemplates");
    let Some(spec) = super::value::at_mut(&mut copy, "spec.template.spec") else { return copy };
    drop_key(spec, "hostname");
    drop_key(spec, "subdomain");
    if claims.is_empty() {
        return copy;
    }
    let names: Vec<&str> = claims.iter().map(|c| text(c, "metadata.name")).collect();
    let own = list(spec, "volumes").iter().filter(|v| !names.contains(&text(v, "name"))).cloned();
    let volumes: Vec<Value> = names
        .iter()
        .map(|n| json!({"name": n, "persistentVolumeClaim": {"claimName": n}}))
        .chain(own)
        .collect();
    spec["volumes"] = Value::from(volumes);
    copy
}

const UPDATABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn check_update(old: &Value, new: &Value, errors: &mut Errors) {
    let mut equalised = new["spec"].clone();
    for field in UPDATABLE {
        copy_key(&old["spec"], &mut equalised, field);
    }
    if equalised != old["spec"] {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.forbidden(&Path::new("spec"), why);
    }
}
