//! Between the zone's values and the wire library's.

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name as WireName, RData, Record as WireRecord, RecordType as WireType};
use minisvc_zone::{Name, Record, RecordData, RecordType};

/// The zone's word for a type.
pub(crate) fn record_type(kind: WireType) -> RecordType {
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

/// A name as the wire library has it; `None` if it is no legal name, which an `externalName` may be.
pub(crate) fn wire_name(name: &Name) -> Option<WireName> {
    WireName::from_ascii(name.to_string()).ok()
}

/// A record for the wire; `None` if a name in it is not legal.
pub(crate) fn wire_record(record: &Record) -> Option<WireRecord> {
    let data = match &record.data {
        RecordData::A(address) => RData::A(A(*address)),
        RecordData::Aaaa(address) => RData::AAAA(AAAA(*address)),
        RecordData::Cname(name) => RData::CNAME(CNAME(wire_name(name)?)),
        RecordData::Srv { priority, weight, port, target } => {
            RData::SRV(SRV::new(*priority, *weight, *port, wire_name(target)?))
        }
        RecordData::Ptr(name) => RData::PTR(PTR(wire_name(name)?)),
        RecordData::Ns(name) => RData::NS(NS(wire_name(name)?)),
        RecordData::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        RecordData::Soa { mname, rname, serial, refresh, retry, expire, minimum } => {
            // Times in a SOA are signed on the wire, and far below the limit here.
            let signed = |seconds: u32| i32::try_from(seconds).unwrap_or(i32::MAX);
            RData::SOA(SOA::new(
                wire_name(mname)?,
                wire_name(rname)?,
                *serial,
                signed(*refresh),
                signed(*retry),
                signed(*expire),
                *minimum,
            ))
        }
    };
    Some(WireRecord::from_rdata(wire_name(&record.name)?, record.ttl, data))
}

/// Several records for the wire, without those that have illegal names.
pub(crate) fn wire_records(records: &[Record]) -> Vec<WireRecord> {
    records.iter().filter_map(wire_record).collect()
}
