//! What the answer to a DNS query is: a pure function of a zone and a question.
//!
//! It knows the records of the cluster domain, as the Kubernetes DNS specification 1.1.0 defines them. It has no socket
//! and no clock, and it does not know the wire format: the server around it does. The numbers `N-…` in comments are the
//! statements of `docs/behaviour/dns.md`.

mod answer;
mod build;
mod builder;
mod index;
mod lookup;
mod name;
mod reverse;

pub use answer::{Answer, Code, Outcome, Record, RecordData, RecordType};
pub use build::{EndpointEntry, PortEntry, ServiceEntry, ServiceKind, Zone, ZoneConfig, ZoneInput};
pub use builder::{Key, ZoneBuilder};
pub use name::Name;
