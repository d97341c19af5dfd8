//! The table loads whole, and objects are held against it in kube-apiserver's words.

use serde_json::{Value, json};

use super::{Gvk, parse_json, schema};

fn check(kind: &str, mut obj: Value) -> Result<(Value, Vec<String>), String> {
    let group = if kind == "Deployment" { "apps" } else { "" };
    match schema().check_fields(group, "v1", kind, &mut obj) {
        Ok(messages) => Ok((obj, messages)),
        Err(e) => Err(e.message),
    }
}

#[test]
fn every_resource_and_subresource_has_a_type() {
    assert!(schema().resources().len() > 60);
    for resource in schema().resources() {
        assert!(schema().type_of(resource.gvk()).is_some(), "{resource:?}");
        for name in resource.subresources {
            let sub = resource.subresource(name).expect("it is listed");
            assert!(schema().type_of(sub.gvk).is_some(), "{}/{name}: {:?}", resource.plural, sub.gvk);
        }
    }
}

#[test]
fn lookups_know_names_and_groups() {
    let deployments = schema().resource("apps", "v1", "deployments").expect("served");
    assert_eq!((deployments.kind, deployments.short_names), ("Deployment", &["deploy"][..]));
    assert_eq!(deployments.qualified(), "deployments.apps");
    assert_eq!(schema().by_kind("", "v1", "Pod").map(|r| r.plural), Some("pods"));
    assert!(schema().resource("apps", "v1", "pods").is_none());
    for kind in ["DeleteOptions", "PatchOptions"] {
        assert!(schema().type_of(Gvk { group: "apps", version: "v1", kind }).is_some());
    }
}

#[test]
fn unknown_fields_are_pruned_and_told_of() {
    let (obj, messages) = check(
        "Deployment",
        json!({"kind": "Deployment", "apiVersion": "apps/v1", "spec": {"foo": 1, "replicas": 2,
            "template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "imag": "x"}]}}}}),
    )
    .expect("types fit");
    assert_eq!(
        messages,
        ["unknown field \"spec.foo\"", "unknown field \"spec.template.spec.containers[1].imag\""]
    );
    assert_eq!(
        obj["spec"],
        json!({"replicas": 2,
        "template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}})
    );
}

#[test]
fn wrong_types_are_worded_as_kubernetes_words_them() {
    let cases = [
        (
            "Deployment",
            json!({"spec": {"replicas": "three"}}),
            "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "Service",
            json!({"spec": {"ports": [{"port": "http"}]}}),
            "Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            "Service",
            json!({"spec": {"ports": [{"port": 99999999999_i64}]}}),
            "Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal number 99999999999 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            "Service",
            json!({"spec": {"ports": {"port": 1}}}),
            "Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort",
        ),
        (
            "Service",
            json!({"metadata": {"labels": {"a": 1}}}),
            "Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "Service",
            json!({"spec": {"ports": [{"port": 80, "targetPort": true}]}}),
            "Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal bool into Go value of type int32",
        ),
        (
            "ConfigMap",
            json!({"data": "x"}),
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string",
        ),
        (
            "Secret",
            json!({"data": {"a": "***"}}),
            "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 0",
        ),
        (
            "Pod",
            json!([]),
            "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal array into Go value of type v1.Pod",
        ),
        (
            "Pod",
            json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "lots"}}}]}}),
            "Pod in version \"v1\" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ];
    for (kind, obj, want) in cases {
        assert_eq!(check(kind, obj).expect_err(want), want);
    }
}

#[test]
fn values_come_to_their_canonical_form() {
    let (obj, messages) = check(
        "Pod",
        json!({
            "metadata": {"creationTimestamp": null, "deletionTimestamp": "2026-01-02T03:04:05.678+01:00"},
            "spec": {"containers": [{"name": "a", "args": [null],
                "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]},
        }),
    )
    .expect("types fit");
    assert!(messages.is_empty());
    assert_eq!(obj["metadata"], json!({"deletionTimestamp": "2026-01-02T02:04:05Z"}));
    assert_eq!(
        obj["spec"]["containers"][0],
        json!({"name": "a", "args": [""],
        "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}})
    );
}

#[test]
fn normalising_fills_and_drops_as_go_does() {
    let gvk = Gvk { group: "", version: "v1", kind: "Pod" };
    let mut pod = json!({"spec": {"hostNetwork": false, "nodeSelector": {}, "containers": [{"name": "a",
        "args": [], "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": false}]}],
        "volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 0},
        "apiVersion": "v1", "kind": "Pod"});
    schema().normalise(gvk, &mut pod);
    let want = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {}, "spec": {
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "a", "resources": {}, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "terminationGracePeriodSeconds": 0}, "status": {}});
    assert_eq!(pod.to_string(), want.to_string());
}

#[test]
fn duplicate_fields_are_told_of_and_the_last_wins() {
    let (value, messages) =
        parse_json(br#"{"spec":{"x":1,"x":2,"ports":[{"a":1},{"a":1,"a":3}]}}"#).expect("it is JSON");
    assert_eq!(messages, ["duplicate field \"spec.x\"", "duplicate field \"spec.ports[1].a\""]);
    assert_eq!(value, json!({"spec": {"x": 2, "ports": [{"a": 1}, {"a": 3}]}}));
}

#[test]
fn broken_and_bottomless_json_is_refused() {
    for body in ["", "{", "{} {}", "nul", &"[".repeat(100_000)] {
        let error = parse_json(body.as_bytes()).expect_err("it is not JSON");
        assert_eq!(error.code, 400);
    }
}
