//! Objects in, names out; NXDOMAIN and NODATA told apart.

use daymark_model::{
    AddressFamily, Change, Endpoint, ObjectName, ServicePort, ServiceType, Slice, SlicePort, World,
};
use daymark_model::{Service, Touched};

use super::*;

fn service(name: &str, ips: &[&str]) -> Service {
    Service {
        headless: ips.is_empty(),
        cluster_ips: ips.iter().map(|ip| ip.parse().expect("IP")).collect(),
        ports: vec![
            ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None },
            ServicePort { name: "".into(), protocol: Protocol::Udp, port: 53, node_port: None },
        ],
        ..Service::new(ObjectName::new("shop", name))
    }
}

fn endpoint(ip: &str, hostname: Option<&str>, ready: bool) -> Endpoint {
    Endpoint {
        ready,
        serving: ready,
        hostname: hostname.map(Into::into),
        ..Endpoint::ready(ip.parse().expect("IP"))
    }
}

fn slice(name: &str, service: &str, endpoints: Vec<Endpoint>) -> Change {
    let family =
        endpoints.first().map_or(AddressFamily::Ipv4, |endpoint| AddressFamily::of(&endpoint.address));
    Change::Slice(Slice {
        name: ObjectName::new("shop", name),
        service: service.into(),
        family,
        ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints,
    })
}

/// A zone that is kept up to date with a world.
struct Kept {
    world: World,
    builder: ZoneBuilder,
}

impl Kept {
    fn new(changes: Vec<Change>) -> Self {
        let mut kept = Self { world: World::new(), builder: ZoneBuilder::new("Cluster.Local.") };
        for change in changes {
            kept.apply(change);
        }
        kept.builder.synced();
        kept
    }

    fn apply(&mut self, change: Change) -> bool {
        let touched: Touched = self.world.apply(change);
        self.builder.update(&self.world, &touched)
    }

    fn resolve(&self, name: &str) -> Resolved {
        let labels: Vec<&str> = name.split('.').collect();
        self.builder.snapshot().resolve(&labels)
    }

    fn reverse(&self, ip: &str) -> Vec<String> {
        let names = self.builder.snapshot().reverse(ip.parse().expect("IP")).unwrap_or_default();
        let text = |data| match data {
            RecordData::Ptr(name) => name,
            other => panic!("{other:?}"),
        };
        names.into_iter().map(text).collect()
    }
}

fn a(ip: [u8; 4]) -> RecordData {
    RecordData::A(ip.into())
}

fn srv_to(port: u16, target: &str) -> RecordData {
    RecordData::Srv { priority: 0, weight: 100, port, target: target.into() }
}

#[test]
fn a_cluster_ip_service() {
    let kept = Kept::new(vec![Change::Service(service("web", &["10.96.0.7", "fd00::7"]))]);
    let v6 = RecordData::Aaaa("fd00::7".parse().expect("IP"));
    assert_eq!(kept.resolve("web.shop.svc"), Resolved::Name(vec![a([10, 96, 0, 7]), v6]));
    let srv = Resolved::Name(vec![srv_to(80, "web.shop.svc.cluster.local")]);
    assert_eq!(kept.resolve("_http._tcp.web.shop.svc"), srv);
    assert_eq!(kept.resolve("_http._udp.web.shop.svc"), Resolved::NoSuchName);
    assert_eq!(kept.resolve("_._udp.web.shop.svc"), Resolved::NoSuchName, "unnamed ports have no SRV");
    assert_eq!(kept.resolve("http._tcp.web.shop.svc"), Resolved::NoSuchName);
    assert_eq!(kept.resolve("_tcp.web.shop.svc"), Resolved::Name(vec![]), "names below it exist");
    assert_eq!(kept.resolve("_udp.web.shop.svc"), Resolved::NoSuchName);
    assert_eq!(kept.resolve("x.web.shop.svc"), Resolved::NoSuchName);
    assert_eq!(kept.reverse("10.96.0.7"), ["web.shop.svc.cluster.local"]);
    assert_eq!(kept.reverse("fd00::7"), ["web.shop.svc.cluster.local"]);
    assert!(kept.reverse("10.96.0.8").is_empty());
}

#[test]
fn a_headless_service_names_its_ready_endpoints() {
    let kept = Kept::new(vec![
        Change::Service(service("db", &[])),
        slice(
            "db-1",
            "db",
            vec![endpoint("10.244.1.2", Some("db-0"), true), endpoint("10.244.1.3", None, true)],
        ),
        slice("db-2", "db", vec![endpoint("10.244.1.4", Some("db-2"), false)]),
        slice("db-3", "db", vec![endpoint("fd10::2", Some("db-0"), true), endpoint("fd10::3", None, true)]),
    ]);
    let Resolved::Name(all) = kept.resolve("db.shop.svc") else { panic!("no such name") };
    assert_eq!(all.len(), 4);
    let v6 = RecordData::Aaaa("fd10::2".parse().expect("IP"));
    assert_eq!(kept.resolve("db-0.db.shop.svc"), Resolved::Name(vec![a([10, 244, 1, 2]), v6]));
    assert_eq!(kept.resolve("10-244-1-3.db.shop.svc"), Resolved::Name(vec![a([10, 244, 1, 3])]));
    assert_eq!(kept.resolve("10-244-1-2.db.shop.svc"), Resolved::NoSuchName, "it has a host name");
    assert_eq!(kept.resolve("db-2.db.shop.svc"), Resolved::NoSuchName, "it is not ready");
    let Resolved::Name(srv) = kept.resolve("_http._tcp.db.shop.svc") else { panic!("no SRV") };
    let targets =
        ["10-244-1-3", "db-0", "fd10--3"].map(|h| srv_to(8080, &format!("{h}.db.shop.svc.cluster.local")));
    assert_eq!(srv, targets);
    assert_eq!(kept.reverse("10.244.1.2"), ["db-0.db.shop.svc.cluster.local"]);
    assert_eq!(kept.reverse("fd10::3"), ["fd10--3.db.shop.svc.cluster.local"]);
}

#[test]
fn a_headless_service_without_ready_endpoints_has_no_name() {
    let unready = slice("db-1", "db", vec![endpoint("10.244.1.2", None, false)]);
    let mut kept = Kept::new(vec![Change::Service(service("db", &[])), unready]);
    assert_eq!(kept.resolve("db.shop.svc"), Resolved::NoSuchName);
    let mut published = service("db", &[]);
    published.publish_not_ready = true;
    kept.apply(Change::Service(published));
    assert_eq!(kept.resolve("db.shop.svc"), Resolved::Name(vec![a([10, 244, 1, 2])]));
}

#[test]
fn external_name() {
    let mut external = service("db", &[]);
    external.headless = false;
    external.service_type = ServiceType::ExternalName("DB.example.com.".into());
    let kept = Kept::new(vec![Change::Service(external)]);
    let cname = Resolved::Name(vec![RecordData::Cname("DB.example.com".into())]);
    assert_eq!(kept.resolve("db.shop.svc"), cname);
    assert_eq!(kept.resolve("_http._tcp.db.shop.svc"), Resolved::NoSuchName);
}

#[test]
fn names_in_between_exist_without_records() {
    let mut kept = Kept::new(vec![Change::Service(service("web", &["10.96.0.7"]))]);
    for name in ["svc", "shop.svc", "pod", "shop.pod"] {
        assert_eq!(kept.resolve(name), Resolved::Name(vec![]), "{name}");
    }
    for name in ["other.svc", "web.other.svc", "nosuch.shop.svc", "foo", "web.shop"] {
        assert_eq!(kept.resolve(name), Resolved::NoSuchName, "{name}");
    }
    kept.apply(Change::ServiceGone(ObjectName::new("shop", "web")));
    assert_eq!(kept.resolve("shop.svc"), Resolved::NoSuchName);
}

#[test]
fn the_zone_itself() {
    let kept = Kept::new(vec![]);
    let zone = kept.builder.snapshot();
    let Resolved::Name(apex) = zone.resolve(&[]) else { panic!("no apex") };
    assert!(matches!(&apex[..], [RecordData::Soa(_), RecordData::Ns(_)]), "{apex:?}");
    assert_eq!(kept.resolve("dns-version"), Resolved::Name(vec![RecordData::Txt("1.1.0".into())]));
    assert_eq!(zone.domain(), "cluster.local");
    let labels = ["web", "shop", "svc", "cluster", "local"];
    assert_eq!(zone.relative(&labels), Some(&labels[..3]));
    assert_eq!(zone.relative(&labels[3..]), Some(&labels[..0]));
    assert_eq!(zone.relative(&labels[4..]), None);
    assert_eq!(zone.relative(&["web", "example", "com"]), None);
}

#[test]
fn pods() {
    let kept = Kept::new(vec![]);
    assert_eq!(kept.resolve("1-2-3-4.any.pod"), Resolved::Name(vec![a([1, 2, 3, 4])]));
    let v6 = RecordData::Aaaa("fd10::2".parse().expect("IP"));
    assert_eq!(kept.resolve("fd10--2.any.pod"), Resolved::Name(vec![v6]));
    for name in ["1-2-3.any.pod", "1-2-3-400.any.pod", "web.any.pod", "x.1-2-3-4.any.pod", "1.2.3.4.any.pod"]
    {
        assert_eq!(kept.resolve(name), Resolved::NoSuchName, "{name}");
    }
}

#[test]
fn a_snapshot_does_not_change_and_the_next_one_has_another_serial() {
    let mut kept = Kept::new(vec![Change::Service(service("web", &["10.96.0.7"]))]);
    let before = kept.builder.snapshot();
    assert!(kept.apply(Change::Service(service("web", &["10.96.0.8"]))));
    let after = kept.builder.snapshot();
    assert_eq!(before.resolve(&["web", "shop", "svc"]), Resolved::Name(vec![a([10, 96, 0, 7])]));
    assert_eq!(after.resolve(&["web", "shop", "svc"]), Resolved::Name(vec![a([10, 96, 0, 8])]));
    assert_ne!(before.soa().serial, after.soa().serial);
    assert!(
        before.reverse([10, 96, 0, 7].into()).is_some() && after.reverse([10, 96, 0, 7].into()).is_none()
    );
}

#[test]
fn what_does_not_bear_on_names_changes_nothing() {
    let mut kept = Kept::new(vec![Change::Service(service("web", &["10.96.0.7"]))]);
    assert!(!kept.apply(slice("web-1", "web", vec![endpoint("10.244.1.2", None, true)])));
    let mut affine = service("web", &["10.96.0.7"]);
    affine.affinity_seconds = Some(5);
    assert!(!kept.apply(Change::Service(affine)));
}

#[test]
fn one_address_of_two_services_has_both_names_until_one_goes() {
    let mut kept = Kept::new(vec![
        Change::Service(service("a", &[])),
        Change::Service(service("b", &[])),
        slice("a-1", "a", vec![endpoint("10.244.1.2", Some("x"), true)]),
        slice("b-1", "b", vec![endpoint("10.244.1.2", Some("x"), true)]),
    ]);
    assert_eq!(kept.reverse("10.244.1.2"), ["x.a.shop.svc.cluster.local", "x.b.shop.svc.cluster.local"]);
    kept.apply(Change::ServiceGone(ObjectName::new("shop", "a")));
    assert_eq!(kept.reverse("10.244.1.2"), ["x.b.shop.svc.cluster.local"]);
}
