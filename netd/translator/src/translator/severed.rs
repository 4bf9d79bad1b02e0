//! What is remembered of flows that ended because somebody left.

use std::collections::VecDeque;

use crate::flow::{FlowRecord, FlowState};

/// How many flows of each sort are remembered: enough for every connection of a busy pod that is killed.
const LIMIT: usize = 1024;

/// The flows that were severed last, for people who ask why a connection broke. The oldest is forgotten first.
///
/// A busy pod leaves thousands of connections that both sides had closed. Those have a place of their own, so that they do
/// not push out the broken ones. They are kept at all because a killed server's kernel closes in order, too: to the client
/// that is a connection closed without an answer.
#[derive(Debug, Default)]
pub(super) struct Severed {
    broken: VecDeque<FlowRecord>,
    closed: VecDeque<FlowRecord>,
}

impl Severed {
    pub(super) fn remember(&mut self, flow: FlowRecord) {
        let flows = if flow.state == FlowState::TimeWait { &mut self.closed } else { &mut self.broken };
        if flows.len() == LIMIT {
            flows.pop_front();
        }
        flows.push_back(flow);
    }

    /// The closed ones, then the broken ones, each the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &FlowRecord> {
        self.closed.iter().chain(&self.broken)
    }
}
