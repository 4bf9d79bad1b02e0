//! From the zone's records to the wire library's.

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name as WireName, RData, Record as WireRecord};
use minisvc_zone::{Name, Record, RecordData};

/// Translates the records of one answer. It remembers the last name: most records of an answer have the same one.
pub(crate) struct Writer {
    last: (Name, WireName),
}

impl Writer {
    /// Begins with the name that was asked for.
    pub(crate) fn new((asked, wire): (&Name, &WireName)) -> Self {
        Self { last: (asked.clone(), wire.clone()) }
    }

    /// Several records for the wire, without those that have illegal names, which an `externalName` may be.
    pub(crate) fn records(&mut self, records: &[Record]) -> Vec<WireRecord> {
        records.iter().filter_map(|record| self.record(record)).collect()
    }

    fn record(&mut self, record: &Record) -> Option<WireRecord> {
        let data = data(&record.data)?;
        Some(WireRecord::from_rdata(self.owner(&record.name)?, record.ttl, data))
    }

    fn owner(&mut self, name: &Name) -> Option<WireName> {
        if !self.last.0.is_written_as(name) {
            self.last = (name.clone(), wire_name(name)?);
        }
        Some(self.last.1.clone())
    }
}

fn wire_name(name: &Name) -> Option<WireName> {
    WireName::from_ascii(name.to_string()).ok()
}

fn data(data: &RecordData) -> Option<RData> {
    Some(match data {
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
    })
}
