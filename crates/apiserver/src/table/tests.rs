//! What `kubectl get` shows for objects in various states.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::kinds::testing::resource;

const NOW: &str = "2026-01-02T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

/// The cells of one object, as text, the wide ones included.
fn cells(group: &'static str, kind: &'static str, mut object: Value) -> Vec<String> {
    if object["metadata"]["creationTimestamp"].is_null() {
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T23:55:00Z");
    }
    let table = render(&resource(group, kind, true), &[&object], json!({}), Include::None, now());
    let cells = table["rows"][0]["cells"].as_array().expect("cells").clone();
    cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
}

/// READY, STATUS and RESTARTS of a pod with one container.
fn pod(status: Value) -> String {
    let spec = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
    cells("", "Pod", json!({"metadata": {"name": "p"}, "spec": spec, "status": status}))[1..4].join(" ")
}

#[test]
fn pods_in_a_word() {
    let waiting = |reason: &str| json!({"name": "c", "state": {"waiting": {"reason": reason}}});
    let ended = |reason: &str, code: i64| json!({"name": "c", "state": {"terminated": {"reason": reason, "exitCode": code}}});
    let running = json!({"name": "c", "ready": true, "state": {"running": {}}});
    let crashing = json!({"name": "c", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T23:55:00Z"}}});
    let cases = [
        (json!({"phase": "Pending"}), "0/1 Pending 0"),
        (
            json!({"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}),
            "0/1 ContainerCreating 0",
        ),
        (
            json!({"phase": "Pending", "containerStatuses": [waiting("ImagePullBackOff")]}),
            "0/1 ImagePullBackOff 0",
        ),
        (json!({"phase": "Running", "containerStatuses": [running]}), "1/1 Running 0"),
        (json!({"phase": "Running", "containerStatuses": [crashing]}), "0/1 CrashLoopBackOff 3 (5m ago)"),
        (json!({"phase": "Succeeded", "containerStatuses": [ended("Completed", 0)]}), "0/1 Completed 0"),
        (json!({"phase": "Failed", "containerStatuses": [ended("Error", 1)]}), "0/1 Error 0"),
        (json!({"phase": "Failed", "containerStatuses": [ended("", 7)]}), "0/1 ExitCode:7 0"),
        (json!({"phase": "Failed", "reason": "Evicted"}), "0/1 Evicted 0"),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}},
                {"name": "j", "state": {"running": {}}}], "containerStatuses": [waiting("PodInitializing")]}),
            "0/1 Init:1/2 0",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 2,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            "0/1 Init:CrashLoopBackOff 2",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 3}}}]}),
            "0/1 Init:ExitCode:3 0",
        ),
        (
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [ended("Completed", 0), {"name": "d", "ready": true, "state": {"running": {}}}]}),
            "1/1 Running 0",
        ),
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            "0/1 SchedulingGated 0",
        ),
    ];
    for (status, wanted) in cases {
        assert_eq!(pod(status.clone()), wanted, "{status}");
    }
}

#[test]
fn pods_on_their_way_out_and_wide() {
    let object = json!({"metadata": {"name": "p", "deletionTimestamp": NOW}, "spec": {"nodeName": "n", "containers": [{}],
        "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.244.0.5"}], "conditions": [{"type": "a", "status": "True"}]}});
    assert_eq!(
        cells("", "Pod", object),
        ["p", "0/1", "Terminating", "0", "5m", "10.244.0.5", "n", "<none>", "1/2"]
    );
}

#[test]
fn services() {
    let svc = |spec: Value, status: Value| {
        cells("", "Service", json!({"metadata": {"name": "s"}, "spec": spec, "status": status})).join(" ")
    };
    let ports = json!([{"port": 80, "nodePort": 30008, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]);
    let cases = [
        (
            json!({"type": "NodePort", "clusterIPs": ["10.96.0.5"], "ports": ports, "selector": {"b": "2", "a": "1"}}),
            json!({}),
            "s NodePort 10.96.0.5 <none> 80:30008/TCP,53/UDP 5m a=1,b=2",
        ),
        (
            json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"], "ports": []}),
            json!({}),
            "s LoadBalancer 10.96.0.5 <pending> <none> 5m <none>",
        ),
        (
            json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"], "externalIPs": ["9.9.9.9"]}),
            json!({"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "a.b"}]}}),
            "s LoadBalancer 10.96.0.5 2.2.2.2,a.b,9.9.9.9 <none> 5m <none>",
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.b"}),
            json!({}),
            "s ExternalName <none> a.b <none> 5m <none>",
        ),
        (
            json!({"type": "ClusterIP", "clusterIPs": ["None"]}),
            json!({}),
            "s ClusterIP None <none> <none> 5m <none>",
        ),
    ];
    for (spec, status, wanted) in cases {
        assert_eq!(svc(spec, status), wanted);
    }
}

#[test]
fn other_kinds() {
    let template =
        json!({"spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "j"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template},
        "status": {"readyReplicas": 1, "updatedReplicas": 2}});
    assert_eq!(cells("apps", "Deployment", deployment), ["d", "1/3", "2", "0", "5m", "c,d", "i:1,j", "a=b"]);
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "x"}},
        "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "172.30.0.11"}], "nodeInfo": {"kubeletVersion": "v1", "kernelVersion": "6.18", "architecture": "amd64"}}});
    let wanted = [
        "n",
        "Ready,SchedulingDisabled",
        "control-plane,x",
        "5m",
        "v1",
        "172.30.0.11",
        "<none>",
        "<unknown>",
        "6.18 (amd64)",
        "<unknown>",
    ];
    assert_eq!(cells("", "Node", node), wanted);
    let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}],
        "endpoints": [{"addresses": ["1", "2"]}, {"addresses": ["3"]}, {"addresses": ["4"]}]});
    assert_eq!(
        cells("discovery.k8s.io", "EndpointSlice", slice),
        ["s", "IPv4", "80,x", "1,2,3 + 1 more...", "5m"]
    );
    let bare = json!({"metadata": {"name": "s"}, "addressType": "IPv4"});
    assert_eq!(cells("discovery.k8s.io", "EndpointSlice", bare), ["s", "IPv4", "<unset>", "<unset>", "5m"]);
    let endpoints = json!({"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}]}]});
    assert_eq!(cells("", "Endpoints", endpoints), ["e", "1.1.1.1:80,[fd00::1]:80", "5m"]);
    let event = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": " x ", "count": 4,
        "firstTimestamp": "2026-01-01T23:00:00Z", "lastTimestamp": "2026-01-01T23:59:00Z",
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"}, "source": {"component": "kubelet", "host": "n"}});
    assert_eq!(
        cells("", "Event", event),
        ["60s", "Normal", "Pulled", "pod/p", "spec", "kubelet, n", "x", "60m", "4", "e"]
    );
    let job = json!({"metadata": {"name": "j"}, "spec": {"completions": 2, "template": template},
        "status": {"succeeded": 1, "startTime": "2026-01-01T23:59:50Z"}});
    assert_eq!(cells("batch", "Job", job)[..5], ["j", "Running", "1/2", "10s", "5m"]);
    let map = json!({"metadata": {"name": "m"}, "data": {"a": "b"}, "binaryData": {"c": ""}});
    assert_eq!(cells("", "ConfigMap", map), ["m", "2", "5m"]);
    let csr = json!({"metadata": {"name": "c"}, "spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600},
        "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}});
    assert_eq!(
        cells("certificates.k8s.io", "CertificateSigningRequest", csr),
        ["c", "5m", "s", "u", "60m", "Approved,Issued"]
    );
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]});
    assert_eq!(
        cells("rbac.authorization.k8s.io", "RoleBinding", binding),
        ["b", "Role/r", "5m", "u", "", "n/s"]
    );
}

#[test]
fn kinds_without_columns() {
    let object = json!({"metadata": {"name": "x"}});
    assert_eq!(cells("rbac.authorization.k8s.io", "Role", object.clone()), ["x", "2026-01-01T23:55:00Z"]);
    assert_eq!(cells("example.com", "Widget", object), ["x", "5m"]);
    let definitions = columns(&resource("example.com", "Widget", true));
    assert_eq!(definitions[0]["format"], "name");
    assert_eq!(definitions[1]["type"], "date");
}

#[test]
fn rows_carry_what_was_asked() {
    let res = resource("", "Pod", true);
    let object = json!({"metadata": {"name": "p"}, "status": {"phase": "Succeeded"}});
    let row = |include| {
        render(&res, &[&object], json!({"resourceVersion": "7"}), include, now())["rows"][0].clone()
    };
    assert_eq!(row(Include::None)["object"], Value::Null);
    assert_eq!(row(Include::Object)["object"], object);
    assert_eq!(row(Include::Metadata)["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(row(Include::Metadata)["object"]["metadata"]["name"], "p");
    assert_eq!(row(Include::None)["conditions"][0]["reason"], "Succeeded");
    let table = render(&res, &[], json!({"resourceVersion": "7"}), Include::Metadata, now());
    assert_eq!(table["metadata"]["resourceVersion"], "7");
    assert_eq!(table["rows"], json!([]));
    let priorities: Vec<i64> = columns(&res)
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| c["priority"].as_i64().expect("a number"))
        .collect();
    assert_eq!(priorities, [0, 0, 0, 0, 0, 1, 1, 1, 1]);
}
