//! Queries in, answers out: no socket.

mod common;

use common::{query, text, zone};
use daymark_dns::answer::{Reply, Settings, answer};
use daymark_dns::query::{Malformed, Query, Transport};
use daymark_plan::Zone;
use domain::base::iana::{Opcode, OptRcode, Rcode};
use domain::base::{Header, Message, Rtype};
use proptest::prelude::*;

const SETTINGS: Settings = Settings { ttl: 5, recursion_available: true };

fn reply(zone: &Zone, bytes: &[u8], transport: Transport) -> Vec<u8> {
    let query = Query::parse(bytes, transport).expect("a query");
    match answer(zone, &query, &SETTINGS) {
        Reply::Message(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

fn ask(name: &str, rtype: Rtype) -> String {
    text(&reply(&zone(3), &query(0, name, rtype, 1232), Transport::Udp))
}

fn is_forwarded(name: &str, rtype: Rtype) -> bool {
    let query = Query::parse(&query(0, name, rtype, 0), Transport::Udp).expect("a query");
    matches!(answer(&zone(3), &query, &SETTINGS), Reply::Forward)
}

#[test]
fn an_address_in_the_case_of_the_query() {
    assert_eq!(
        ask("Web.SHOP.svc.Cluster.local", Rtype::A),
        "NOERROR aa rd ra\nWeb.SHOP.svc.Cluster.local 5 A 10.96.0.7"
    );
}

#[test]
fn a_missing_type_is_no_data_and_a_missing_name_is_no_domain_neither_to_be_remembered() {
    let soa = "\nauthority cluster.local 0 SOA kube-dns.kube-system.svc.cluster.local. \
               hostmaster.cluster.local. ";
    let no_data = ask("web.shop.svc.cluster.local", Rtype::AAAA);
    assert!(no_data.starts_with(&format!("NOERROR aa rd ra{soa}")), "{no_data}");
    let no_domain = ask("nosuch.shop.svc.cluster.local", Rtype::A);
    assert!(no_domain.starts_with(&format!("NXDOMAIN aa rd ra{soa}")), "{no_domain}");
    assert!(no_domain.ends_with(" 7200 1800 86400 0"), "{no_domain}");
}

#[test]
fn endpoints_of_a_headless_service_take_turns_in_front() {
    let first = |id| {
        let answer =
            text(&reply(&zone(3), &query(id, "db.shop.svc.cluster.local", Rtype::A, 0), Transport::Udp));
        answer.lines().nth(1).expect("an answer").to_owned()
    };
    let firsts: std::collections::BTreeSet<String> = (0..3).map(first).collect();
    assert_eq!(firsts.len(), 3);
}

#[test]
fn srv_brings_the_addresses_of_its_targets() {
    let answer = ask("_http._tcp.db.shop.svc.cluster.local", Rtype::SRV);
    assert_eq!(answer.lines().filter(|line| line.contains(" 5 SRV 0 100 8080 ")).count(), 3, "{answer}");
    assert!(answer.contains("\nadditional db-0.db.shop.svc.cluster.local 5 A 10.244.0.0"), "{answer}");
    assert_eq!(
        ask("_nosuch._tcp.db.shop.svc.cluster.local", Rtype::SRV).lines().next(),
        Some("NXDOMAIN aa rd ra")
    );
}

#[test]
fn pointers() {
    assert_eq!(
        ask("7.0.96.10.in-addr.arpa", Rtype::PTR),
        "NOERROR aa rd ra\n7.0.96.10.in-addr.arpa 5 PTR web.shop.svc.cluster.local."
    );
    assert!(is_forwarded("8.0.96.10.in-addr.arpa", Rtype::PTR));
    assert!(is_forwarded("0.96.10.in-addr.arpa", Rtype::PTR));
    let v6 = "7.".repeat(32) + "ip6.arpa";
    assert!(is_forwarded(&v6, Rtype::PTR));
}

#[test]
fn aliases() {
    assert_eq!(
        ask("near.shop.svc.cluster.local", Rtype::A),
        "NOERROR aa rd ra\nnear.shop.svc.cluster.local 5 CNAME web.shop.svc.cluster.local.\n\
         web.shop.svc.cluster.local 5 A 10.96.0.7"
    );
    assert!(ask("lost.shop.svc.cluster.local", Rtype::A).starts_with("NXDOMAIN aa rd ra\nlost."));
    assert!(ask("loop.shop.svc.cluster.local", Rtype::A).starts_with("SERVFAIL"));
    assert_eq!(
        ask("away.shop.svc.cluster.local", Rtype::CNAME),
        "NOERROR aa rd ra\naway.shop.svc.cluster.local 5 CNAME www.Example.com."
    );
    let bytes = query(0, "away.shop.svc.cluster.local", Rtype::A, 0);
    let query = Query::parse(&bytes, Transport::Udp).expect("a query");
    let Reply::Chase(chase) = answer(&zone(0), &query, &SETTINGS) else { panic!("not chased") };
    assert_eq!(chase.target, "www.Example.com");
    let alias = "away.shop.svc.cluster.local 5 CNAME www.Example.com.";
    assert_eq!(text(&chase.finish(&query, &SETTINGS, None)), format!("SERVFAIL rd ra\n{alias}"));
}

#[test]
fn the_zone_itself() {
    assert!(ask("cluster.local", Rtype::SOA).contains("\ncluster.local 5 SOA "));
    assert!(
        ask("cluster.local", Rtype::NS)
            .contains("\ncluster.local 5 NS kube-dns.kube-system.svc.cluster.local.")
    );
    assert!(
        ask("dns-version.cluster.local", Rtype::TXT).contains("\ndns-version.cluster.local 5 TXT \"1.1.0\"")
    );
    assert!(ask("cluster.local", Rtype::ANY).lines().count() >= 3);
    assert!(ask("cluster.local", Rtype::AXFR).starts_with("REFUSED"));
    assert!(
        is_forwarded("example.com", Rtype::A)
            && is_forwarded("local", Rtype::A)
            && is_forwarded(".", Rtype::NS)
    );
}

#[test]
fn before_the_cluster_is_known_nothing_is_denied() {
    let zone = Zone::unsynced("cluster.local");
    let bytes = query(0, "web.shop.svc.cluster.local", Rtype::A, 0);
    assert!(text(&reply(&zone, &bytes, Transport::Udp)).starts_with("SERVFAIL"));
}

#[test]
fn large_answers_are_cut_by_udp_and_say_so_and_whole_by_tcp() {
    let zone = zone(600);
    let name = "db.shop.svc.cluster.local";
    let count = |bytes: &[u8]| Message::from_octets(bytes).expect("a message").header_counts().ancount();
    for (udp_size, limit) in [(0, 512), (512, 512), (1000, 1000), (4096, 1232)] {
        let cut = reply(&zone, &query(0, name, Rtype::A, udp_size), Transport::Udp);
        assert!(cut.len() <= limit, "{} bytes of {limit}", cut.len());
        assert!(cut.len() + 16 + 11 > limit, "as much as fits");
        assert!(Header::for_message_slice(&cut).tc());
        assert!(count(&cut) > 20);
    }
    let whole = reply(&zone, &query(0, name, Rtype::A, 0), Transport::Tcp);
    assert!(!Header::for_message_slice(&whole).tc());
    assert_eq!(count(&whole), 600);
    let srv = query(0, "_http._tcp.db.shop.svc.cluster.local", Rtype::SRV, 0);
    assert_eq!(count(&reply(&zone, &srv, Transport::Tcp)), 600);
}

#[test]
fn edns_is_answered_in_kind() {
    let opt = |bytes: &[u8]| {
        Message::from_octets(bytes).expect("a message").opt().map(|opt| opt.udp_payload_size())
    };
    let name = "web.shop.svc.cluster.local";
    assert_eq!(opt(&reply(&zone(0), &query(0, name, Rtype::A, 4096), Transport::Udp)), Some(1232));
    assert_eq!(opt(&reply(&zone(0), &query(0, name, Rtype::A, 0), Transport::Udp)), None);
    let mut newer = query(0, name, Rtype::A, 4096);
    let version = newer.len() - 5;
    newer[version] = 1;
    let answer = reply(&zone(0), &newer, Transport::Udp);
    let message = Message::from_octets(&answer[..]).expect("a message");
    assert_eq!(message.opt_rcode(), OptRcode::BADVERS);
}

#[test]
fn malformed_queries() {
    let refused = |bytes: &[u8]| match Query::parse(bytes, Transport::Udp) {
        Err(Malformed::Refuse(_, rcode)) => Some(rcode),
        Err(Malformed::Unanswerable) => None,
        Ok(query) => panic!("{query:?}"),
    };
    let whole = query(7, "web.shop.svc.cluster.local", Rtype::A, 1232);
    for length in 0..12 {
        assert_eq!(refused(&whole[..length]), None, "no header to answer to");
    }
    for length in 12..whole.len() {
        assert_eq!(refused(&whole[..length]), Some(Rcode::FORMERR), "{length} bytes");
    }
    let mut answer = whole.clone();
    answer[2] |= 0x80;
    assert_eq!(refused(&answer), None, "answers are never answered");
    let mut update = whole.clone();
    Header::for_message_slice_mut(&mut update).set_opcode(Opcode::UPDATE);
    assert_eq!(refused(&update), Some(Rcode::NOTIMP));
    let mut two_questions = whole.clone();
    two_questions[5] = 2;
    assert_eq!(refused(&two_questions), Some(Rcode::FORMERR));
    let mut looping = query(7, "a.b", Rtype::A, 0);
    looping[12] = 0xc0;
    looping[13] = 12;
    assert_eq!(refused(&looping), Some(Rcode::FORMERR));
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let mutated = (any::<prop::sample::Index>(), any::<u8>(), 0_usize..4).prop_map(|(index, byte, name)| {
        let names = [
            "web.shop.svc.cluster.local",
            "7.0.96.10.in-addr.arpa",
            "_http._tcp.db.shop.svc.cluster.local",
            ".",
        ];
        let mut bytes = query(1, names[name], Rtype::ANY, 1232);
        let at = index.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..600), mutated]
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_every_answer_is_well_formed(bytes in any_message()) {
        for transport in [Transport::Udp, Transport::Tcp] {
            let Ok(query) = Query::parse(&bytes, transport) else { continue };
            let answered = match answer(&zone(3), &query, &SETTINGS) {
                Reply::Message(answered) => answered,
                Reply::Chase(chase) => chase.finish(&query, &SETTINGS, Some(&bytes)),
                Reply::Forward => continue,
            };
            prop_assert!(answered.len() <= query.limit());
            text(&answered);
            prop_assert_eq!(&answered[..2], &bytes[..2]);
        }
    }
}
