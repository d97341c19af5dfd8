//! Defaults of pods, of pod templates and of their containers, including those that Kubernetes' stock
//! admission plugins give pods: service account, priority and tolerations.

use serde_json::{Value, json};

use crate::kinds::value::{
    at, drop_key, fill, fill_number, int, is_empty, items_mut, list, object, set, text, truth,
};

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const TOLERATION_SECONDS: i64 = 300;
const MODE: i64 = 0o644;
const TOKEN_SECONDS: i64 = 3600;

/// Defaults of a Pod.
pub fn default(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").filter(|s| s.is_object()) else { return };
    default_spec(spec);
    if int(spec, "terminationGracePeriodSeconds") < 0 {
        set(spec, "terminationGracePeriodSeconds", 1);
    }
    for field in ["containers", "initContainers"] {
        for container in items_mut(spec, field) {
            default_requests(container);
        }
    }
    fill(spec, "enableServiceLinks", true);
    if truth(spec, "hostNetwork") {
        for field in ["containers", "initContainers"] {
            for port in items_mut(spec, field).flat_map(|c| items_mut(c, "ports")) {
                let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or_default();
                fill_number(port, "hostPort", number);
            }
        }
    }
    admit(spec);
}

/// Defaults of the pod template of a controller.
pub fn default_template(template: &mut Value) {
    if let Some(spec) = template.get_mut("spec").filter(|s| s.is_object()) {
        default_spec(spec);
    }
}

fn default_spec(spec: &mut Value) {
    for field in CONTAINERS {
        items_mut(spec, field).for_each(default_container);
    }
    items_mut(spec, "volumes").for_each(default_volume);
    fill(spec, "restartPolicy", "Always");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "dnsPolicy", "ClusterFirst");
    same_account(spec);
    fill(spec, "securityContext", json!({}));
    fill(spec, "schedulerName", "default-scheduler");
}

/// `serviceAccount` is the deprecated alias of `serviceAccountName`; both carry the value.
fn same_account(spec: &mut Value) {
    let name = match (text(spec, "serviceAccountName"), text(spec, "serviceAccount")) {
        ("", "") => return,
        ("", alias) => alias.to_owned(),
        (name, _) => name.to_owned(),
    };
    spec["serviceAccountName"] = json!(name);
    spec["serviceAccount"] = json!(name);
}

/// `latest`, the tag that is meant when there is none.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn default_container(container: &mut Value) {
    let policy = if is_latest(text(container, "image")) { "Always" } else { "IfNotPresent" };
    items_mut(container, "ports").for_each(|port| fill(port, "protocol", "TCP"));
    for source in items_mut(container, "env").filter_map(|e| e.get_mut("valueFrom")) {
        default_field_ref(source);
        if let Some(file) = source.get_mut("fileKeyRef") {
            fill(file, "optional", false);
        }
    }
    fill(container, "resources", json!({}));
    for probe in PROBES {
        if let Some(probe) = container.get_mut(probe).filter(|p| p.is_object()) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(http) = container.pointer_mut(&format!("/lifecycle/{hook}/httpGet")) {
            default_http_get(http);
        }
    }
    fill(container, "terminationMessagePath", "/dev/termination-log");
    fill(container, "terminationMessagePolicy", "File");
    fill(container, "imagePullPolicy", policy);
}

fn default_field_ref(source: &mut Value) {
    if let Some(field) = source.get_mut("fieldRef").filter(|f| f.is_object()) {
        fill(field, "apiVersion", "v1");
    }
    if let Some(resource) = source.get_mut("resourceFieldRef").filter(|f| f.is_object()) {
        fill(resource, "divisor", "0");
    }
}

fn default_http_get(http: &mut Value) {
    fill(http, "path", "/");
    fill(http, "scheme", "HTTP");
}

fn default_probe(probe: &mut Value) {
    if let Some(http) = probe.get_mut("httpGet") {
        default_http_get(http);
    }
    if let Some(grpc) = probe.get_mut("grpc") {
        fill(grpc, "service", "");
    }
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        fill_number(probe, field, value);
    }
}

fn default_volume(volume: &mut Value) {
    if !volume.is_object() {
        return;
    }
    let sources = volume.as_object().into_iter().flatten();
    if sources.filter(|(key, value)| *key != "name" && !value.is_null()).count() == 0 {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source).filter(|s| s.is_object()) {
            fill(source, "defaultMode", MODE);
        }
    }
    items_mut(volume, "downwardAPI.items").for_each(default_field_ref);
    for source in items_mut(volume, "projected.sources") {
        if let Some(token) = source.get_mut("serviceAccountToken").filter(|t| t.is_object()) {
            fill(token, "expirationSeconds", TOKEN_SECONDS);
        }
        items_mut(source, "downwardAPI.items").for_each(default_field_ref);
    }
    if let Some(path) = volume.get_mut("hostPath").filter(|p| p.is_object()) {
        fill(path, "type", "");
    }
    if let Some(image) = volume.get_mut("image").filter(|i| i.is_object()) {
        let policy = if is_latest(text(image, "reference")) { "Always" } else { "IfNotPresent" };
        fill(image, "pullPolicy", policy);
    }
    if let Some(claim) = volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        fill(claim, "volumeMode", "Filesystem");
    }
}

/// Requests that are not given are what the limits are.
fn default_requests(container: &mut Value) {
    let Some(limits) = at(container, "resources.limits").and_then(Value::as_object).cloned() else { return };
    let Some(requests) = object(&mut container["resources"], "requests") else { return };
    for (resource, quantity) in limits {
        fill(requests, &resource, quantity);
    }
}

fn admit(spec: &mut Value) {
    fill(spec, "serviceAccountName", "default");
    same_account(spec);
    // The number behind a class is resolved when the pod is created.
    if text(spec, "priorityClassName").is_empty() {
        fill(spec, "priority", 0);
        fill(spec, "preemptionPolicy", "PreemptLowerPriority");
        drop_key(spec, "priorityClassName");
    }
    for condition in ["not-ready", "unreachable"] {
        let key = format!("node.kubernetes.io/{condition}");
        if !tolerates(spec, &key) {
            let toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECONDS});
            push(spec, "tolerations", toleration);
        }
    }
}

/// Whether a toleration covers the key with effect `NoExecute`.
fn tolerates(spec: &Value, key: &str) -> bool {
    list(spec, "tolerations")
        .iter()
        .any(|t| [key, ""].contains(&text(t, "key")) && matches!(text(t, "effect"), "" | "NoExecute"))
}

fn push(spec: &mut Value, key: &str, item: Value) {
    let Some(map) = spec.as_object_mut() else { return };
    let items = map.entry(key).or_insert_with(|| json!([]));
    if is_empty(Some(items)) {
        *items = json!([]);
    }
    if let Some(items) = items.as_array_mut() {
        items.push(item);
    }
}
