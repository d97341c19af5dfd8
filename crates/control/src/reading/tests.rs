//! The same objects in JSON and in protobuf; what is no object.

use std::fmt::Debug;

use daymark_apiserver::protobuf::{decode, encode, frame};
use kube::Resource;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::*;

fn said(text: &str) -> (Said, String) {
    let mut version = "before".to_owned();
    (json::event::<Slices>(text.as_bytes(), &mut version).expect("readable"), version)
}

#[test]
fn a_line_is_an_object_a_mark_or_a_failure() {
    let metadata = r#"{"name":"w-1","namespace":"shop","resourceVersion":"7","labels":{"a\"b":"c","kubernetes.io/service-name":"web"},"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-02T03:04:05Z"}}"#;
    let of = |what: &str| {
        format!(
            r#"{{"type":"{what}","object":{{"metadata":{metadata},"addressType":"IPv4","endpoints":[{{"addresses":["10.0.0.1"],"targetRef":{{"name":"}}"}}}}]}}}}"#
        )
    };
    let (Said::Object(read), version) = said(&of("ADDED")) else { panic!("an object") };
    assert_eq!((read.name.to_string(), version), ("shop/w-1".to_owned(), "7".to_owned()));
    assert!(read.trigger.is_some());
    assert!(matches!(read.change, Ok(Change::Slice(slice)) if slice.endpoints.len() == 1));
    assert!(matches!(said(&of("DELETED")).0, Said::Gone(name) if &*name.name == "w-1"));
    let mark = |annotations: &str| {
        format!(
            r#"{{"type":"BOOKMARK","object":{{"kind":"EndpointSlice","metadata":{{"resourceVersion":"9"{annotations}}}}}}}"#
        )
    };
    let (plain, version) = said(&mark(""));
    assert_eq!((matches!(plain, Said::Bookmark { ends_list: false }), &*version), (true, "9"));
    let end = mark(r#","annotations":{"k8s.io/initial-events-end":"true"}"#);
    assert!(matches!(said(&end).0, Said::Bookmark { ends_list: true }));
    // As API servers write it: an object in which nothing is set.
    let empty = r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9"},"spec":{"containers":null},"status":{}}}"#;
    let mark = json::event::<Pods>(empty.as_bytes(), &mut String::new());
    assert!(matches!(mark, Ok(Said::Bookmark { ends_list: false })), "{mark:?}");
    let failure = r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","metadata":{},"code":410}}"#;
    assert!(
        matches!(said(failure), (Said::Failure(status), version) if status.code == 410 && version == "before")
    );
    let failure = json::event::<Services>(failure.as_bytes(), &mut String::new());
    assert!(matches!(failure, Ok(Said::Failure(_))), "whose status is none of a Service");
    assert!(json::event::<Services>(br#"{"type":"ADDED","object":{"spec":7}}"#, &mut String::new()).is_err());
}

/// Objects in which everything is set that is read, and things that are not.
fn full() -> Vec<Value> {
    let metadata = json!({
        "name": "w-1", "generateName": "w-", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-01T00:00:00Z",
        "labels": {
            "app": "web", "kubernetes.io/service-name": "web", "service.kubernetes.io/service-proxy-name": "",
            "service.kubernetes.io/headless": "", "topology.kubernetes.io/zone": "z",
            "node.kubernetes.io/exclude-from-external-load-balancers": "true",
        },
        "annotations": {
            "a": "b", "k8s.io/initial-events-end": "true",
            "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z",
        },
        "finalizers": ["f"],
        "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": {"f:spec": {"k:{\"a\":1}": {}}}}],
    });
    let port = json!({"name": "h", "protocol": "UDP", "port": 80, "targetPort": "x", "nodePort": 30000, "appProtocol": "h"});
    let mut all = vec![
        json!({"apiVersion": "v1", "kind": "Service", "spec": {
            "ports": [port, {"port": -1, "targetPort": 8080}], "selector": {"app": "web"}, "type": "LoadBalancer",
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "externalIPs": ["192.0.2.1"],
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}},
            "loadBalancerSourceRanges": ["10.0.0.0/8", ""], "externalName": "x.example",
            "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local", "healthCheckNodePort": 30001,
            "publishNotReadyAddresses": true, "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
            "trafficDistribution": "PreferClose", "allocateLoadBalancerNodePorts": false,
        }, "status": {
            "loadBalancer": {"ingress": [{"ip": "172.30.0.1", "ipMode": "Proxy", "hostname": "h"}, {"hostname": "h"}]},
            "conditions": [{"type": "t", "status": "True", "reason": "r", "message": ""}],
        }}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [
            {
                "addresses": ["10.0.0.1", "10.0.0.2"], "hostname": "h", "nodeName": "n1", "zone": "z",
                "conditions": {"ready": false, "serving": true, "terminating": true},
                "targetRef": {"kind": "Pod", "name": "p"}, "deprecatedTopology": {"a": "b"},
                "hints": {"forZones": [{"name": "z"}, {"name": ""}], "forNodes": [{"name": "n1"}]},
            },
            {"addresses": ["name.example"], "conditions": {}}, {"addresses": []},
        ], "ports": [{"name": "", "protocol": "TCP", "port": 8080, "appProtocol": "h"}, {"name": "h", "port": 0}, {}]}),
        json!({"apiVersion": "v1", "kind": "Node", "spec": {
            "podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "providerID": "p", "unschedulable": true,
            "taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}, {"key": "", "effect": "x"}],
        }, "status": {
            "addresses": [{"type": "InternalIP", "address": "172.31.9.1"}, {"type": "Hostname", "address": "n"}],
            "capacity": {"cpu": "1"}, "images": [{"names": ["i"], "sizeBytes": 7}],
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}],
        }}),
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {
            "hostNetwork": true, "nodeName": "n1", "containers": [{"name": "c", "ports": [
                {"name": "p", "hostPort": 80, "containerPort": 8080, "protocol": "UDP", "hostIP": "192.0.2.1"},
                {"containerPort": 1},
            ]}, {"name": "d"}],
            "initContainers": [{"name": "i", "restartPolicy": "Always", "ports": [{"containerPort": 2}]}],
        }, "status": {"phase": "Running", "podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}, {"ip": "fd00::2"}]}}),
    ];
    all.iter_mut().for_each(|object| object["metadata"] = metadata.clone());
    all
}

/// What is read of an object, and what comes of that, in JSON and in protobuf as Kubernetes writes them.
fn both(object: &Value) -> [String; 2] {
    let body = encode(object).expect("of its types");
    let object = decode(&body).expect("just encoded");
    match object["kind"].as_str() {
        Some("Service") => both_of::<Services>(&body, &object),
        Some("EndpointSlice") => both_of::<Slices>(&body, &object),
        Some("Node") => both_of::<Nodes>(&body, &object),
        _ => both_of::<Pods>(&body, &object),
    }
}

fn both_of<K: Kind>(body: &[u8], object: &Value) -> [String; 2]
where
    for<'a> K::Object<'a>: Debug,
{
    let text = object.to_string();
    let json = serde_json::from_str::<K::Object<'_>>(&text).expect("readable");
    let protobuf = wire::protobuf::object::<K::Object<'_>>(body, &K::Whole::kind(&())).expect("readable");
    let line = json!({"type": "ADDED", "object": object}).to_string();
    let said = |encoding, text: &[u8]| {
        let mut version = String::new();
        let said = event::<K>(encoding, text, &mut version).expect("readable");
        format!("{said:#?} {version}")
    };
    [
        format!("{json:#?} {}", said(Encoding::Json, line.as_bytes())),
        format!("{protobuf:#?} {}", said(Encoding::Protobuf, &bare_frame("ADDED", object))),
    ]
}

/// An event without the length before it.
fn bare_frame(what: &str, object: &Value) -> Vec<u8> {
    frame(what, object).expect("of its types").split_off(4)
}

#[test]
fn protobuf_says_what_json_says() {
    for object in full() {
        let [json, protobuf] = both(&object);
        assert_eq!(json, protobuf, "{object:#}");
        assert!(json.contains("deletion_timestamp: Some") && json.ends_with(" 7"), "{json}");
    }
}

/// Leaves out parts of a value, or sets them to what Go has where nothing is set.
fn thin_out(value: &mut Value, decisions: &mut impl Iterator<Item = u8>) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name == "kind" || name == "apiVersion" || decisions.next() != Some(0));
            let inner = fields.iter_mut().filter(|(name, _)| *name != "kind" && *name != "apiVersion");
            inner.for_each(|(_, field)| thin_out(field, decisions));
        }
        Value::Array(items) => {
            items.retain(|_| decisions.next() != Some(0));
            items.iter_mut().for_each(|item| thin_out(item, decisions));
        }
        _ if decisions.next() != Some(1) => {}
        Value::String(text) => text.clear(),
        Value::Bool(set) => *set = false,
        Value::Number(_) => *value = 0.into(),
        Value::Null => {}
    }
}

fn kinds_and_decisions() -> impl Strategy<Value = (usize, Vec<u8>)> {
    (0..4usize, proptest::collection::vec(0..12u8, 200))
}

proptest! {
    #[test]
    fn protobuf_says_what_json_says_of_anything((kind, decisions) in kinds_and_decisions()) {
        let mut object = full().swap_remove(kind);
        thin_out(&mut object, &mut decisions.into_iter());
        let [json, protobuf] = both(&object);
        prop_assert_eq!(json, protobuf);
    }

    #[test]
    fn what_is_no_protobuf_never_panics(kind in 0..4usize, at in any::<Index>(), byte in any::<u8>(), end in any::<Index>()) {
        let mut event = bare_frame("ADDED", &full()[kind]);
        let at = at.index(event.len());
        event[at] = byte;
        let version = &mut String::new();
        for text in [&event[..], &event[..end.index(event.len())], &event[at..]] {
            let _ = super::event::<Services>(Encoding::Protobuf, text, version);
            let _ = super::event::<Slices>(Encoding::Protobuf, text, version);
            let _ = super::event::<Nodes>(Encoding::Protobuf, text, version);
            let _ = super::event::<Pods>(Encoding::Protobuf, text, version);
            let _ = refusal(Encoding::Protobuf, text);
        }
    }
}

#[test]
fn a_frame_is_an_object_a_mark_or_a_failure() {
    let said = |what: &str, object: &Value| {
        let mut version = "before".to_owned();
        (event::<Slices>(Encoding::Protobuf, &bare_frame(what, object), &mut version), version)
    };
    let slice = &full()[1];
    assert!(
        matches!(said("MODIFIED", slice), (Ok(Said::Object(read)), version) if read.trigger.is_some() && version == "7")
    );
    assert!(
        matches!(said("DELETED", slice), (Ok(Said::Gone(name)), version) if &*name.name == "w-1" && version == "7")
    );
    let mark = |metadata: Value| {
        said(
            "BOOKMARK",
            &json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata}),
        )
    };
    let end = json!({"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}});
    assert!(matches!(mark(end), (Ok(Said::Bookmark { ends_list: true }), version) if version == "9"));
    let plain = mark(json!({"resourceVersion": "9"}));
    assert!(matches!(plain, (Ok(Said::Bookmark { ends_list: false }), version) if version == "9"));
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired",
        "details": {"retryAfterSeconds": 1}, "code": 410,
    });
    let (failure, version) = said("ERROR", &status);
    let Ok(Said::Failure(failure)) = failure else { panic!("{failure:?}") };
    assert_eq!(
        (failure.code, &*failure.message, &*failure.reason, &*version),
        (410, "too old", "Expired", "before")
    );
    let refused = refusal(Encoding::Protobuf, &encode(&status).expect("of its types"));
    assert_eq!(refused.expect("a Status").code, 410);
    let (wrong, version) = said("ADDED", &full()[0]);
    assert!(
        wrong.is_err_and(|why| why.to_string().contains("a \"Service\" in protobuf")) && version == "before"
    );
    assert!(said("ERROR", slice).0.is_err(), "a failure is a Status");
}

#[test]
fn the_answer_says_how_it_is_written() {
    let of = |text: &'static str| Encoding::of(Some(&HeaderValue::from_static(text)));
    assert_eq!(of("application/vnd.kubernetes.protobuf;stream=watch"), Encoding::Protobuf);
    assert_eq!(of("application/vnd.kubernetes.protobuf"), Encoding::Protobuf);
    assert_eq!(of("application/json"), Encoding::Json);
    assert_eq!(of("text/html"), Encoding::Json);
    assert_eq!(Encoding::of(None), Encoding::Json);
}
