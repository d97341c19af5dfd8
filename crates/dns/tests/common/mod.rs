//! Zones, queries and readable answers for tests.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fmt::Write as _;
use std::sync::Arc;

use daymark_model::{
    AddressFamily, Change, Endpoint, ObjectName, Protocol, Service, ServicePort, ServiceType, Slice,
    SlicePort, World,
};
use daymark_plan::{Zone, ZoneBuilder};
use domain::base::iana::Class;
use domain::base::name::ParsedName;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::AllRecordData;

pub fn service(name: &str, ip: Option<[u8; 4]>, external: Option<&str>) -> Service {
    Service {
        service_type: external
            .map_or(ServiceType::ClusterIp, |target| ServiceType::ExternalName(target.into())),
        headless: ip.is_none() && external.is_none(),
        cluster_ips: ip.into_iter().map(Into::into).collect(),
        ports: vec![ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None }],
        ..Service::new(ObjectName::new("shop", name))
    }
}

/// `web` at 10.96.0.7; headless `db` with as many endpoints as asked for, the first called `db-0`; aliases
/// `away` (example.com), `near` (web), `loop`.
pub fn zone(endpoints: u16) -> Arc<Zone> {
    let endpoint = |index: u16| Endpoint {
        hostname: (index == 0).then(|| "db-0".into()),
        ..Endpoint::ready([10, 244, (index >> 8) as u8, index as u8].into())
    };
    let changes = [
        Change::Service(service("web", Some([10, 96, 0, 7]), None)),
        Change::Service(service("db", None, None)),
        Change::Service(service("away", None, Some("www.Example.com"))),
        Change::Service(service("near", None, Some("web.shop.svc.cluster.local"))),
        Change::Service(service("lost", None, Some("nosuch.shop.svc.cluster.local"))),
        Change::Service(service("loop", None, Some("loop.shop.svc.cluster.local"))),
        Change::Slice(Slice {
            name: ObjectName::new("shop", "db-1"),
            service: "db".into(),
            family: AddressFamily::Ipv4,
            ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }],
            endpoints: (0..endpoints).map(endpoint).collect(),
        }),
    ];
    let mut world = World::new();
    let mut builder = ZoneBuilder::new("cluster.local");
    for change in changes {
        let touched = world.apply(change);
        builder.update(&world, &touched);
    }
    builder.synced();
    builder.snapshot()
}

/// A query with recursion desired, and EDNS of this size unless 0.
pub fn query(id: u16, name: &str, rtype: Rtype, udp_size: u16) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    let name: Name<Vec<u8>> = name.parse().expect("a name");
    question.push((name, rtype, Class::IN)).expect("room");
    let mut additional = question.additional();
    if udp_size > 0 {
        let sized = additional.opt(|opt| {
            opt.set_udp_payload_size(udp_size);
            Ok(())
        });
        sized.expect("room");
    }
    additional.finish()
}

/// `RCODE flags`, then a line for each record, sections told apart.
pub fn text(bytes: &[u8]) -> String {
    let message = Message::from_octets(bytes).expect("a message");
    let header = message.header();
    let mut text = header.rcode().to_string();
    for (set, name) in [(header.aa(), "aa"), (header.tc(), "tc"), (header.rd(), "rd"), (header.ra(), "ra")] {
        if set {
            write!(text, " {name}").expect("String");
        }
    }
    let sections = [
        ("", message.answer().expect("well-formed")),
        ("authority ", message.authority().expect("well-formed")),
        ("additional ", message.additional().expect("well-formed")),
    ];
    for (title, section) in sections {
        for record in section {
            let record = record.expect("well-formed");
            let record = record.into_any_record::<AllRecordData<_, ParsedName<_>>>().expect("well-formed");
            if record.rtype() == Rtype::OPT {
                continue;
            }
            let (owner, ttl) = (record.owner(), record.ttl().as_secs());
            write!(text, "\n{title}{owner} {ttl} {} {}", record.rtype(), record.data()).expect("String");
        }
    }
    text
}
