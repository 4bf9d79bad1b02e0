//! From a message to its answer, as far as the zone alone decides: a plain function, the same for every transport.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as WireName, RecordType as WireType};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;
use minisvc_zone::{Answer, Code, Name, Outcome, Record, RecordType, Zone};
use rand::seq::SliceRandom as _;

use crate::message::{self, Read, Reply};
use crate::wire::Writer;

/// Bytes of the smallest record, an A with a compressed owner: what has no chance to fit need not be made.
const SMALLEST_RECORD: usize = 16;

/// Who asks where that makes no difference.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What to do with a message.
#[derive(Debug)]
pub(crate) enum Considered {
    /// Send this.
    Reply(Request, Reply),
    /// Ask somebody else about the name, and append what they say to what there is.
    Ask(Request, Ask),
    /// Too short to be answered.
    Short,
    /// No question but an answer.
    Response,
}

/// What somebody else has to be asked.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) name: WireName,
    pub(crate) kind: WireType,
    /// The alias that led there, when the question was for one: it is the answer when there is no other (N-051).
    pub(crate) alias: Option<Reply>,
}

/// Considers a message.
pub(crate) fn consider(zone: &Zone, bytes: &[u8], client: SocketAddr, transport: Protocol) -> Considered {
    let request = match message::read(bytes, client, transport) {
        Read::Question(request) => request,
        Read::Wrong(request, code) => return Considered::Reply(request, Reply::code(code)),
        Read::Short => return Considered::Short,
        Read::Response => return Considered::Response,
    };
    let Ok(question) = request.request_info() else {
        return Considered::Reply(request, Reply::code(ResponseCode::FormErr));
    };
    let query = question.query.original();
    let (name, kind) = (query.name(), query.query_type());
    // Zone transfers are not offered (N-014), and this is the Internet.
    if query.query_class() != DNSClass::IN || message::is_transfer(kind) {
        return Considered::Reply(request, Reply::code(ResponseCode::Refused));
    }
    let asked = Name::new(&name.to_ascii());
    let at_most = usize::from(message::room(&request)) / SMALLEST_RECORD;
    match zone.answer(&asked, record_type(kind)) {
        Outcome::Answer(answer) => {
            let reply = from_zone(answer, (&asked, name), at_most);
            Considered::Reply(request, reply)
        }
        Outcome::Follow { answer, target } => {
            let reply = from_zone(answer, (&asked, name), at_most);
            match WireName::from_ascii(target.to_string()) {
                Ok(name) => Considered::Ask(request, Ask { name, kind, alias: Some(reply) }),
                // No name that could be asked for, which an `externalName` may be.
                Err(_) => Considered::Reply(request, reply),
            }
        }
        Outcome::NotOurs => {
            let ask = Ask { name: name.clone(), kind, alias: None };
            Considered::Ask(request, ask)
        }
    }
}

/// What a server says that has nobody to ask: the whole way of a message, from bytes to bytes. `None` for no answer.
pub fn answer_alone(zone: &Zone, bytes: &[u8], transport: Protocol) -> Option<Vec<u8>> {
    let (request, reply) = match consider(zone, bytes, NOBODY, transport) {
        Considered::Reply(request, reply) => (request, reply),
        Considered::Ask(request, ask) => (request, ask.alias.unwrap_or_else(|| Reply::code(ResponseCode::Refused))),
        Considered::Short | Considered::Response => return None,
    };
    let mut out = Vec::new();
    message::write(&request, &reply, &mut out).ok()?;
    Some(out)
}

/// The zone's word for a type.
fn record_type(kind: WireType) -> RecordType {
    match kind {
        WireType::A => RecordType::A,
        WireType::AAAA => RecordType::Aaaa,
        WireType::CNAME => RecordType::Cname,
        WireType::SRV => RecordType::Srv,
        WireType::PTR => RecordType::Ptr,
        WireType::SOA => RecordType::Soa,
        WireType::NS => RecordType::Ns,
        WireType::TXT => RecordType::Txt,
        WireType::ANY => RecordType::Any,
        _ => RecordType::Other,
    }
}

fn from_zone(mut answer: Answer, asked: (&Name, &WireName), at_most: usize) -> Reply {
    shuffle_addresses(&mut answer.answers);
    let truncated = answer.answers.len() > at_most;
    answer.answers.truncate(at_most);
    answer.additional.truncate(at_most);
    let mut writer = Writer::new(asked);
    Reply {
        code: match answer.code {
            Code::NoError => ResponseCode::NoError,
            Code::NxDomain => ResponseCode::NXDomain,
            Code::ServFail => ResponseCode::ServFail,
            Code::NotImplemented => ResponseCode::NotImp,
        },
        authoritative: true,
        recursion_available: true,
        truncated,
        answers: writer.records(&answer.answers),
        authority: writer.records(&answer.authority),
        additional: writer.records(&answer.additional),
    }
}

/// So that clients which take the first one spread over all (N-015). Aliases stay in front.
fn shuffle_addresses(records: &mut [Record]) {
    let is_address = |record: &Record| matches!(record.data.record_type(), RecordType::A | RecordType::Aaaa);
    let first = records.iter().position(is_address);
    let addresses = first.and_then(|first| records.get_mut(first..));
    if let Some(addresses) = addresses.filter(|addresses| addresses.len() > 1) {
        addresses.shuffle(&mut rand::rng());
    }
}

/// What an upstream said, passed on with its truncation (N-074).
pub(crate) fn from_upstream(message: Message) -> Reply {
    Reply {
        code: message.metadata.response_code,
        authoritative: false,
        recursion_available: true,
        truncated: message.metadata.truncation,
        answers: message.answers,
        authority: message.authorities,
        additional: message.additionals,
    }
}

/// What is sent when an alias was followed: the alias and what there is behind it; a "no" behind it is none (N-051).
pub(crate) fn behind_alias(mut alias: Reply, message: Message) -> Reply {
    alias.truncated |= message.metadata.truncation;
    alias.answers.extend(message.answers);
    alias
}
