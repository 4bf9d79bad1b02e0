//! One query after the other: read it, ask the zone or an upstream, write the answer.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Record as WireRecord, RecordType as WireType};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use minisvc_zone::{Answer, Code, Name, Outcome, Zone};
use rand::seq::SliceRandom as _;

use crate::forward::{ForwardError, Forwarder};
use crate::wire;

/// Largest answer that is sent over UDP, whatever the client says it can read, in bytes (N-066).
const MAX_UDP: u16 = 4096;

/// Smallest that every client can read, in bytes (RFC 1035).
const MIN_UDP: u16 = 512;

/// Answers queries.
pub(crate) struct Handler {
    zone: Arc<ArcSwap<Zone>>,
    forwarder: Forwarder,
}

/// An answer before it is written.
#[derive(Debug, Default)]
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    recursion_available: bool,
    truncated: bool,
    answers: Vec<WireRecord>,
    authority: Vec<WireRecord>,
    additional: Vec<WireRecord>,
}

impl Reply {
    fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

impl Handler {
    /// Answers from the newest zone.
    pub(crate) fn new(zone: Arc<ArcSwap<Zone>>, forwarder: Forwarder) -> Self {
        Self { zone, forwarder }
    }

    async fn reply(&self, request: &Request) -> Reply {
        if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return Reply::code(ResponseCode::BADVERS);
        }
        if request.metadata.op_code != OpCode::Query {
            return Reply::code(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return Reply::code(ResponseCode::FormErr) };
        let query = info.query.original();
        let (name, kind) = (query.name(), query.query_type());
        // Zone transfers are not offered (N-014), and this is the Internet.
        if query.query_class() != DNSClass::IN || matches!(kind, WireType::AXFR | WireType::IXFR) {
            return Reply::code(ResponseCode::Refused);
        }
        if self.forwarder.is_our_own(request.metadata.id, name, kind) {
            return Reply::code(ResponseCode::Refused);
        }
        let tcp = request.protocol() != Protocol::Udp;
        let outcome = self.zone.load().answer(&Name::new(&name.to_ascii()), wire::record_type(kind));
        match outcome {
            Outcome::Answer(answer) => from_zone(&answer),
            Outcome::Follow { answer, target } => self.follow(&answer, &target, kind, tcp).await,
            Outcome::NotOurs => match self.forwarder.ask(name, kind, tcp).await {
                Ok(message) => from_upstream(message),
                Err(error) => refused(error),
            },
        }
    }

    /// Appends what the upstream has of an alias' target; the alias alone when it has nothing (N-051).
    async fn follow(&self, answer: &Answer, target: &Name, kind: WireType, tcp: bool) -> Reply {
        let mut reply = from_zone(answer);
        let Some(target) = wire::wire_name(target) else { return reply };
        if let Ok(message) = self.forwarder.ask(&target, kind, tcp).await {
            reply.truncated = message.metadata.truncation;
            reply.answers.extend(message.answers);
        }
        reply
    }
}

fn from_zone(answer: &Answer) -> Reply {
    let mut answers = wire::wire_records(&answer.answers);
    shuffle_addresses(&mut answers);
    Reply {
        code: match answer.code {
            Code::NoError => ResponseCode::NoError,
            Code::NxDomain => ResponseCode::NXDomain,
            Code::ServFail => ResponseCode::ServFail,
            Code::NotImplemented => ResponseCode::NotImp,
        },
        authoritative: true,
        recursion_available: true,
        truncated: false,
        answers,
        authority: wire::wire_records(&answer.authority),
        additional: wire::wire_records(&answer.additional),
    }
}

/// So that clients which take the first one spread over all (N-015). Aliases stay in front.
fn shuffle_addresses(records: &mut [WireRecord]) {
    let first = records.iter().position(|record| matches!(record.record_type(), WireType::A | WireType::AAAA));
    if let Some(addresses) = first.and_then(|first| records.get_mut(first..)) {
        addresses.shuffle(&mut rand::rng());
    }
}

fn from_upstream(message: Message) -> Reply {
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

fn refused(error: ForwardError) -> Reply {
    Reply::code(match error {
        ForwardError::NoUpstream | ForwardError::Busy | ForwardError::Loop => ResponseCode::Refused,
        ForwardError::NoAnswer => ResponseCode::ServFail,
    })
}

/// Ours for theirs, and only then; the size is the one that the answer must fit in (N-066, N-067).
fn edns_for(request: &Request) -> Option<Edns> {
    let theirs = request.edns.as_ref()?;
    let mut ours = Edns::new();
    ours.set_version(0).set_max_payload(theirs.max_payload().clamp(MIN_UDP, MAX_UDP));
    Some(ours)
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let reply = self.reply(request).await;
        let edns = edns_for(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = reply.recursion_available;
        metadata.truncation = reply.truncated;
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let none: &[WireRecord] = &[];
        let message = builder.build(metadata, &reply.answers, &reply.authority, none, &reply.additional);
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "an answer could not be sent");
                let mut metadata = Metadata::new(request.metadata.id, MessageType::Response, OpCode::Query);
                metadata.response_code = ResponseCode::ServFail;
                ResponseInfo::from(hickory_proto::op::Header { metadata, counts: Default::default() })
            }
        }
    }
}
