//! Between bytes and questions, replies and bytes: what is read of a message, and how an answer is made to fit.

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder, BinEncodable as _, BinEncoder};

/// Largest answer that is sent over UDP, whatever the client says it can read, in bytes (N-066).
const MAX_UDP: u16 = 4096;

/// Smallest that every client can read, in bytes (RFC 1035).
const MIN_UDP: u16 = 512;

/// Bytes of an OPT record without options, which is all that we send.
const OPT: u16 = 11;

/// How a message came, and the answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram each.
    Udp,
    /// One after the other, each behind its length.
    Tcp,
}

/// A message that asks one thing.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) metadata: Metadata,
    /// `None` in a message that is refused before its question was understood.
    pub(crate) query: Option<Query>,
    pub(crate) edns: Option<Edns>,
}

/// What bytes are.
#[derive(Debug)]
pub(crate) enum Read {
    /// A question that may be answered.
    Question(Request),
    /// Something that is told what is wrong with it.
    Wrong(Request, ResponseCode),
    /// Shorter than a header: there is nobody to tell (N-068).
    Short,
    /// An answer. Whoever would answer answers might do so for ever.
    Response,
}

/// Reads a message.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let Ok(header) = Header::read(&mut BinDecoder::new(bytes)) else { return Read::Short };
    let metadata = header.metadata;
    if metadata.message_type == MessageType::Response {
        return Read::Response;
    }
    let bare = Request { metadata, query: None, edns: None };
    if metadata.op_code != OpCode::Query {
        return Read::Wrong(bare, ResponseCode::NotImp);
    }
    let Ok(mut message) = Message::from_vec(bytes) else { return Read::Wrong(bare, ResponseCode::FormErr) };
    let one = message.queries.len() == 1;
    let request = Request { metadata, query: message.queries.pop(), edns: message.edns };
    if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return Read::Wrong(request, ResponseCode::BADVERS);
    }
    if one { Read::Question(request) } else { Read::Wrong(bare, ResponseCode::FormErr) }
}

/// An answer before it is written.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) code: ResponseCode,
    pub(crate) authoritative: bool,
    pub(crate) recursion_available: bool,
    pub(crate) truncated: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authority: Vec<Record>,
    pub(crate) additional: Vec<Record>,
}

impl Reply {
    /// Only a code.
    pub(crate) fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

impl Request {
    /// How many bytes the answer may have (N-066).
    pub(crate) fn room(&self, transport: Transport) -> u16 {
        match (transport, &self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => MIN_UDP,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(MIN_UDP, MAX_UDP),
        }
    }
}

/// Writes the answer in place of what is in `out`. What does not fit is left out, and the answer says so; answers whether
/// that was so.
///
/// # Errors
/// When a record is not representable.
pub(crate) fn write(
    request: &Request,
    reply: &Reply,
    transport: Transport,
    out: &mut Vec<u8>,
) -> Result<bool, ProtoError> {
    out.clear();
    let room = request.room(transport);
    let mut encoder = BinEncoder::new(out);
    // Ours for theirs, and only then; its place is kept free (N-067).
    let edns = request.edns.as_ref().map(|_| {
        let mut edns = Edns::new();
        edns.set_version(0).set_max_payload(room.min(MAX_UDP)).set_rcode_high(reply.code.high());
        edns
    });
    encoder.set_max_size(if edns.is_some() { room - OPT } else { room });
    let place = encoder.place::<Header>()?;
    let queries = encoder.emit_all(request.query.iter())?;
    let (mut truncated, mut counts) = (reply.truncated, [0; 3]);
    for (section, count) in [&reply.answers, &reply.authority, &reply.additional].into_iter().zip(&mut counts) {
        *count = match encoder.emit_all(section.iter()) {
            Ok(count) => count,
            Err(ProtoError::NotAllRecordsWritten { count, .. }) => {
                truncated = true;
                count
            }
            Err(error) => return Err(error),
        };
        if truncated {
            break;
        }
    }
    if let Some(edns) = &edns {
        encoder.set_max_size(room);
        Record::from(edns).emit(&mut encoder)?;
        counts[2] += 1;
    }
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = reply.code;
    metadata.authoritative = reply.authoritative;
    metadata.recursion_available = reply.recursion_available;
    metadata.truncation = truncated;
    let [answers, authorities, additionals] = counts.map(|count| u16::try_from(count).unwrap_or(u16::MAX));
    let queries = u16::try_from(queries).unwrap_or(u16::MAX);
    let counts = HeaderCounts { queries, answers, authorities, additionals };
    place.replace(&mut encoder, Header { metadata, counts })?;
    Ok(truncated)
}

/// Whether a question is for a whole zone, which is not given out (N-014).
pub(crate) fn is_transfer(kind: RecordType) -> bool {
    matches!(kind, RecordType::AXFR | RecordType::IXFR)
}
