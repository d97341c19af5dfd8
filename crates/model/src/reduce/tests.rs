//! Kubernetes objects as YAML in, model out.

use super::*;

fn yaml<'a, T: serde::Deserialize<'a>>(text: &'a str) -> T {
    serde_yaml::from_str(text).expect("YAML of the test")
}

fn slice(object: wire::EndpointSlice<'_>) -> Result<Option<Slice>, ReduceError> {
    Ok(match super::slice(object)? {
        Change::Slice(slice) => Some(slice),
        _ => None,
    })
}

#[test]
fn a_load_balancer_keeps_all_that_the_data_plane_needs() {
    let service = service(&yaml(
        "
metadata: {namespace: shop, name: web, labels: {service.kubernetes.io/service-proxy-name: other}}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.7, 'fd00::7']
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  sessionAffinity: ClientIP
  trafficDistribution: PreferClose
  loadBalancerSourceRanges: [' 10.1.2.3/8']
  ports: [{name: http, port: 80, nodePort: 30080}, {name: dns, port: 53, protocol: UDP}]
status: {loadBalancer: {ingress: [{ip: 172.30.0.200}, {ip: 172.30.0.201, ipMode: Proxy}, {hostname: x.example}]}}",
    ))
    .expect("valid");
    assert_eq!(service.name.to_string(), "shop/web");
    assert_eq!(service.cluster_ips.len(), 2);
    assert!(service.external_local && service.excluded && !service.headless && !service.internal_local);
    assert_eq!(service.health_check_node_port, Some(32000));
    assert_eq!(service.affinity_seconds, Some(10_800));
    assert_eq!(service.traffic_distribution, Some(TrafficDistribution::PreferSameZone));
    assert_eq!(service.source_ranges, ["10.0.0.0/8".parse().expect("CIDR")]);
    assert_eq!(service.ports[0].node_port, Some(30080));
    assert_eq!(service.ports[1].protocol, Protocol::Udp);
    assert_eq!(service.load_balancer_ips.iter().map(|lb| lb.proxy).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn headless_and_external_name_have_no_cluster_ip() {
    let headless = service(&yaml("{metadata: {name: db}, spec: {clusterIP: None, clusterIPs: [None]}}"));
    let headless = headless.expect("valid");
    assert!(headless.headless && headless.cluster_ips.is_empty());
    let external = "{metadata: {name: x}, spec: {type: ExternalName, externalName: db.example.com}}";
    let external = service(&yaml(external)).expect("valid");
    assert_eq!(external.service_type, ServiceType::ExternalName("db.example.com".into()));
}

#[test]
fn external_policy_counts_only_where_traffic_comes_from_outside() {
    let plain = "{metadata: {name: x}, spec: {clusterIP: 10.96.0.9, externalTrafficPolicy: Local}}";
    assert!(!service(&yaml(plain)).expect("valid").external_local);
    let ips = "{metadata: {name: x}, spec: {externalIPs: [192.0.2.1], externalTrafficPolicy: Local}}";
    assert!(service(&yaml(ips)).expect("valid").external_local);
}

#[test]
fn errors_name_object_field_and_value() {
    let bad = "{metadata: {namespace: shop, name: web}, spec: {ports: [{port: 80}, {port: 70000}]}}";
    let error = service(&yaml(bad)).expect_err("port out of range");
    assert_eq!(
        error.to_string(),
        "Service shop/web: spec.ports[1].port: \"70000\" is no port number (1-65535)"
    );
    let bad = "{metadata: {name: web}, spec: {clusterIPs: [10.96.0.300]}}";
    let error = service(&yaml(bad)).expect_err("no IP").to_string();
    assert!(error.contains("Service default/web: spec.clusterIPs[0]: \"10.96.0.300\""), "{error}");
    let bad = "{metadata: {name: web}, spec: {ports: [{port: 80, protocol: ICMP}]}}";
    assert_eq!(service(&yaml(bad)).expect_err("protocol").field, "spec.ports[0].protocol");
}

#[test]
fn absent_conditions_mean_ready_and_serving() {
    let slice = slice(yaml(
        "
metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: all}]
endpoints:
- {addresses: [10.244.0.2, 10.244.0.9], nodeName: n1, hints: {forZones: [{name: a}]}}
- {addresses: [10.244.0.3], conditions: {ready: false, terminating: true}}
- {addresses: []}",
    ))
    .expect("valid")
    .expect("belongs to a Service");
    assert_eq!(slice.ports.len(), 1, "a port without number serves nothing");
    let [first, second] = &slice.endpoints[..] else { panic!("two endpoints") };
    assert!(first.ready && first.serving && !first.terminating);
    let hints = Hints { zones: vec!["a".into()], nodes: Vec::new() };
    assert_eq!(first.hints.as_deref(), Some(&hints));
    assert_eq!(second.hints, None);
    assert!(!second.ready && second.serving && second.terminating);
}

#[test]
fn slices_of_no_service_are_gone() {
    let orphan = yaml("{metadata: {name: x}, addressType: IPv4, endpoints: []}");
    assert_eq!(super::slice(orphan), Ok(Change::SliceGone(ObjectName::new("default", "x"))));
    let labels = "labels: {kubernetes.io/service-name: web}";
    let named = format!("{{metadata: {{name: x, {labels}}}, addressType: FQDN, endpoints: []}}");
    assert_eq!(slice(yaml(&named)), Ok(None));
    let mixed = format!(
        "{{metadata: {{name: x, {labels}}}, addressType: IPv4, endpoints: [{{addresses: ['fd00::1']}}]}}"
    );
    assert_eq!(slice(yaml(&mixed)).expect_err("family").field, "endpoints[0].addresses[0]");
}

#[test]
fn nodes() {
    let node = node(&yaml(
        "
metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}
spec: {podCIDR: 10.244.1.0/24}
status:
  addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 172.30.0.11}]
  conditions: [{type: Ready, status: 'True'}]",
    ))
    .expect("valid");
    assert!(node.ready && !node.excluded_from_load_balancers);
    assert_eq!(node.internal_ips, ["172.30.0.11".parse::<IpAddr>().expect("IP")]);
    assert_eq!(node.pod_cidrs.len(), 1);
    assert_eq!(node.zone.as_deref(), Some("a"));
}
