//! Faults on the worker: between the translator's verdict and the device. Only there while there is a Fault.

use std::time::Instant;

use minisvc_translator::packet::Packet;
use minisvc_translator::{Checksum, PortId};

use super::core::{Fate, FaultCounts, Faults, Passing, Rule};
use crate::device::Frame;

/// What the worker has to do with a packet.
pub(crate) enum Outcome {
    /// Send it as it is.
    Send,
    /// Nothing more.
    Done,
    /// Have this answer come from where it went.
    Answer(Vec<u8>),
}

/// The faults of a data plane, and what they keep.
#[derive(Default)]
pub(crate) struct FaultyLinks {
    faults: Faults,
}

impl FaultyLinks {
    /// Puts other rules in place of those there are.
    pub(crate) fn install(&mut self, rules: Vec<Rule>) {
        self.faults.install(rules);
    }

    /// Whether there is nothing to do, now and later.
    pub(crate) fn is_idle(&self) -> bool {
        self.faults.is_idle()
    }

    /// When the next packet is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.faults.poll_timeout()
    }

    /// What was done so far.
    pub(crate) fn counts(&self) -> FaultCounts {
        self.faults.counts
    }

    /// Goes on from what was counted before.
    pub(crate) fn count_from(&mut self, counts: FaultCounts) {
        self.faults.counts = counts;
    }

    /// Puts the next packet whose time has come into `frame`, and says where it goes and how long it is.
    pub(crate) fn due(&mut self, frame: &mut Frame, now: Instant) -> Option<(PortId, usize)> {
        let (to, bytes) = self.faults.due(now)?;
        Some((to, frame.load(&bytes)))
    }

    /// Lets a packet that the translator has forwarded suffer what it is to suffer. It may be kept, or changed in its frame.
    pub(crate) fn pass(
        &mut self,
        (from, to): (PortId, PortId),
        frame: &mut Frame,
        len: usize,
        checksum: Checksum,
        now: Instant,
    ) -> Outcome {
        let Some(bytes) = frame.packet_mut().get_mut(..len) else { return Outcome::Send };
        let Ok(packet) = Packet::parse(bytes, checksum) else { return Outcome::Send };
        let sockets = packet.tuple().map(|tuple| (tuple.source(), tuple.destination()));
        let fate = self.faults.judge(&Passing { from, to, sockets, len, begins: packet.begins_flow() }, now);
        match fate {
            Fate::Pass => Outcome::Send,
            Fate::Lost => Outcome::Done,
            Fate::Refused => packet.refusal().map_or(Outcome::Done, Outcome::Answer),
            Fate::Arrives { at, corrupt } => {
                let mut len = len;
                if let Some(where_) = corrupt {
                    let mut whole = packet.completed();
                    flip(&mut whole, packet.header_len(), where_);
                    len = frame.put(&whole);
                }
                self.arrive(&at, to, frame, len, now)
            }
        }
    }

    fn arrive(&mut self, at: &[Instant], to: PortId, frame: &Frame, len: usize, now: Instant) -> Outcome {
        let (at_once, later): (Vec<Instant>, Vec<Instant>) = at.iter().partition(|due| **due <= now);
        // A second copy of a packet that goes at once follows it with the next batch.
        for due in later.iter().chain(at_once.iter().skip(1)) {
            self.faults.keep(*due, to, frame.copy(len));
        }
        if at_once.is_empty() { Outcome::Done } else { Outcome::Send }
    }
}

/// Changes one bit behind the IP header, so that only its checksum tells.
fn flip(packet: &mut [u8], header: usize, chance: u64) {
    let body = packet.get_mut(header..).unwrap_or_default();
    let bits = u64::try_from(body.len()).unwrap_or_default().saturating_mul(8).max(1);
    let bit = chance % bits;
    let at = usize::try_from(bit / 8).unwrap_or_default();
    if let Some(byte) = body.get_mut(at) {
        *byte ^= 1 << (bit % 8);
    }
}
