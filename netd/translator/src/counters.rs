//! What the translator counted since it was made.

use crate::verdict::{DropReason, Verdict};

/// Counters since the translator was made, and gauges of its tables. A snapshot: cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets passed in.
    pub packets: u64,
    /// Packets forwarded.
    pub forwarded: u64,
    /// Packets answered with a RST or an ICMP error.
    pub replied: u64,
    /// Fragments held until their first one comes.
    pub held: u64,
    /// RSTs made, answers and announced ones together.
    pub resets: u64,
    /// ICMP errors made.
    pub icmp_errors: u64,
    /// Flows made.
    pub flows_created: u64,
    /// Flows ended by idleness.
    pub flows_expired: u64,
    /// Flows evicted because the table was full.
    pub flows_evicted: u64,
    /// UDP flows cleared because their endpoint no longer serves (D-080).
    pub flows_cleared: u64,
    /// Flows ended because one of their ends left the network (D-090).
    pub flows_severed: u64,
    /// Direct packets forwarded without a record because the table was full.
    pub untracked: u64,
    /// Flows that got another source port because theirs was taken (D-119).
    pub ports_changed: u64,
    /// New clients not recorded for session affinity because its table was full.
    pub affinity_limit: u64,
    /// Fragmented datagrams forgotten because there were too many.
    pub fragments_evicted: u64,
    /// Held fragments whose first one never came.
    pub fragments_expired: u64,
    /// Packets of our own lost because too many were waiting.
    pub pending_limit: u64,
    /// Flows now in the table.
    pub flows: usize,
    /// Session affinity records now in the table.
    pub affinities: usize,
    /// Fragmented datagrams now under way.
    pub fragmented: usize,
    /// Flows to the outside that now wait for the relay.
    pub dials: usize,
    /// Packets of our own that now wait to be sent.
    pub pending: usize,
    drops: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// How many packets were dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }

    /// Every reason with its count, in a fixed order.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.dropped(reason)))
    }

    pub(crate) fn verdict(&mut self, verdict: Verdict) {
        self.packets += 1;
        match verdict {
            Verdict::Forward(_) => self.forwarded += 1,
            Verdict::Reply => self.replied += 1,
            Verdict::Held => self.held += 1,
            Verdict::Drop(reason) => {
                if let Some(count) = self.drops.get_mut(reason as usize) {
                    *count += 1;
                }
            }
        }
    }
}
