//! Which pod a proxied request goes to.

use serde_json::json;

use super::*;

fn asked(id: &str) -> Asked<'_> {
    Asked::parse(id, "service").unwrap()
}

#[test]
fn names_carry_scheme_and_port() {
    assert_eq!(asked("web"), Asked { https: false, name: "web", port: "" });
    assert_eq!(asked("web:http"), Asked { https: false, name: "web", port: "http" });
    assert_eq!(asked("https:web:"), Asked { https: true, name: "web", port: "" });
    for bad in ["", ":80", "ftp:web:80", "a:b:c:d", "http::80"] {
        assert_eq!(Asked::parse(bad, "pod").unwrap_err().message, format!("invalid pod request {bad:?}"));
    }
}

#[test]
fn a_pods_port_is_the_one_asked_for_or_its_first() {
    let pod = |ip: &str, ports: Value| {
        json!({"spec": {"nodeName": "n", "containers": [{"name": "a"}, {"name": "b", "ports": ports}]},
               "status": {"podIP": ip}})
    };
    let to =
        |id: &str, pod: &Value| of_pod(&Asked::parse(id, "pod").unwrap(), pod).map(|d| d.address.to_string());
    let web = pod("10.0.0.5", json!([{"containerPort": 8080}, {"containerPort": 9}]));
    assert_eq!(to("p", &web).unwrap(), "10.0.0.5:8080");
    assert_eq!(to("p:1", &web).unwrap(), "10.0.0.5:1");
    assert_eq!(to("https:p:", &pod("10.0.0.5", json!(null))).unwrap(), "10.0.0.5:443");
    for ip in ["", "127.0.0.1", "169.254.169.254", "224.0.0.1", "::1"] {
        assert_eq!(to("p", &pod(ip, json!(null))).unwrap_err().message, "address not allowed", "{ip}");
    }
}

fn endpoints() -> Value {
    json!({"metadata": {"namespace": "a"}, "subsets": [
        {"ports": [{"name": "http", "port": 8080}], "addresses": [
            {"ip": "10.0.0.5", "targetRef": {"kind": "Pod", "namespace": "a", "name": "p"}},
            {"ip": "10.0.0.6", "targetRef": {"kind": "Pod", "namespace": "b", "name": "p"}},
            {"ip": "10.0.0.7"}]},
        {"ports": [{"name": "http", "port": 80}], "notReadyAddresses": [{"ip": "10.0.0.8"}]},
    ]})
}

#[test]
fn only_ready_pods_of_the_same_namespace_are_candidates() {
    let found = candidates(&asked("web:http"), "web:http", "http", &endpoints()).unwrap();
    assert_eq!(found, [Candidate { pod: "p".into(), address: "10.0.0.5:8080".parse().unwrap() }]);
    let missing = candidates(&asked("web:x"), "web:x", "x", &endpoints()).unwrap_err();
    assert_eq!(
        (missing.code, missing.message.as_str()),
        (503, "no endpoints available for service \"web:x\"")
    );
    let empty = candidates(&asked("web:x"), "web:x", "x", &json!({})).unwrap_err();
    assert_eq!(empty.message, "no endpoints available for service \"web\"");
}

#[test]
fn a_pod_must_have_the_address_that_its_endpoint_claims() {
    let candidate = Candidate { pod: "p".into(), address: "10.0.0.5:80".parse().unwrap() };
    let pod = |ip: &str| json!({"spec": {"nodeName": "n"}, "status": {"podIPs": [{"ip": ip}]}});
    let found = confirm(&asked("web"), &candidate, &pod("10.0.0.5")).unwrap();
    assert_eq!((found.node.as_str(), found.address.port()), ("n", 80));
    assert_eq!(confirm(&asked("web"), &candidate, &pod("10.0.0.9")), None);
}

#[test]
fn a_number_means_the_port_that_has_it() {
    let service = || Ok(json!({"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}));
    assert_eq!(port_name(&asked("web:80"), service).unwrap(), "http");
    assert_eq!(port_name(&asked("web:http"), || Err(ApiError::internal("not asked"))).unwrap(), "http");
    let wrong = port_name(&asked("web:81"), service).unwrap_err();
    assert_eq!(wrong.message, "no service port 81 found for service \"web\"");
}
