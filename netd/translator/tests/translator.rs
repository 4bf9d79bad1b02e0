//! The translator seen from outside: whole packets in, whole packets out, and a clock that the tests own. With IPv4; the same
//! tests run with IPv6 in `translator6.rs`.
//!
//! Comments above tests, and labels of table rows, name the statements of `docs/behaviour/dataplane.md` they prove.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

/// Whether hosts have IPv6 addresses.
const IPV6: bool = false;

#[path = "translator/addresses.rs"]
mod addresses;
#[path = "translator/balancer.rs"]
mod balancer;
#[path = "translator/choice.rs"]
mod choice;
#[path = "translator/corpus.rs"]
mod corpus;
#[path = "translator/flows.rs"]
mod flows;
#[path = "translator/fragments.rs"]
mod fragments;
#[path = "translator/header4.rs"]
mod header4;
#[path = "translator/icmp.rs"]
mod icmp;
#[path = "translator/lab.rs"]
mod lab;
#[path = "translator/model.rs"]
mod model;
#[path = "translator/properties.rs"]
mod properties;
#[path = "translator/relay.rs"]
mod relay;
#[path = "translator/scale.rs"]
mod scale;
#[path = "translator/sctp.rs"]
mod sctp;
#[path = "translator/topology.rs"]
mod topology;
#[path = "translator/traced.rs"]
mod traced;
#[path = "translator/updates.rs"]
mod updates;
#[path = "translator/verdicts.rs"]
mod verdicts;
#[path = "translator/wire.rs"]
mod wire;
