//! A DNS query as received, checked and taken apart.

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::name::ToName;
use domain::base::{Header, Message, Name, Rtype};

/// No UDP answer is larger: more would be fragmented on some paths (bytes).
pub const MAX_UDP_SIZE: u16 = 1232;
const MIN_UDP_SIZE: u16 = 512;

/// How a query came; it decides how large the answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What the OPT record of a query says (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    pub udp_size: u16,
    pub version: u8,
    pub dnssec_ok: bool,
}

/// A query with exactly one question.
#[derive(Clone, Debug)]
pub struct Query {
    pub header: Header,
    /// In the case in which it was asked.
    pub name: Name<Vec<u8>>,
    /// In lower case, from the left, without the root.
    pub labels: Vec<String>,
    pub rtype: Rtype,
    pub class: Class,
    pub edns: Option<Edns>,
    pub transport: Transport,
}

/// Why a message is no query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Too short to be answered, or itself an answer.
    Unanswerable,
    /// To be answered with this code.
    Refuse(Header, Rcode),
}

impl Query {
    /// Takes a message apart. Never panics, whatever the bytes.
    pub fn parse(bytes: &[u8], transport: Transport) -> Result<Self, Malformed> {
        let message = Message::from_octets(bytes).map_err(|_| Malformed::Unanswerable)?;
        let header = message.header();
        if header.qr() {
            return Err(Malformed::Unanswerable);
        }
        if header.opcode() != Opcode::QUERY {
            return Err(Malformed::Refuse(header, Rcode::NOTIMP));
        }
        let malformed = || Malformed::Refuse(header, Rcode::FORMERR);
        let question = message.sole_question().map_err(|_| malformed())?;
        if message.header_counts().ancount() != 0 {
            return Err(malformed());
        }
        let edns = edns(&message).map_err(|()| malformed())?;
        let name: Name<Vec<u8>> = question.qname().to_vec();
        let labels = name
            .iter()
            .filter(|label| !label.is_root())
            .map(|label| String::from_utf8_lossy(label.as_slice()).to_ascii_lowercase())
            .collect();
        Ok(Self { header, labels, rtype: question.qtype(), class: question.qclass(), name, edns, transport })
    }

    /// How large an answer may be (bytes).
    pub fn limit(&self) -> usize {
        let udp = self.edns.map_or(MIN_UDP_SIZE, |edns| edns.udp_size.clamp(MIN_UDP_SIZE, MAX_UDP_SIZE));
        match self.transport {
            Transport::Udp => usize::from(udp),
            Transport::Tcp => usize::from(u16::MAX),
        }
    }
}

/// The OPT record, of which there may be one; all other records must at least parse.
fn edns(message: &Message<&[u8]>) -> Result<Option<Edns>, ()> {
    let mut found = None;
    let sections = [message.authority().map_err(drop)?, message.additional().map_err(drop)?];
    for record in sections.into_iter().flatten() {
        let record = record.map_err(drop)?;
        if record.rtype() == Rtype::OPT && found.replace(record).is_some() {
            return Err(());
        }
    }
    match (found, message.opt()) {
        (None, _) => Ok(None),
        (Some(_), None) => Err(()),
        (Some(_), Some(opt)) => Ok(Some(Edns {
            udp_size: opt.udp_payload_size(),
            version: opt.version(),
            dnssec_ok: opt.dnssec_ok(),
        })),
    }
}
