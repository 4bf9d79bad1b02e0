//! How much the translator remembers, and for how long.

use std::time::Duration;

/// Limits of every table, and the seed of every choice.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most flows at once. D-114 asks for max(131072, 32768 × cores); the caller knows the cores.
    pub max_flows: usize,
    /// Most fragmented datagrams under way at once; the oldest is forgotten first.
    pub max_fragmented: usize,
    /// Most fragments held because they overtook the first one; further ones are dropped.
    pub max_held: usize,
    /// Most bytes in held fragments.
    pub max_held_bytes: usize,
    /// Most client → endpoint records of session affinity; when full, new clients are balanced without being recorded.
    pub max_affinities: usize,
    /// Most packets of our own waiting for `poll_transmit`; further ones are dropped.
    pub max_pending: usize,
    /// Most flows to the outside that wait for the relay; further ones are dropped, and tried again by their clients.
    pub max_dials: usize,
    /// Most packets held for each of them; further ones are dropped. Datagrams sent in one go count one by one.
    pub max_held_per_dial: usize,
    /// Most bytes in all packets that are held for them; beyond it no further flow may wait, and no further packet.
    pub max_dial_bytes: usize,
    /// ICMP errors per second over all clients, as Linux' `icmp_msgs_per_sec`. Refusals of TCP are not limited (D-038).
    pub icmp_per_second: u32,
    /// ICMP errors that may be sent at once.
    pub icmp_burst: u32,
    /// Idle times after which flows end.
    pub timeouts: Timeouts,
    /// Seed of endpoint choice, source ports and hashing. Must be unpredictable outside tests.
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_flows: 131_072,
            max_fragmented: 4096,
            max_held: 256,
            max_held_bytes: 1 << 20,
            max_affinities: 65_536,
            max_pending: 4096,
            max_dials: 4096,
            max_held_per_dial: 64,
            max_dial_bytes: 16 << 20,
            icmp_per_second: 1000,
            icmp_burst: 200,
            timeouts: Timeouts::default(),
            seed: 0,
        }
    }
}

/// Idle times after which a flow ends (D-113); those of SCTP are Linux' (`nf_conntrack_sctp_timeout_…`).
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// TCP: SYN seen, no answer.
    pub syn_sent: Duration,
    /// TCP: SYN answered, handshake not complete.
    pub syn_received: Duration,
    /// TCP: established.
    pub established: Duration,
    /// TCP: first FIN seen.
    pub fin_wait: Duration,
    /// TCP: first FIN acknowledged.
    pub close_wait: Duration,
    /// TCP: second FIN seen.
    pub last_ack: Duration,
    /// TCP: both FINs acknowledged.
    pub time_wait: Duration,
    /// TCP: reset.
    pub closed: Duration,
    /// SCTP: while an association is set up or shut down.
    pub sctp_handshake: Duration,
    /// SCTP: set up. Its heartbeats come more often.
    pub sctp_associated: Duration,
    /// UDP: one way only, or one question and one answer.
    pub udp: Duration,
    /// UDP: both ways for longer than `udp_stream_after`.
    pub udp_stream: Duration,
    /// UDP: age from which an answered flow counts as a stream.
    pub udp_stream_after: Duration,
    /// How long the rest of a fragmented datagram may take (Linux `ipfrag_time`).
    pub fragment: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            syn_sent: Duration::from_secs(120),
            syn_received: Duration::from_secs(60),
            established: Duration::from_secs(24 * 3600),
            fin_wait: Duration::from_secs(120),
            close_wait: Duration::from_secs(3600),
            last_ack: Duration::from_secs(30),
            time_wait: Duration::from_secs(120),
            closed: Duration::from_secs(10),
            sctp_handshake: Duration::from_secs(3),
            sctp_associated: Duration::from_secs(210),
            udp: Duration::from_secs(30),
            udp_stream: Duration::from_secs(120),
            udp_stream_after: Duration::from_secs(2),
            fragment: Duration::from_secs(30),
        }
    }
}
