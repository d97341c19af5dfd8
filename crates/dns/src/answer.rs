//! Decides what a query is answered from the zone: a pure function of both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use daymark_plan::Zone;
use daymark_plan::zone::{RecordData, Resolved};
use domain::base::iana::{Class, Rcode};
use domain::base::{Message, Rtype};

use crate::query::Query;
use crate::reply::{Content, Owner, compose};

const MAX_ALIASES: usize = 8;

/// What answers depend on beside the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Seconds, of the records of the cluster.
    pub ttl: u32,
    /// Whether names outside of the cluster can be looked up.
    pub recursion_available: bool,
}

/// How a query is to be answered.
#[derive(Debug)]
pub enum Reply {
    Message(Vec<u8>),
    /// The name is not the cluster's.
    Forward,
    /// An ExternalName leads out of the cluster: look the target up and [`Chase::finish`].
    Chase(Chase),
}

/// A chain of aliases that leads out of the cluster.
#[derive(Debug)]
pub struct Chase {
    aliases: Vec<(Owner, RecordData)>,
    pub target: String,
}

impl Chase {
    /// The answer with what upstream said of the target. Without upstreams, the alias alone; `None` if they
    /// did not answer.
    pub fn finish(self, query: &Query, settings: &Settings, upstream: Option<&[u8]>) -> Vec<u8> {
        let upstream = upstream.and_then(|bytes| Message::from_octets(bytes).ok());
        let rcode = match &upstream {
            Some(upstream) => upstream.header().rcode(),
            None if settings.recursion_available => Rcode::SERVFAIL,
            None => Rcode::NOERROR,
        };
        compose(query, &Content { answers: self.aliases, upstream, ..content(settings, rcode) })
    }
}

/// Answers `query` from `zone`.
pub fn answer(zone: &Zone, query: &Query, settings: &Settings) -> Reply {
    if query.edns.is_some_and(|edns| edns.version > 0) {
        return Reply::Message(compose(query, &Content::empty(Rcode::NOERROR)));
    }
    let transfer = query.rtype == Rtype::AXFR || query.rtype == Rtype::IXFR;
    if transfer || !(query.class == Class::IN || query.class == Class::ANY) {
        return Reply::Message(compose(query, &content(settings, Rcode::REFUSED)));
    }
    let labels: Vec<&str> = query.labels.iter().map(String::as_str).collect();
    if let Some(relative) = zone.relative(&labels) {
        if !zone.is_synced() {
            return Reply::Message(compose(query, &Content::empty(Rcode::SERVFAIL)));
        }
        return answer_from(zone, query, settings, relative);
    }
    match reversed(&labels).and_then(|ip| zone.reverse(ip)) {
        Some(names) => {
            let names = names.into_iter().filter(|data| matches(query.rtype, data));
            let answers = names.map(|data| (Owner::Asked, data)).collect();
            Reply::Message(compose(query, &Content { answers, ..own(settings, Rcode::NOERROR) }))
        }
        None => Reply::Forward,
    }
}

fn answer_from(zone: &Zone, query: &Query, settings: &Settings, relative: &[&str]) -> Reply {
    let mut aliases: Vec<(Owner, RecordData)> = Vec::new();
    let mut owner = Owner::Asked;
    let mut resolved = zone.resolve(relative);
    loop {
        let records = match resolved {
            Resolved::NoSuchName => Vec::new(),
            Resolved::Name(ref records) => records.clone(),
        };
        let Some(target) =
            alias(&records).filter(|_| !matches(query.rtype, &RecordData::Cname(String::new())))
        else {
            break;
        };
        aliases.push((owner, RecordData::Cname(target.clone())));
        if aliases.len() > MAX_ALIASES {
            return Reply::Message(compose(query, &content(settings, Rcode::SERVFAIL)));
        }
        let lower = target.to_ascii_lowercase();
        let labels: Vec<&str> = lower.split('.').collect();
        match zone.relative(&labels) {
            Some(relative) => resolved = zone.resolve(relative),
            None => return Reply::Chase(Chase { aliases, target }),
        }
        owner = Owner::Name(target);
    }
    Reply::Message(compose(query, &finished(zone, query, settings, aliases, owner, resolved)))
}

/// The answer once no alias is left to follow: records of the asked type at `owner`, or their denial.
fn finished(
    zone: &Zone,
    query: &Query,
    settings: &Settings,
    aliases: Vec<(Owner, RecordData)>,
    owner: Owner,
    resolved: Resolved,
) -> Content<'static> {
    let (rcode, records) = match resolved {
        Resolved::NoSuchName => (Rcode::NXDOMAIN, Vec::new()),
        Resolved::Name(records) => (Rcode::NOERROR, records),
    };
    let mut found: Vec<RecordData> = records.into_iter().filter(|data| matches(query.rtype, data)).collect();
    // Clients take the first; whose query is whose spreads them over all, without a state kept here.
    if !found.is_empty() {
        let first = usize::from(query.header.id()) % found.len();
        found.rotate_left(first);
    }
    let denial = found.is_empty().then(|| (zone.domain().to_owned(), zone.soa()));
    let additional = found.iter().flat_map(|data| target_addresses(zone, data)).collect();
    let answers = aliases.into_iter().chain(found.into_iter().map(|data| (owner.clone(), data))).collect();
    Content { answers, denial, additional, ..own(settings, rcode) }
}

fn content(settings: &Settings, rcode: Rcode) -> Content<'static> {
    let &Settings { ttl, recursion_available } = settings;
    Content { ttl, recursion_available, ..Content::empty(rcode) }
}

fn own(settings: &Settings, rcode: Rcode) -> Content<'static> {
    Content { authoritative: true, ..content(settings, rcode) }
}

fn alias(records: &[RecordData]) -> Option<String> {
    records.iter().find_map(|data| match data {
        RecordData::Cname(target) => Some(target.clone()),
        _ => None,
    })
}

fn matches(asked: Rtype, data: &RecordData) -> bool {
    let is = match data {
        RecordData::A(_) => Rtype::A,
        RecordData::Aaaa(_) => Rtype::AAAA,
        RecordData::Cname(_) => Rtype::CNAME,
        RecordData::Srv { .. } => Rtype::SRV,
        RecordData::Ptr(_) => Rtype::PTR,
        RecordData::Txt(_) => Rtype::TXT,
        RecordData::Ns(_) => Rtype::NS,
        RecordData::Soa(_) => Rtype::SOA,
    };
    asked == Rtype::ANY || asked == is
}

/// The addresses of an SRV record's target.
fn target_addresses(zone: &Zone, data: &RecordData) -> Vec<(String, RecordData)> {
    let RecordData::Srv { target, .. } = data else { return Vec::new() };
    let labels: Vec<&str> = target.split('.').collect();
    match zone.relative(&labels).map(|relative| zone.resolve(relative)) {
        Some(Resolved::Name(records)) => records
            .into_iter()
            .filter(|data| matches!(data, RecordData::A(_) | RecordData::Aaaa(_)))
            .map(|data| (target.clone(), data))
            .collect(),
        _ => Vec::new(),
    }
}

/// The address that a name in `in-addr.arpa` or `ip6.arpa` stands for.
fn reversed(labels: &[&str]) -> Option<IpAddr> {
    match labels {
        [d, c, b, a, "in-addr", "arpa"] => {
            format!("{a}.{b}.{c}.{d}").parse::<Ipv4Addr>().ok().map(IpAddr::V4)
        }
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let digit = |label: &&str| match label.len() {
                1 => label.chars().next().and_then(|digit| digit.to_digit(16)),
                _ => None,
            };
            let bits = nibbles
                .iter()
                .rev()
                .try_fold(0_u128, |bits, label| Some(bits << 4 | u128::from(digit(label)?)));
            bits.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
        _ => None,
    }
}
