//! What happens to a packet: a pure state machine.
//!
//! It owns the flow table, and decides for every packet between the namespaces of a lab where it goes and how it is
//! rewritten. It has no socket, no clock and no task: the caller passes packets and the time in, and carries the
//! verdicts out. What a Service is, and which endpoints it has, comes in as an immutable [`ServiceTable`].
//!
//! The numbers `D-…` in comments are the statements of `docs/behaviour/dataplane.md`.

mod affinity;
mod counters;
mod flow;
mod fragments;
mod hash;
mod limits;
pub mod packet;
mod random;
mod table;
mod translator;
mod tuple;
mod verdict;

pub use counters::Counters;
pub use flow::{FlowRecord, FlowState};
pub use limits::{Limits, Timeouts};
pub use packet::{Checksum, PacketBuf};
pub use table::{
    Endpoint, Frontend, FrontendKind, Node, NodeId, Policies, PortId, Role, Route, ServicePort, ServicePortId,
    ServiceTable, Target, TrafficPolicy,
};
pub use translator::Translator;
pub use tuple::{Protocol, Tuple};
pub use verdict::{DropReason, Verdict};
