//! What is to be done with a packet.

use crate::table::PortId;

/// What the caller must do with the packet it passed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write the packet, as edited, to this port.
    Forward(PortId),
    /// The buffer now holds an answer (a RST or an ICMP error); write it to the port the packet came from.
    /// Its checksums are complete ([`crate::Checksum::Full`]), whatever they were before.
    Reply,
    /// The packet was copied and will come out of `poll_transmit` later.
    Held,
    /// Forget the packet.
    Drop(DropReason),
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a packet was dropped. Each has a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason { $($(#[doc = $doc])+ $name,)+ }

        impl DropReason {
            /// All reasons, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// A name for metrics and for people: lower case, words joined by underscores.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

drop_reasons! {
    /// Not an IP packet, or shorter than its headers claim.
    Malformed = "malformed",
    /// A first fragment too short to hold the ports (RFC 1858).
    TinyFragment = "tiny_fragment",
    /// The source address is not one of the sending port.
    Spoofed = "spoofed",
    /// IPv6 between neighbours on one link: solicitations, and link-local addresses (RFC 4861, RFC 4291 2.5.6).
    LinkLocal = "link_local",
    /// A multicast, broadcast, loopback or unspecified destination (D-111).
    Unroutable = "unroutable",
    /// A service-range address that belongs to no Service (D-035).
    NoService = "no_service",
    /// Policy Local, and no endpoint on this node though there are others.
    NoLocalEndpoint = "no_local_endpoint",
    /// A client outside of the ranges that a load balancer address is for (D-066).
    SourceRange = "source_range",
    /// ICMP to a service address, which nobody answers (D-104).
    ServiceIcmp = "service_icmp",
    /// A packet that would be refused, but must not be answered: a RST, or an ICMP error.
    Unanswerable = "unanswerable",
    /// An ICMP error about nothing we know, to an address nobody owns.
    UnrelatedIcmp = "unrelated_icmp",
    /// ICMP errors are limited, and this one was over the limit.
    IcmpLimit = "icmp_limit",
    /// The flow table is full and nothing in it may be evicted (D-114).
    FlowLimit = "flow_limit",
    /// Too many flows to the outside wait for the relay.
    RelayLimit = "relay_limit",
    /// Every source port that was tried is taken (D-119).
    NoFreePort = "no_free_port",
    /// Too many fragments that overtook their first one.
    FragmentLimit = "fragment_limit",
    /// The first fragment of this datagram was refused or dropped.
    FragmentRefused = "fragment_refused",
    /// The answer does not fit into the caller's buffer.
    NoRoom = "no_room",
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
