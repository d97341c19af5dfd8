//! Where variables come from, and which one wins.

use daymark_model::PerFamily;
use serde_json::json;

use super::*;

fn data(entries: &[(&str, &str)]) -> Option<Arc<Data>> {
    Some(Arc::new(entries.iter().map(|(k, v)| (k.to_string(), v.as_bytes().to_vec())).collect()))
}

fn sources() -> Sources {
    let mut s = Sources::default();
    s.put(Kind::ConfigMap, "cm", data(&[("color", "blue"), ("size", "9")]));
    s.put(Kind::Secret, "sec", data(&[("token", "t0p")]));
    s.put(Kind::ConfigMap, "gone", None);
    s
}

fn both(ips: [&str; 2]) -> PerFamily<std::net::IpAddr> {
    PerFamily::from_list(ips.map(|ip| ip.parse().expect("ip"))).expect("two families")
}

fn resolve(container: serde_json::Value) -> Result<String, String> {
    let mut container = container;
    container["name"] = json!("c");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"b": "2", "a": "1 \"x\""},
                     "annotations": {"k/v": "yes"}},
        "spec": {"containers": [container], "serviceAccountName": "robot"},
    }))
    .expect("a pod");
    let place = Place {
        node: "node1".into(),
        host_ips: both(["172.30.0.11", "fd00:172:30::11"]),
        pod_ips: Some(both(["10.244.1.5", "fd00:10:244:1::5"])),
        allocatable_cpu: 2000,
        allocatable_memory: 1 << 30,
    };
    let services = [("A_SERVICE_HOST".to_string(), "10.96.0.9".to_string())];
    let c = &pod.spec.as_ref().expect("spec").containers[0];
    container_env(&pod, c, &place, &sources(), &services)
        .map(|env| env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "))
        .map_err(|e| e.0)
}

#[test]
fn later_sources_override_earlier_ones_and_references_look_back() {
    let got = resolve(json!({
        "envFrom": [{"configMapRef": {"name": "cm"}}, {"prefix": "S_", "secretRef": {"name": "sec"}}],
        "env": [
            {"name": "size", "value": "$(color)-10"},
            {"name": "URL", "value": "http://$(A_SERVICE_HOST)/$(LATER)$(S_token)"},
            {"name": "LATER", "value": "x"},
            {"name": "EMPTY"},
        ],
    }));
    assert_eq!(
        got.as_deref(),
        Ok(
            "A_SERVICE_HOST=10.96.0.9 color=blue size=blue-10 S_token=t0p URL=http://10.96.0.9/$(LATER)t0p LATER=x EMPTY="
        )
    );
}

#[test]
fn a_variable_overrides_a_service_variable() {
    let got = resolve(json!({"env": [{"name": "A_SERVICE_HOST", "value": "mine"}]}));
    assert_eq!(got.as_deref(), Ok("A_SERVICE_HOST=mine"));
}

#[test]
fn fields_tell_a_pod_about_itself() {
    for (path, want) in [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u1"),
        ("metadata.labels['b']", "2"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['k/v']", "yes"),
        ("spec.nodeName", "node1"),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "10.244.1.5"),
        ("status.podIPs", "10.244.1.5,fd00:10:244:1::5"),
        ("status.hostIP", "172.30.0.11"),
        ("status.hostIPs", "172.30.0.11,fd00:172:30::11"),
    ] {
        let got = resolve(json!({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}]}));
        assert_eq!(got, Ok(format!("A_SERVICE_HOST=10.96.0.9 X={want}")), "{path}");
    }
    let bad = resolve(json!({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.bad"}}}]}));
    assert_eq!(bad, Err("unsupported fieldPath: spec.bad".into()));
}

#[test]
fn resources_are_divided_and_rounded_up() {
    for (resource, divisor, want) in [
        ("limits.cpu", "1", "1"),
        ("limits.cpu", "1m", "250"),
        ("requests.memory", "1Mi", "64"),
        ("requests.cpu", "1m", "0"),
        ("limits.memory", "1Mi", "1024"),
    ] {
        let got = resolve(json!({
            "resources": {"limits": {"cpu": "250m"}, "requests": {"memory": "64Mi"}},
            "env": [{"name": "X", "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}}],
        }));
        assert_eq!(got, Ok(format!("A_SERVICE_HOST=10.96.0.9 X={want}")), "{resource}/{divisor}");
    }
}

#[test]
fn missing_objects_and_keys_are_errors_unless_optional() {
    let key = |name: &str, key: &str, optional: bool| {
        resolve(json!({"env": [{"name": "X", "valueFrom": {"configMapKeyRef":
            {"name": name, "key": key, "optional": optional}}}]}))
    };
    assert_eq!(key("gone", "a", false), Err("configmap \"gone\" not found".into()));
    assert_eq!(key("cm", "a", false), Err("couldn't find key a in ConfigMap shop/cm".into()));
    assert_eq!(key("cm", "a", true).as_deref(), Ok("A_SERVICE_HOST=10.96.0.9"));
    assert_eq!(key("gone", "a", true).as_deref(), Ok("A_SERVICE_HOST=10.96.0.9"));
    let from = resolve(json!({"envFrom": [{"secretRef": {"name": "nope"}}]}));
    assert_eq!(from, Err("secret \"nope\" not found".into()));
    let optional = resolve(json!({"envFrom": [{"secretRef": {"name": "nope", "optional": true}}]}));
    assert_eq!(optional.as_deref(), Ok("A_SERVICE_HOST=10.96.0.9"));
}
