//! Composes answers in wire format.

use std::str::FromStr;

use daymark_plan::zone::{RecordData, Soa};
use domain::base::iana::{Class, OptRcode, Rcode};
use domain::base::message_builder::{AdditionalBuilder, AnswerBuilder, StaticCompressor};
use domain::base::name::ParsedName;
use domain::base::{Header, Message, MessageBuilder, Name, Serial, Ttl};
use domain::rdata::{A, Aaaa, AllRecordData, Cname, Ns, Ptr, Srv, Txt};

use crate::query::{MAX_UDP_SIZE, Query};

const OPT_SIZE: usize = 11;

type OwnedName = Name<Vec<u8>>;
type Target = StaticCompressor<Vec<u8>>;

/// Whose record it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The name that was asked for, in the case in which it was.
    Asked,
    Name(String),
}

/// What an answer holds.
#[derive(Debug)]
pub struct Content<'a> {
    pub rcode: Rcode,
    pub authoritative: bool,
    pub recursion_available: bool,
    pub answers: Vec<(Owner, RecordData)>,
    /// Seconds, of `answers` and `additional`.
    pub ttl: u32,
    /// Of an upstream answer, to be appended to `answers`.
    pub upstream: Option<Message<&'a [u8]>>,
    /// In the authority section, and the name of its zone.
    pub denial: Option<(String, Soa)>,
    /// Left out where there is no room.
    pub additional: Vec<(String, RecordData)>,
}

impl Content<'_> {
    /// An answer without records.
    pub fn empty(rcode: Rcode) -> Self {
        Self {
            rcode,
            authoritative: false,
            recursion_available: false,
            answers: Vec::new(),
            ttl: 0,
            upstream: None,
            denial: None,
            additional: Vec::new(),
        }
    }
}

/// The answer to `query`. What does not fit is left out, and TC says so.
pub fn compose(query: &Query, content: &Content) -> Vec<u8> {
    let mut builder = new_builder();
    let reserve = if query.edns.is_some() { OPT_SIZE } else { 0 };
    builder.set_push_limit(query.limit() + 1 - reserve);
    let header = builder.header_mut();
    set_header(header, &query.header, content.rcode);
    header.set_aa(content.authoritative);
    header.set_ra(content.recursion_available);
    let mut question = builder.question();
    let mut complete = question.push((&query.name, query.rtype, query.class)).is_ok();
    let mut answers = question.answer();
    for (owner, data) in &content.answers {
        complete = complete && push(&mut answers, query, owner, content.ttl, data);
    }
    if let Some(upstream) = &content.upstream {
        complete = complete && push_upstream(&mut answers, upstream);
    }
    let mut authority = answers.authority();
    if let Some((zone, soa)) = &content.denial
        && let (Some(zone), Some(soa)) = (name(zone), soa_data(soa))
    {
        complete = complete && authority.push((zone, Ttl::ZERO, soa)).is_ok();
    }
    let mut additional = authority.additional();
    additional.header_mut().set_tc(!complete);
    if complete {
        push_additional(&mut additional, content);
    }
    additional.clear_push_limit();
    finish(additional, query, content.rcode)
}

/// The answer to what is not even a query: its header and a code.
pub fn refuse(header: &Header, rcode: Rcode) -> Vec<u8> {
    let mut builder = new_builder();
    set_header(builder.header_mut(), header, rcode);
    builder.finish().into_target()
}

/// An answer that says no more than that the whole one is too large for UDP.
pub fn truncated(query: &Query, rcode: Rcode) -> Vec<u8> {
    let mut content = Content::empty(rcode);
    content.recursion_available = true;
    let mut bytes = compose(query, &content);
    Header::for_message_slice_mut(&mut bytes).set_tc(true);
    bytes
}

fn new_builder() -> MessageBuilder<Target> {
    MessageBuilder::from_target(StaticCompressor::new(Vec::with_capacity(512)))
        .expect("a Vec grows as needed")
}

fn set_header(header: &mut Header, asked: &Header, rcode: Rcode) {
    header.set_id(asked.id());
    header.set_opcode(asked.opcode());
    header.set_qr(true);
    header.set_rd(asked.rd());
    header.set_cd(asked.cd());
    header.set_rcode(rcode);
}

fn finish(mut additional: AdditionalBuilder<Target>, query: &Query, rcode: Rcode) -> Vec<u8> {
    if let Some(edns) = query.edns {
        let added = additional.opt(|opt| {
            opt.set_udp_payload_size(MAX_UDP_SIZE);
            opt.set_dnssec_ok(edns.dnssec_ok);
            if edns.version > 0 {
                opt.set_rcode(OptRcode::BADVERS);
            } else {
                opt.set_rcode(OptRcode::from(rcode));
            }
            Ok(())
        });
        debug_assert!(added.is_ok(), "a Vec grows as needed");
    }
    additional.finish().into_target()
}

fn push(
    answers: &mut AnswerBuilder<Target>,
    query: &Query,
    owner: &Owner,
    ttl: u32,
    data: &RecordData,
) -> bool {
    let Some(data) = record_data(data) else { return true };
    let class = Class::IN;
    match owner {
        Owner::Asked => answers.push((&query.name, class, ttl, data)).is_ok(),
        Owner::Name(text) => name(text).is_none_or(|owner| answers.push((owner, class, ttl, data)).is_ok()),
    }
}

fn push_upstream(answers: &mut AnswerBuilder<Target>, upstream: &Message<&[u8]>) -> bool {
    let Ok(section) = upstream.answer() else { return true };
    for record in section.into_records::<AllRecordData<_, ParsedName<_>>>().flatten() {
        if answers.push(record).is_err() {
            return false;
        }
    }
    true
}

fn push_additional(additional: &mut AdditionalBuilder<Target>, content: &Content) {
    for (owner, data) in &content.additional {
        if let (Some(owner), Some(data)) = (name(owner), record_data(data))
            && additional.push((owner, Class::IN, content.ttl, data)).is_err()
        {
            return;
        }
    }
}

/// `None` for a text that is no domain name, e.g. an `externalName` that validation let through.
fn name(text: &str) -> Option<OwnedName> {
    OwnedName::from_str(text).ok()
}

fn record_data(data: &RecordData) -> Option<AllRecordData<Vec<u8>, OwnedName>> {
    Some(match data {
        RecordData::A(ip) => A::new(*ip).into(),
        RecordData::Aaaa(ip) => Aaaa::new(*ip).into(),
        RecordData::Cname(target) => Cname::new(name(target)?).into(),
        RecordData::Ptr(target) => Ptr::new(name(target)?).into(),
        RecordData::Ns(target) => Ns::new(name(target)?).into(),
        RecordData::Srv { priority, weight, port, target } => {
            Srv::new(*priority, *weight, *port, name(target)?).into()
        }
        RecordData::Txt(text) => Txt::<Vec<u8>>::build_from_slice(text.as_bytes()).ok()?.into(),
        RecordData::Soa(soa) => soa_data(soa)?.into(),
    })
}

fn soa_data(soa: &Soa) -> Option<domain::rdata::Soa<OwnedName>> {
    Some(domain::rdata::Soa::new(
        name(&soa.name_server)?,
        name(&soa.hostmaster)?,
        Serial(soa.serial),
        Ttl::from_secs(7200),
        Ttl::from_secs(1800),
        Ttl::from_secs(86_400),
        Ttl::ZERO,
    ))
}
