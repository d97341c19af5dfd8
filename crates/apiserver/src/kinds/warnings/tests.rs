//! One object for each warning.

use serde_json::{Value, json};

use super::*;
use crate::schema::schema;

fn told(group: &str, plural: &str, sub: &str, old: Option<&Value>, new: &Value) -> Vec<String> {
    of(schema().resource(group, "v1", plural).expect("a kind"), sub, old, new)
}

fn of_service(spec: Value) -> Vec<String> {
    told("", "services", "", None, &json!({"metadata": {"name": "s"}, "spec": spec}))
}

#[test]
fn services() {
    const DEPRECATED: &str =
        "spec.externalIPs is deprecated and may no longer be implemented in some clusters";
    let plain = json!({"type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "sessionAffinity": "None"});
    assert_eq!(of_service(plain), [""; 0]);
    assert_eq!(of_service(json!({"type": "NodePort", "externalIPs": ["192.0.2.1"]})), [DEPRECATED]);
    assert_eq!(
        of_service(json!({"type": "ClusterIP", "externalIPs": ["2001:DB8::1", "192.000.2.1"]})),
        [
            "spec.externalIPs[0]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
            "spec.externalIPs[1]: non-standard IP address \"192.000.2.1\" is invalid: use \"192.0.2.1\"",
            DEPRECATED,
        ]
    );
    let headless = json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "ClientIP",
        "externalIPs": ["192.0.2.1"], "loadBalancerIP": "192.0.2.2", "trafficDistribution": "PreferClose"});
    assert_eq!(
        of_service(headless),
        [
            "spec.loadBalancerIP is ignored for headless services",
            "spec.externalIPs is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ]
    );
    let named = json!({"type": "ExternalName", "externalName": "a.example", "externalIPs": ["192.0.2.1"]});
    assert_eq!(of_service(named), ["spec.externalIPs is ignored when spec.type is \"ExternalName\""]);
    let balanced =
        json!({"type": "LoadBalancer", "externalName": "x", "loadBalancerSourceRanges": ["10.0.0.1/8"]});
    assert_eq!(
        of_service(balanced),
        [
            "spec.loadBalancerSourceRanges[0]: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \
             \"10.0.0.0/8\" or \"10.0.0.1/32\"?)",
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ]
    );
}

#[test]
fn cidrs() {
    let of_cidr = |text: &str| {
        let mut found = Vec::new();
        address::check_cidr(&Path::new("c"), text, &mut found);
        found.join("; ")
    };
    assert_eq!(of_cidr("10.0.0.0/8") + &of_cidr("0.0.0.0/0") + &of_cidr("2001:db8::/32") + &of_cidr("x"), "");
    assert_eq!(
        of_cidr("10.0.0.0/08"),
        "c: non-standard CIDR value \"10.0.0.0/08\" is invalid: use \"10.0.0.0/8\""
    );
    assert_eq!(
        of_cidr("::ffff:10.0.0.0/104"),
        "c: non-standard CIDR value \"::ffff:10.0.0.0/104\" is invalid: use \"10.0.0.0/8\""
    );
    assert_eq!(
        of_cidr("2001:DB8::/32"),
        "c: IPv6 CIDR value \"2001:DB8::/32\" should be in RFC 5952 canonical format (\"2001:db8::/32\")"
    );
}

#[test]
fn slices_of_controllers_are_not_looked_at() {
    let mut slice =
        json!({"metadata": {"labels": {}}, "addressType": "FQDN", "endpoints": [{"addresses": ["FD00::1"]}]});
    let fqdn = "spec.addressType: FQDN endpoints are deprecated";
    let address = "endpoints[0].addresses[0]: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")";
    let group = "discovery.k8s.io";
    assert_eq!(told(group, "endpointslices", "", None, &slice), [fqdn, address]);
    assert_eq!(told(group, "endpointslices", "", Some(&json!({})), &slice), [address]);
    slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] =
        "endpointslice-controller.k8s.io".into();
    assert_eq!(told(group, "endpointslices", "", None, &slice), [fqdn]);
}

#[test]
fn updates_of_pods_and_unchanged_templates_are_quiet() {
    let pod = json!({"metadata": {"name": "a.b"}, "spec": {"hostAliases": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}]}});
    let why = "spec.hostAliases[1].ip: duplicate ip \"10.0.0.1\"";
    assert_eq!(
        told("", "pods", "", None, &pod),
        [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is \
             recommended: [must not contain dots]",
            why
        ]
    );
    assert_eq!(told("", "pods", "", Some(&pod), &pod), [""; 0]);
    let of = |generation: u64| {
        json!({"metadata": {"name": "d", "generation": generation},
            "spec": {"template": {"spec": pod["spec"]}}})
    };
    let why = why.replacen("spec", "spec.template.spec", 1);
    assert_eq!(told("apps", "deployments", "", None, &of(1)), std::slice::from_ref(&why));
    assert_eq!(told("apps", "deployments", "", Some(&of(1)), &of(1)), [""; 0]);
    assert_eq!(told("apps", "deployments", "scale", Some(&of(1)), &of(2)), [why]);
}
