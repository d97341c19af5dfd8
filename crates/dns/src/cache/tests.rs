//! The cache over simulated time.

use domain::base::iana::Class;
use domain::base::{MessageBuilder, Name, Serial, Ttl};
use domain::rdata::{A, Soa};

use super::*;
use crate::query::Transport;

type OwnedName = Name<Vec<u8>>;

fn name(text: &str) -> OwnedName {
    text.parse().expect("a name")
}

fn query(id: u16, text: &str) -> Query {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    let mut question = builder.question();
    question.push((name(text), Rtype::A, Class::IN)).expect("room");
    Query::parse(&question.finish(), Transport::Udp).expect("a query")
}

fn upstream(query: &Query, rcode: Rcode, address_ttl: Option<u32>, minimum: Option<u32>) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_qr(true);
    builder.header_mut().set_rcode(rcode);
    let mut question = builder.question();
    question.push((&query.name, query.rtype, query.class)).expect("room");
    let mut answer = question.answer();
    if let Some(ttl) = address_ttl {
        answer.push((&query.name, ttl, A::from_octets(192, 0, 2, 1))).expect("room");
        answer.push((&query.name, ttl + 100, A::from_octets(192, 0, 2, 2))).expect("room");
    }
    let mut authority = answer.authority();
    if let Some(minimum) = minimum {
        let (ttl, long) = (Ttl::from_secs(minimum), Ttl::from_secs(9999));
        let soa =
            Soa::new(name("ns.example.com"), name("root.example.com"), Serial(1), long, long, long, ttl);
        authority.push((name("example.com"), long, soa)).expect("room");
    }
    authority.finish()
}

fn kept_seconds(rcode: Rcode, address_ttl: Option<u32>, minimum: Option<u32>) -> u64 {
    let (mut cache, asked, start) = (Cache::new(8), query(1, "www.example.com"), Instant::now());
    cache.put(&asked, &upstream(&asked, rcode, address_ttl, minimum), start);
    (0..1000)
        .find(|second| cache.get(&asked, start + Duration::from_secs(*second)).is_none())
        .expect("an end")
}

#[test]
fn answers_live_as_long_as_their_shortest_ttl_within_bounds() {
    assert_eq!(kept_seconds(Rcode::NOERROR, Some(7), None), 7);
    assert_eq!(kept_seconds(Rcode::NOERROR, Some(100_000), None), u64::from(MAX_TTL));
    assert_eq!(kept_seconds(Rcode::NOERROR, Some(0), None), 0);
    assert_eq!(kept_seconds(Rcode::SERVFAIL, Some(7), None), 0);
}

#[test]
fn denials_live_as_long_as_the_soa_says() {
    assert_eq!(kept_seconds(Rcode::NXDOMAIN, None, Some(9)), 9);
    assert_eq!(kept_seconds(Rcode::NOERROR, None, Some(9)), 9);
    assert_eq!(kept_seconds(Rcode::NXDOMAIN, None, Some(9999)), u64::from(MAX_DENIAL_TTL));
    assert_eq!(kept_seconds(Rcode::NXDOMAIN, None, None), 0);
}

#[test]
fn a_hit_has_the_id_the_case_and_what_is_left_of_the_ttls() {
    let (mut cache, start) = (Cache::new(8), Instant::now());
    let first = query(1, "www.example.com");
    cache.put(&first, &upstream(&first, Rcode::NOERROR, Some(7), None), start);
    let second = query(0x0203, "WWW.Example.com");
    let hit = cache.get(&second, start + Duration::from_secs(3)).expect("a hit");
    assert_eq!(hit[..2], [2, 3]);
    assert_eq!(&hit[12..29], b"\x03WWW\x07Example\x03com\0");
    let layout = wire::layout(&hit).expect("well-formed");
    assert_eq!(layout.answer_ttl, Some(4));
    assert_eq!(cache.get(&query(1, "ww.example.com"), start), None);
}

#[test]
fn the_oldest_goes_first() {
    let (mut cache, start) = (Cache::new(2), Instant::now());
    let queries = ["a.example.com", "b.example.com", "c.example.com"].map(|name| query(1, name));
    for asked in &queries {
        cache.put(asked, &upstream(asked, Rcode::NOERROR, Some(7), None), start);
        cache.put(asked, &upstream(asked, Rcode::NOERROR, Some(7), None), start);
    }
    let hits = queries.map(|asked| cache.get(&asked, start).is_some());
    assert_eq!(hits, [false, true, true]);
}

#[test]
fn cut_answers_are_neither_kept_nor_a_danger() {
    let asked = query(1, "www.example.com");
    let whole = upstream(&asked, Rcode::NOERROR, Some(7), Some(9));
    let mut cache = Cache::new(8);
    for length in 0..whole.len() {
        cache.put(&asked, &whole[..length], Instant::now());
        assert_eq!(cache.get(&asked, Instant::now()), None, "{length} bytes");
    }
    let mut truncated = whole;
    Header::for_message_slice_mut(&mut truncated).set_tc(true);
    cache.put(&asked, &truncated, Instant::now());
    assert_eq!(cache.get(&asked, Instant::now()), None);
}
