//! Between bytes and questions, replies and bytes. hickory-server reads the one and writes the other; who is told what is
//! wrong, and what goes when not everything fits, is said here.

use std::net::SocketAddr;

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder, BinEncoder};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

/// Largest answer that is sent over UDP, whatever the client says it can read, in bytes (N-066).
const MAX_UDP: u16 = 4096;

/// Bytes of a header, and of its part before the counts.
const HEADER: usize = 12;
const BEFORE_COUNTS: usize = 4;

/// Bytes of a question behind its name, and of the end of a name.
const TYPE_AND_CLASS: usize = 4;
const ROOT: usize = 1;

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
pub(crate) fn read(bytes: &[u8], client: SocketAddr, transport: Protocol) -> Read {
    let Ok(header) = Header::read(&mut BinDecoder::new(bytes)) else { return Read::Short };
    let refuse = |code| header_alone(bytes, client, transport).map_or(Read::Short, |bare| Read::Wrong(bare, code));
    if header.metadata.message_type == MessageType::Response {
        return Read::Response;
    }
    if header.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    // The library asks for memory for as many as are said to come, before it looks whether they do.
    if header.counts.queries != 1 {
        return refuse(ResponseCode::FormErr);
    }
    match Request::from_bytes(bytes.to_vec(), client, transport) {
        Ok(request) if request.version() != 0 => Read::Wrong(request, ResponseCode::BADVERS),
        Ok(request) if is_written_out(&request) => Read::Question(request),
        Ok(_) | Err(_) => refuse(ResponseCode::FormErr),
    }
}

/// What is refused before its question was understood, as if it had none.
fn header_alone(bytes: &[u8], client: SocketAddr, transport: Protocol) -> Result<Request, ProtoError> {
    let mut header: Vec<u8> = bytes.iter().copied().take(BEFORE_COUNTS).collect();
    header.resize(HEADER, 0);
    Request::from_bytes(header, client, transport)
}

/// Whether the name of the question has no pointers. Before it is only the header, to which no honest client points; and the
/// library repeats a question byte by byte, behind a header that says something else.
fn is_written_out(request: &Request) -> bool {
    request.request_info().is_ok_and(|asked| {
        let labels: usize = asked.query.original().name().iter().map(|label| label.len() + 1).sum();
        request.queries.as_bytes().len() == labels + ROOT + TYPE_AND_CLASS
    })
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

/// How many bytes the answer may have (N-066).
pub(crate) fn room(request: &Request) -> u16 {
    if request.protocol() == Protocol::Udp { request.max_payload().min(MAX_UDP) } else { u16::MAX }
}

/// Writes the answer in place of what is in `out`. What does not fit is left out, and the answer says so; answers whether
/// that was so.
///
/// # Errors
/// When a record is not representable.
pub(crate) fn write(request: &Request, reply: &Reply, out: &mut Vec<u8>) -> Result<bool, ProtoError> {
    let sections = [reply.answers.as_slice(), &reply.authority, &reply.additional];
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = reply.code;
    metadata.authoritative = reply.authoritative;
    metadata.recursion_available = reply.recursion_available;
    metadata.truncation = reply.truncated;
    let written = emit(request, metadata, sections, out)?.counts();
    let edns = usize::from(request.edns.is_some());
    let all = sections.iter().map(|section| section.len()).sum::<usize>() + edns;
    if in_sections(&written).into_iter().sum::<usize>() == all {
        return Ok(reply.truncated);
    }
    // The library lets later records fill a gap, and writes EDNS last, if there is room left. Ours for theirs is due
    // (N-067), and smaller than any record: without the last one before the gap, it fits.
    metadata.truncation = true;
    let fits = before_gap(sections, &written).saturating_sub(edns);
    emit(request, metadata, first(sections, fits), out)?;
    Ok(true)
}

/// One attempt: header, question, as many records of the sections as fit, and our EDNS for theirs.
fn emit(
    request: &Request,
    metadata: Metadata,
    [answers, authority, additional]: [&[Record]; 3],
    out: &mut Vec<u8>,
) -> Result<ResponseInfo, ProtoError> {
    out.clear();
    let room = room(request);
    let mut encoder = BinEncoder::new(out);
    encoder.set_max_size(room);
    let edns = request.edns.as_ref().map(|_| {
        let mut edns = Edns::new();
        edns.set_version(0).set_max_payload(room.min(MAX_UDP));
        edns
    });
    MessageResponseBuilder::new(&request.queries, edns.as_ref())
        .build(metadata, answers, authority, [], additional)
        .destructive_emit(&mut encoder)
}

fn in_sections(counts: &HeaderCounts) -> [usize; 3] {
    [counts.answers, counts.authorities, counts.additionals].map(usize::from)
}

/// How many records were written before the first that was not.
fn before_gap(sections: [&[Record]; 3], written: &HeaderCounts) -> usize {
    let mut before = 0;
    for (section, count) in sections.into_iter().zip(in_sections(written)) {
        before += count.min(section.len());
        if count < section.len() {
            break;
        }
    }
    before
}

/// The first so many records of all sections.
fn first(sections: [&[Record]; 3], mut records: usize) -> [&[Record]; 3] {
    sections.map(|section| {
        let (fits, _) = section.split_at(records.min(section.len()));
        records -= fits.len();
        fits
    })
}

/// Whether a question is for a whole zone, which is not given out (N-014).
pub(crate) fn is_transfer(kind: RecordType) -> bool {
    matches!(kind, RecordType::AXFR | RecordType::IXFR)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData};

    use super::*;

    fn question(payload: Option<u16>) -> Request {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii("web.example.").expect("a legal name"), RecordType::A));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        let client = SocketAddr::from(([127, 0, 0, 1], 5300));
        Request::from_bytes(message.to_vec().expect("encoded"), client, Protocol::Udp).expect("well formed")
    }

    fn records(count: u8) -> Vec<Record> {
        let name = Name::from_ascii("web.example.").expect("a legal name");
        (0..count).map(|last| Record::from_rdata(name.clone(), 5, RData::A(A::new(10, 0, 0, last)))).collect()
    }

    // N-066, N-067
    #[test]
    fn what_does_not_fit_leaves_no_gap_and_room_for_edns() {
        let reply = Reply { answers: records(30), authority: records(2), additional: records(3), ..Reply::default() };
        let mut complete = 0;
        for payload in (500..700).map(Some).chain([None]) {
            let request = question(payload);
            let mut out = Vec::new();
            let truncated = write(&request, &reply, &mut out).expect("written");
            assert!(out.len() <= usize::from(payload.unwrap_or_default().max(512)), "{} for {payload:?}", out.len());
            let answer = Message::from_vec(&out).expect("well formed");
            assert_eq!(answer.edns.is_some(), payload.is_some(), "{payload:?}");
            let counts = [answer.answers.len(), answer.authorities.len(), answer.additionals.len()];
            let whole = counts == [30, 2, 3];
            assert_eq!((truncated, answer.metadata.truncation), (!whole, !whole), "{counts:?} for {payload:?}");
            assert!(counts[0] == 30 || counts[1..] == [0, 0], "{counts:?}");
            assert!(counts[1] == 2 || counts[2] == 0, "{counts:?}");
            assert!(counts[0] >= 28, "as many as fit: {counts:?} for {payload:?}");
            complete += usize::from(whole);
        }
        assert!((1..200).contains(&complete), "{complete} answers were complete");
    }
}
