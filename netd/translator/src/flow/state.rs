//! What a flow is doing, as far as its idle time and its place in the eviction order depend on it.

use std::fmt;
use std::time::Duration;

use crate::limits::Timeouts;
use crate::packet::{ACK, Chunks, FIN, RST, SYN};

/// Which way a packet of a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// As the first packet.
    Original,
    /// As the answers.
    Reply,
}

impl Direction {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// The state of a flow, seen from the middle (RFC 9293 3.3.2 sees it from the ends).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// To the outside: the relay has been asked to open the other half, and the first packet waits for it. Next: `SynSent`,
    /// `Unreplied`, or the end.
    Dialing,
    /// TCP: a SYN came. Next: `SynReceived`, `Closed`.
    SynSent,
    /// TCP: the SYN was answered. Next: `Established`, `FinWait`, `Closed`.
    SynReceived,
    /// TCP and SCTP, direct flows only: the first packet was in the middle of a connection, because an earlier record was lost.
    /// Next: as from `SynReceived`, or `Associated`.
    Adopted,
    /// TCP: the handshake is complete. Next: `FinWait`, `Closed`.
    Established,
    /// TCP: one side sent FIN. Next: `CloseWait`, `LastAck`, `Closed`.
    FinWait,
    /// TCP: that FIN was acknowledged; the other side may send for as long as it likes. Next: `LastAck`, `Closed`.
    CloseWait,
    /// TCP: both sides sent FIN. Next: `TimeWait`, `Closed`.
    LastAck,
    /// TCP: both FINs were acknowledged. A SYN starts a new flow (D-118).
    TimeWait,
    /// TCP: one side sent RST. A SYN starts a new flow (D-118). SCTP: aborted, or shut down; INIT starts a new flow.
    Closed,
    /// SCTP: INIT came. Next: `CookieEchoed`, `Closed`.
    CookieWait,
    /// SCTP: COOKIE ECHO came. Next: `Associated`, `Closed`.
    CookieEchoed,
    /// SCTP: the association is set up. Next: `ShuttingDown`, `Closed`.
    Associated,
    /// SCTP: one side has no more to send. Next: `Closed`.
    ShuttingDown,
    /// UDP: packets went one way only. Next: `Replied`, `Stream`.
    Unreplied,
    /// UDP: packets went both ways, but not for long. Next: `Stream`.
    Replied,
    /// UDP: packets go both ways, and not only as one question and one answer.
    Stream,
}

impl FlowState {
    /// Whether the flow may be evicted for a new one: not proven to be wanted, or about to end (D-114).
    pub(crate) fn is_weak(self) -> bool {
        !matches!(self, Self::Established | Self::Stream | Self::Associated)
    }

    /// Whether a flow is over, so that the beginning of a connection on it starts another (D-118).
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Closed)
    }

    /// How long the flow may be idle (D-113).
    pub(crate) fn timeout(self, timeouts: &Timeouts) -> Duration {
        match self {
            // A connection that is adopted must show that both sides know it before it counts as established.
            Self::Dialing | Self::SynSent | Self::Adopted => timeouts.syn_sent,
            Self::SynReceived => timeouts.syn_received,
            Self::Established => timeouts.established,
            Self::FinWait => timeouts.fin_wait,
            Self::CloseWait => timeouts.close_wait,
            Self::LastAck => timeouts.last_ack,
            Self::TimeWait => timeouts.time_wait,
            Self::Closed => timeouts.closed,
            Self::CookieWait | Self::CookieEchoed | Self::ShuttingDown => timeouts.sctp_handshake,
            Self::Associated => timeouts.sctp_associated,
            Self::Unreplied | Self::Replied => timeouts.udp,
            Self::Stream => timeouts.udp_stream,
        }
    }

    /// The state after a TCP segment. `closer` is the side whose FIN came first, and is set here.
    #[must_use]
    pub(crate) fn after_segment(self, closer: &mut Option<Direction>, from: Direction, flags: u8) -> Self {
        if flags & RST != 0 && self != Self::Dialing {
            return Self::Closed;
        }
        let fin = flags & FIN != 0;
        let ack = flags & ACK != 0;
        let is_closer = *closer == Some(from);
        match self {
            // Simultaneous open (SYN without ACK from the other side) needs no state of its own: SYN-ACKs follow.
            Self::SynSent if from == Direction::Reply && flags & SYN != 0 && ack => Self::SynReceived,
            Self::SynReceived | Self::Adopted | Self::Established if fin => {
                *closer = Some(from);
                Self::FinWait
            }
            Self::SynReceived if from == Direction::Original && flags & SYN == 0 && ack => Self::Established,
            Self::Adopted if from == Direction::Reply => Self::Established,
            Self::FinWait | Self::CloseWait if !is_closer && fin => Self::LastAck,
            Self::FinWait if !is_closer && ack => Self::CloseWait,
            Self::LastAck if is_closer && ack => Self::TimeWait,
            same => same,
        }
    }

    /// The state after a packet of SCTP (RFC 9260 4 sees it from the ends). Of a second path of an association nothing is
    /// known: multihoming is not supported (D-112).
    #[must_use]
    pub(crate) fn after_chunks(self, from: Direction, chunks: Chunks) -> Self {
        match self {
            _ if chunks.has_abort() => Self::Closed,
            Self::ShuttingDown if chunks.has_shutdown_complete() => Self::Closed,
            Self::CookieWait if chunks.has_cookie_echo() => Self::CookieEchoed,
            Self::CookieEchoed if chunks.has_cookie_ack() => Self::Associated,
            // The cookie was stale: the client begins anew.
            Self::CookieEchoed if chunks.has_error() && from == Direction::Reply => Self::Closed,
            Self::Associated | Self::Adopted if chunks.has_shutdown() => Self::ShuttingDown,
            Self::Adopted if from == Direction::Reply => Self::Associated,
            same => same,
        }
    }

    /// The state after a UDP packet of a flow of this age.
    #[must_use]
    pub(crate) fn after_datagram(self, from: Direction, age: Duration, timeouts: &Timeouts) -> Self {
        match (self, from) {
            (Self::Dialing, _) => Self::Dialing,
            (Self::Unreplied, Direction::Original) => Self::Unreplied,
            _ if self == Self::Stream || age > timeouts.udp_stream_after => Self::Stream,
            _ => Self::Replied,
        }
    }

    /// A name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dialing => "DIALING",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::Adopted => "ADOPTED",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN-WAIT",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
            Self::Closed => "CLOSED",
            Self::CookieWait => "COOKIE-WAIT",
            Self::CookieEchoed => "COOKIE-ECHOED",
            Self::Associated => "ASSOCIATED",
            Self::ShuttingDown => "SHUTTING-DOWN",
            Self::Unreplied => "UNREPLIED",
            Self::Replied => "REPLIED",
            Self::Stream => "STREAM",
        }
    }
}

impl fmt::Display for FlowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{Original, Reply};
    use super::*;

    fn walk(segments: &[(Direction, u8)]) -> Vec<FlowState> {
        let mut closer = None;
        let mut state = FlowState::SynSent;
        segments
            .iter()
            .map(|&(from, flags)| {
                state = state.after_segment(&mut closer, from, flags);
                state
            })
            .collect()
    }

    const HANDSHAKE: [(Direction, u8); 2] = [(Reply, SYN | ACK), (Original, ACK)];

    #[test]
    fn connections_walk_through_the_states_of_rfc_9293() {
        use FlowState::{CloseWait, Closed, Established, FinWait, LastAck, SynReceived, SynSent, TimeWait};
        type Row<'a> = (&'a str, &'a [(Direction, u8)], &'a [FlowState]);
        let rows: &[Row<'_>] = &[
            (
                "client closes first",
                &[(Original, FIN | ACK), (Reply, ACK), (Reply, ACK), (Reply, FIN | ACK), (Original, ACK)],
                &[FinWait, CloseWait, CloseWait, LastAck, TimeWait],
            ),
            (
                "server closes first",
                &[(Reply, FIN | ACK), (Original, ACK), (Original, FIN | ACK), (Reply, ACK)],
                &[FinWait, CloseWait, LastAck, TimeWait],
            ),
            (
                "the closer goes on acknowledging",
                &[(Original, FIN | ACK), (Original, ACK), (Reply, FIN | ACK)],
                &[FinWait, FinWait, LastAck],
            ),
            (
                "both at once",
                &[(Original, FIN | ACK), (Reply, FIN | ACK), (Original, ACK)],
                &[FinWait, LastAck, TimeWait],
            ),
            ("reset by the server", &[(Original, ACK), (Reply, RST), (Original, ACK)], &[Established, Closed, Closed]),
        ];
        for (name, segments, expected) in rows {
            let all: Vec<_> = HANDSHAKE.iter().chain(*segments).copied().collect();
            assert_eq!(walk(&all)[2..], **expected, "{name}");
        }
        assert_eq!(walk(&HANDSHAKE), [SynReceived, Established]);
        assert_eq!(walk(&[(Original, SYN), (Reply, RST | ACK)]), [SynSent, Closed], "refused");
    }

    // D-113
    #[test]
    fn one_question_and_one_answer_is_no_stream() {
        let timeouts = Timeouts::default();
        let short = Duration::from_millis(500);
        let long = Duration::from_millis(2500);
        let state = FlowState::Unreplied.after_datagram(Original, long, &timeouts);
        assert_eq!(state, FlowState::Unreplied, "one way stays one way");
        let state = state.after_datagram(Reply, short, &timeouts);
        assert_eq!(state, FlowState::Replied);
        assert_eq!(state.after_datagram(Original, short, &timeouts), FlowState::Replied);
        assert_eq!(state.after_datagram(Original, long, &timeouts), FlowState::Stream);
        assert_eq!(FlowState::Unreplied.after_datagram(Reply, long, &timeouts), FlowState::Stream);
        assert_eq!(FlowState::Stream.after_datagram(Original, short, &timeouts), FlowState::Stream);
    }

    // D-113
    #[test]
    fn the_idle_times_are_the_documented_ones() {
        let timeouts = Timeouts::default();
        let seconds = |state: FlowState| state.timeout(&timeouts).as_secs();
        assert_eq!(
            [
                (FlowState::Established, 86_400),
                (FlowState::CloseWait, 3600),
                (FlowState::SynSent, 120),
                (FlowState::SynReceived, 60),
                (FlowState::FinWait, 120),
                (FlowState::LastAck, 30),
                (FlowState::TimeWait, 120),
                (FlowState::Closed, 10),
                (FlowState::CookieWait, 3),
                (FlowState::CookieEchoed, 3),
                (FlowState::Associated, 210),
                (FlowState::ShuttingDown, 3),
                (FlowState::Unreplied, 30),
                (FlowState::Replied, 30),
                (FlowState::Stream, 120),
            ]
            .map(|(state, expected)| (state, seconds(state) == expected))
            .into_iter()
            .find(|(_, equal)| !equal),
            None
        );
    }
}
