//! What happens to a packet: a pure state machine.
//!
//! It owns the flow table, and decides for every packet between the namespaces of a lab where it goes and how it is
//! rewritten. It has no socket, no clock and no task: the caller passes packets and the time in, and carries the
//! verdicts out. What a Service is, and which endpoints it has, comes in as an immutable [`ServiceTable`].
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//! use minisvc_translator::*;
//!
//! // A client, and a Service with one endpoint.
//! let mut table = ServiceTable::new();
//! let node = table.add_node(Node {
//!     name: "node-1".into(),
//!     addresses: vec!["10.95.0.11".parse()?],
//!     zone: None,
//!     balanced: true,
//! });
//! table.add_route("10.95.0.1".parse()?, Route { port: PortId(1), role: Role::Workstation });
//! table.add_route("10.244.0.10".parse()?, Route { port: PortId(2), role: Role::Pod { node } });
//! let id = ServicePortId {
//!     namespace: "default".into(),
//!     service: "dns".into(),
//!     port: "".into(),
//!     protocol: Protocol::Udp,
//! };
//! let endpoint = Endpoint {
//!     addr: "10.244.0.10".parse()?,
//!     port: 8053,
//!     ready: true,
//!     serving: true,
//!     terminating: false,
//!     node: Some(node),
//!     hints: None,
//! };
//! let service = ServicePort::new(id, Policies::default(), vec![endpoint]);
//! let frontend = Frontend { addr: "10.96.0.50".parse()?, protocol: Protocol::Udp, port: 53 };
//! table.add_frontend(frontend, FrontendKind::ClusterIp, Arc::new(service));
//!
//! let mut translator = Translator::new(Limits::default());
//! translator.install(Arc::new(table), Instant::now());
//!
//! // The client asks the Service, and the endpoint gets the question.
//! let mut packet = [
//!     0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 95, 0, 1, 10, 96, 0, 50, // IPv4
//!     0x9c, 0x40, 0, 53, 0, 8, 0, 0, // UDP
//! ];
//! let len = packet.len();
//! let verdict = translator.handle(PortId(1), &mut PacketBuf::new(&mut packet, len, Checksum::Full), Instant::now());
//! assert_eq!(verdict, Verdict::Forward(PortId(2)));
//! assert_eq!(packet[16..20], [10, 244, 0, 10]);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
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
mod service_port;
mod table;
mod trace;
mod translator;
mod tuple;
mod verdict;

pub use affinity::AffinityRecord;
pub use counters::Counters;
pub use flow::{FlowRecord, FlowState};
pub use limits::{Limits, Timeouts};
pub use packet::{Checksum, PacketBuf};
pub use service_port::{Endpoint, Hints, Policies, ServicePort, ServicePortId, TrafficPolicy};
pub use table::{Frontend, FrontendKind, Node, NodeId, PortId, Relay, Role, Route, ServiceTable, Target};
pub use trace::{Answer, Choice, FlowNote, Frames, PacketHead, Scope, TraceEnd, TraceLevel, Traced};
pub use translator::{Dial, DialAnswer, Translator};
pub use tuple::{Protocol, Tuple};
pub use verdict::{DropReason, Verdict};
