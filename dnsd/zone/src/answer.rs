//! Questions and answers, without their wire format.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::Name;

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Another name for this one.
    Cname,
    /// Ports and names of a service (RFC 2782).
    Srv,
    /// The name of an address.
    Ptr,
    /// The start of authority.
    Soa,
    /// The servers of the zone.
    Ns,
    /// Text.
    Txt,
    /// Everything: only minimal answers are given (RFC 8482).
    Any,
    /// A type that no name of the zone has.
    Other,
}

/// The content of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordData {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// The other name.
    Cname(Name),
    /// Where a service is.
    Srv {
        /// Lower is tried first.
        priority: u16,
        /// Share among equals.
        weight: u16,
        /// Port.
        port: u16,
        /// Host.
        target: Name,
    },
    /// The name of an address.
    Ptr(Name),
    /// Start of authority, times in seconds.
    Soa {
        /// Primary server.
        mname: Name,
        /// Mailbox of the person responsible.
        rname: Name,
        /// Version of the zone.
        serial: u32,
        /// Refresh interval of secondaries.
        refresh: u32,
        /// Retry interval of secondaries.
        retry: u32,
        /// When secondaries give up.
        expire: u32,
        /// How long a "no" may be remembered.
        minimum: u32,
    },
    /// A server of the zone.
    Ns(Name),
    /// Text.
    Txt(String),
}

impl RecordData {
    /// An address record of the right family.
    pub(crate) fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::A(address),
            IpAddr::V6(address) => Self::Aaaa(address),
        }
    }

    /// The type of this record.
    pub fn record_type(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::Aaaa,
            Self::Cname(_) => RecordType::Cname,
            Self::Srv { .. } => RecordType::Srv,
            Self::Ptr(_) => RecordType::Ptr,
            Self::Soa { .. } => RecordType::Soa,
            Self::Ns(_) => RecordType::Ns,
            Self::Txt(_) => RecordType::Txt,
        }
    }
}

/// A record with its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name it belongs to.
    pub name: Name,
    /// How long it may be remembered, in seconds.
    pub ttl: u32,
    /// Its content.
    pub data: RecordData,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The name exists. Without answers this is NODATA.
    NoError,
    /// The name does not exist.
    NxDomain,
    /// Nothing is said about it, for now: the zone is not complete yet.
    ServFail,
    /// This kind of question is not answered.
    NotImplemented,
}

/// An answer from the zone; it is authoritative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How it went.
    pub code: Code,
    /// The records that were asked for.
    pub answers: Vec<Record>,
    /// The zone's SOA with every "no" (RFC 2308).
    pub authority: Vec<Record>,
    /// Addresses of the names in `answers`.
    pub additional: Vec<Record>,
}

/// What to do with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Send this.
    Answer(Answer),
    /// Resolve `target` elsewhere and append what it has to the answer; if it has nothing, send the answer as it is (N-051).
    Follow {
        /// The CNAME, and what was found in the zone behind it.
        answer: Answer,
        /// A name outside the zone.
        target: Name,
    },
    /// The name is not ours: ask the upstream.
    NotOurs,
}
