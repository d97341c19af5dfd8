//! Messages that people read, and which addresses are special.

use daymark_model::Protocol;

use super::*;

fn key(ip: &str, port: u16) -> FrontendKey {
    FrontendKey { ip: ip.parse().expect("an address"), port, protocol: Protocol::Tcp }
}

#[test]
fn a_message_names_object_field_value_and_what_to_do() {
    let service = ObjectName::new("default", "b");
    let node_port = Issue::FrontendTaken {
        service: service.clone(),
        kind: FrontendKind::NodePort,
        holder: ObjectName::new("default", "a"),
        frontends: vec![key("127.0.0.1", 30008), key("172.30.0.11", 30008)],
    };
    assert_eq!(
        node_port.to_string(),
        "Service default/b: spec.ports[].nodePort: 30008/TCP is served for Service default/a, not for this \
         one; give one of the two another number"
    );
    let endpoint = Issue::EndpointRefused {
        service: service.clone(),
        slice: ObjectName::new("default", "b-x7f2k"),
        problem: SpecialAddress::Loopback,
        addresses: (1..=9).map(|last| [127, 0, 0, last].into()).collect(),
    };
    assert_eq!(
        endpoint.to_string(),
        "EndpointSlice default/b-x7f2k: endpoints[].addresses: 127.0.0.1, 127.0.0.2, 127.0.0.3 and 6 more \
         are loopback (each node's and pod's own), so Service default/b sends nothing there; correct the \
         slice, or allow such endpoints"
    );
    let external = Issue::ExternalIpRefused { service, addresses: vec![[192, 0, 2, 1].into()] };
    assert_eq!(
        external.to_string(),
        "Service default/b: spec.externalIPs: 192.0.2.1 is not within the CIDRs allowed for external IPs, so \
         not served; remove it, use a LoadBalancer Service, or allow its CIDR"
    );
    assert_eq!(external.reason(), "ExternalIPRefused");
}

#[test]
fn addresses_that_no_endpoint_has() {
    use SpecialAddress::*;
    for (address, expected) in [
        ("0.0.0.0", Some(Unspecified)),
        ("127.8.0.1", Some(Loopback)),
        ("169.254.169.254", Some(LinkLocal)),
        ("224.0.0.1", Some(Multicast)),
        ("255.255.255.255", Some(Multicast)),
        ("10.244.0.1", None),
        ("192.168.0.255", None),
        ("::", Some(Unspecified)),
        ("::1", Some(Loopback)),
        ("fe80::1", Some(LinkLocal)),
        ("ff02::1", Some(Multicast)),
        ("::ffff:127.0.0.1", Some(MappedIpv4)),
        ("::ffff:10.244.0.1", Some(MappedIpv4)),
        ("fd00::1", None),
        ("2001:db8::1", None),
    ] {
        assert_eq!(SpecialAddress::of(&address.parse().expect("an address")), expected, "{address}");
    }
}
