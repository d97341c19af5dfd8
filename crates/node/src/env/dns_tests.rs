//! Resolver texts and host names.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;

fn pod(spec: serde_json::Value) -> Pod {
    let mut spec = spec;
    spec["containers"] = json!([{"name": "c"}]);
    serde_json::from_value(json!({"metadata": {"name": "web-1", "namespace": "shop"}, "spec": spec}))
        .expect("a pod")
}

fn text(spec: serde_json::Value) -> String {
    let host =
        Resolver::parse("# host\nnameserver 192.0.2.1\nsearch corp.example\noptions timeout:1 rotate\n");
    resolver(&pod(spec), "10.96.0.10".parse().expect("ip"), "cluster.local", &host).text()
}

#[test]
fn cluster_first_asks_the_cluster() {
    assert_eq!(
        text(json!({})),
        "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n\
         nameserver 10.96.0.10\noptions ndots:5\n"
    );
    assert_eq!(text(json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true})), text(json!({})));
}

#[test]
fn default_and_host_network_use_the_hosts_resolvers() {
    let want = "search corp.example\nnameserver 192.0.2.1\noptions timeout:1 rotate\n";
    assert_eq!(text(json!({"dnsPolicy": "Default"})), want);
    assert_eq!(text(json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true})), want);
}

#[test]
fn dns_config_is_merged_over_the_policy() {
    let config = json!({"nameservers": ["192.0.2.9", "192.0.2.9"], "searches": ["a.example"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
    assert_eq!(
        text(json!({"dnsPolicy": "None", "dnsConfig": config})),
        "search a.example\nnameserver 192.0.2.9\noptions ndots:2 edns0\n"
    );
    let merged = text(json!({"dnsConfig": config}));
    assert!(merged.contains("corp.example a.example\nnameserver 10.96.0.10\nnameserver 192.0.2.9\n"));
    assert!(merged.ends_with("options ndots:2 edns0\n"), "{merged}");
}

#[test]
fn host_names_follow_hostname_and_subdomain() {
    let of = |spec| names(&pod(spec), "cluster.local", "node1");
    let plain = of(json!({})).expect("names");
    assert_eq!((plain.hostname.as_str(), plain.domain), ("web-1", None));
    let sub = of(json!({"hostname": "h", "subdomain": "db"})).expect("names");
    assert_eq!((sub.hostname.as_str(), sub.domain.as_deref()), ("h", Some("db.shop.svc.cluster.local")));
    let full = of(json!({"hostname": "h", "subdomain": "db", "setHostnameAsFQDN": true})).expect("names");
    assert_eq!(full.hostname, "h.db.shop.svc.cluster.local");
    assert_eq!(of(json!({"hostNetwork": true})).expect("names").hostname, "node1");
    let long = json!({"hostname": "h".repeat(50), "subdomain": "db", "setHostnameAsFQDN": true});
    assert!(of(long).expect_err("too long").contains("64 characters"));
}
