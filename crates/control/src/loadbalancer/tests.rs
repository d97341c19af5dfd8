//! Which addresses Services get.

use super::*;
use crate::config::ControllersConfig;
use crate::testing::{self, words};

fn service(name: &str, spec: &str, ip: &str) -> String {
    let status = if ip.is_empty() {
        String::new()
    } else {
        format!("status: {{loadBalancer: {{ingress: [{{ip: {ip}, ipMode: VIP}}]}}}}")
    };
    format!(
        "\n---\nkind: Service\nmetadata: {{namespace: shop, name: {name}}}\nspec: {{type: LoadBalancer{spec}}}\n{status}"
    )
}

/// A pool of two addresses, .200 and .201.
fn decide(yaml: &str) -> Vec<String> {
    let pool = AddressRange { first: "172.30.0.200".parse().unwrap(), last: "172.30.0.201".parse().unwrap() };
    let config = ControllersConfig { load_balancer_pools: vec![pool], ..Default::default() };
    words(&testing::decide_at(&testing::state(yaml), super::decide, "", 0, &config))
}

#[test]
fn the_lowest_free_address_is_assigned_and_stays() {
    let said = decide(&(service("a", "", "172.30.0.200") + &service("b", "", "")));
    assert_eq!(
        said,
        [
            r#"update Service/status b {"status":{"loadBalancer":{"ingress":[{"ip":"172.30.0.201","ipMode":"VIP"}]}}}"#,
            r#"event IPAllocated Assigned IP ["172.30.0.201"]"#,
        ]
    );
    assert_eq!(decide(&(service("a", "", "172.30.0.201"))), Vec::<String>::new());
}

#[test]
fn an_exhausted_pool_is_told_once() {
    let two = service("a", "", "172.30.0.200") + &service("b", "", "172.30.0.201");
    let said = decide(&(two.clone() + &service("c", "", "")));
    assert!(said[0].contains("AllocationFailed") && said[0].contains("no available IPs"), "{}", said[0]);
    assert_eq!(said[1], "event AllocationFailed Failed to allocate IP for \"shop/c\": no available IPs");
    let told = service("c", "", "")
        + "status: {conditions: [{type: daymark.dev/LoadBalancerAddress, status: 'False', reason: AllocationFailed, message: no available IPs, lastTransitionTime: '2026-01-01T00:00:00Z'}]}";
    assert_eq!(decide(&(two + &told)), Vec::<String>::new());
}

#[test]
fn a_family_without_a_pool_is_left_out_or_told() {
    let dual = |policy: &str, ip: &str| {
        service("a", &format!(", ipFamilies: [IPv6, IPv4], ipFamilyPolicy: {policy}"), ip)
    };
    let prefers = decide(&dual("PreferDualStack", ""));
    assert_eq!(prefers[1], r#"event IPAllocated Assigned IP ["172.30.0.200"]"#);
    assert_eq!(decide(&dual("PreferDualStack", "172.30.0.200")), Vec::<String>::new(), "and it stays");
    for spec in [dual("RequireDualStack", ""), service("a", ", ipFamilies: [IPv6]", "")] {
        let said = decide(&spec);
        assert!(said[1].contains("no address pool has IPv6 addresses"), "{said:?}");
    }
    let one = ", ipFamilies: [IPv4, IPv6], ipFamilyPolicy: PreferDualStack, loadBalancerIP: 172.30.0.201";
    assert_eq!(decide(&service("a", one, "172.30.0.201")), Vec::<String>::new(), "one wish is enough");
}

#[test]
fn wishes_are_granted_if_free_and_in_the_pool() {
    assert!(decide(&service("a", ", loadBalancerIP: 172.30.0.201", ""))[0].contains("172.30.0.201"));
    let annotated = service("a", "", "")
        .replace("name: a", "name: a, annotations: {metallb.io/loadBalancerIPs: 172.30.0.201}");
    assert!(decide(&annotated)[0].contains("172.30.0.201"));
    let taken = service("a", "", "172.30.0.201") + &service("b", ", loadBalancerIP: 172.30.0.201", "");
    assert!(decide(&taken)[1].contains("in use"));
    assert!(
        decide(&service("a", ", loadBalancerIP: 192.0.2.1", ""))[1].contains("no address pool contains it")
    );
    let moved = service("a", ", loadBalancerIP: 172.30.0.201", "172.30.0.200");
    assert!(decide(&moved)[0].contains("172.30.0.201"));
}

#[test]
fn other_classes_are_left_alone_and_other_types_lose_their_address() {
    assert_eq!(decide(&service("a", ", loadBalancerClass: acme/lb", "")), Vec::<String>::new());
    assert_eq!(decide(&service("a", ", loadBalancerClass: acme/lb", "172.30.0.200")), Vec::<String>::new());
    assert!(decide(&service("a", ", loadBalancerClass: daymark.dev/lb", ""))[0].contains("172.30.0.200"));
    let changed = service("a", "", "172.30.0.200").replace("type: LoadBalancer", "type: ClusterIP");
    assert_eq!(decide(&changed), [r#"update Service/status a {"status":{"loadBalancer":{"ingress":null}}}"#]);
}

#[test]
fn of_two_with_one_address_one_moves() {
    let said = decide(&(service("a", "", "172.30.0.200") + &service("b", "", "172.30.0.200")));
    assert!(said[0].starts_with("update Service/status b") && said[0].contains("172.30.0.201"), "{said:?}");
}
