//! Questions to the worker: what it has counted, and which flows it has.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use minisvc_translator::{FlowRecord, Translator};

use crate::Netd;
use crate::worker::{Command, Flows, Stats};

/// How long a question to the worker may take before it counts as unanswered.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Places of the flow table that are looked at in one go: packets wait for less than half a millisecond.
const PLACES_AT_ONCE: usize = 8192;

impl Netd {
    /// What was counted so far. All zero when the worker does not answer.
    pub fn stats(&self) -> Stats {
        let look =
            |translator: &Translator, stats: &Stats| Stats { translator: translator.counters(), ..stats.clone() };
        self.look(look).unwrap_or_default()
    }

    /// The flows that `wanted` likes: the newest `limit` current ones, and as many of those severed last. `wanted` must be
    /// quick, because packets wait while a part of the flows is looked at. Empty when the worker does not answer.
    pub fn flows(&self, limit: usize, wanted: impl Fn(&FlowRecord) -> bool + Send + Sync + 'static) -> Flows {
        let wanted = Arc::new(wanted);
        let mut current: Vec<FlowRecord> = Vec::new();
        let likes = Arc::clone(&wanted);
        self.look_through(
            move |flows| flows.filter(|flow| likes(flow)).collect::<Vec<_>>(),
            |mut some| {
                current.append(&mut some);
                if current.len() / 2 > limit {
                    keep_newest(&mut current, limit);
                }
            },
        );
        keep_newest(&mut current, limit);
        current.sort_by_key(|flow| flow.created);
        let severed = self.look(move |translator, _| {
            let mut severed: Vec<FlowRecord> = translator.severed().filter(|flow| wanted(flow)).cloned().collect();
            severed.drain(..severed.len().saturating_sub(limit));
            severed
        });
        Flows { current, severed: severed.unwrap_or_default() }
    }

    /// Passes all flows through `look` on the worker, in pieces between which packets go on, and hands what it returns to
    /// `take`. Ends early when the worker does not answer.
    pub(crate) fn look_through<T: Send + 'static>(
        &self,
        look: impl Fn(&mut dyn Iterator<Item = FlowRecord>) -> T + Send + Sync + 'static,
        mut take: impl FnMut(T),
    ) {
        let look = Arc::new(look);
        let mut from = 0;
        loop {
            let (look, to) = (Arc::clone(&look), from + PLACES_AT_ONCE);
            let seen = self
                .look(move |translator, _| (look(&mut translator.flows_in(from..to)), to < translator.flow_places()));
            let Some((seen, more)) = seen else { return };
            take(seen);
            if !more {
                return;
            }
            from = to;
        }
    }

    /// Runs `look` on the worker between two batches of packets. `None` when the worker does not answer.
    pub(crate) fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Translator, &Stats) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = sync_channel(1);
        let look = move |translator: &Translator, stats: &Stats| {
            // Whoever asked and has gone away meanwhile does not need the answer.
            let _ = reply.try_send(look(translator, stats));
        };
        self.shared.mailbox.send(Command::Look(Box::new(look)));
        answer.recv_timeout(ANSWER_WITHIN).ok()
    }
}

/// Keeps the `limit` flows that began last.
fn keep_newest(flows: &mut Vec<FlowRecord>, limit: usize) {
    if flows.len() > limit {
        // Of equal ones it does not matter which go.
        flows.select_nth_unstable_by_key(limit, |flow| std::cmp::Reverse(flow.created));
        flows.truncate(limit);
    }
}
