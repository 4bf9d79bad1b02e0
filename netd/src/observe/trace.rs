//! Decisions about packets as they are made, in words.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use minisvc_translator::{Answer, Choice, DropReason, FlowNote, Scope, TraceEnd, TraceLevel, Traced};
use serde::Serialize;

use super::{Clocks, NameMatch, Place, Places};
use crate::Netd;
use crate::trace::{Batch, Decisions, Wanted, look_on};

/// How many may look on at once.
pub const MAX_TRACES: usize = 16;

/// What is wanted: decisions that fit everything that is said.
#[derive(Debug, Clone, Default)]
pub struct TraceQuery {
    /// About packets to and from this Service.
    pub service: Option<NameMatch>,
    /// From or to this pod.
    pub pod: Option<NameMatch>,
    /// From or to this node or one of its pods.
    pub node: Option<String>,
    /// To or from this port, at the client, the Service or the endpoint.
    pub port: Option<u16>,
    /// Every packet, not only those that begin a flow or are refused.
    pub packets: bool,
    /// Only packets that were refused or dropped.
    pub drops: bool,
    /// With the packets themselves, before and after.
    pub frames: bool,
}

/// One decision, as people are shown it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceLine {
    /// When it was made.
    pub time: Timestamp,
    /// `flow`: a packet began one; `packet`: one more of a flow, or of none; `refused`: its sender was answered; `dropped`;
    /// `made`: a packet of the data plane's own; `lost`: so many decisions could not be told.
    pub event: &'static str,
    /// How many were lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// TCP, UDP, … or the number of another protocol.
    pub protocol: String,
    /// Where the packet came from; for one of the data plane's own, where it goes.
    pub from: Option<Place>,
    /// Its source, with a port if it has one.
    pub source: Option<String>,
    /// Its destination, likewise.
    pub destination: Option<String>,
    /// The flags of a TCP segment, such as `SYN,ACK`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub flags: String,
    /// Its length in bytes.
    pub length: usize,
    /// `namespace/name:port` of the Service it was sent to, or is an answer of.
    pub service: Option<String>,
    /// As what the Service was reached; only where a flow began or was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frontend: Option<String>,
    /// How the endpoint was chosen; only where one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Chosen>,
    /// Where the client's packets end up.
    pub endpoint: Option<SocketAddr>,
    /// What that is.
    pub to: Option<Place>,
    /// The client as the endpoint sees it, where that is not the client's own address and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_as: Option<SocketAddr>,
    /// Whether the packet goes from the endpoint to the client.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_reply: bool,
    /// What was decided and why, in words.
    pub why: String,
    /// The drop reason's name in the counters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The packet as it came, if that was asked for.
    #[serde(skip)]
    pub before: Option<Vec<u8>>,
    /// As it left, or what its sender was answered.
    #[serde(skip)]
    pub after: Option<Vec<u8>>,
}

/// How an endpoint was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chosen {
    /// `random` or `affinity`.
    pub by: &'static str,
    /// Which endpoints there were to choose from: `all`, `local`, `near-node` or `near-zone`.
    pub scope: &'static str,
    /// Whether none of them was ready, so that those which still serve while they end had to do.
    pub terminating: bool,
    /// How many there were.
    pub candidates: usize,
    /// The first of them.
    pub shown: Vec<SocketAddr>,
}

/// A stream of decisions. It ends the telling when it is dropped.
pub struct Trace {
    decisions: Decisions,
    places: Arc<Mutex<Places>>,
    clocks: Clocks,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

/// Has the data plane tell of its decisions from now on. `None` when too many look on already.
pub fn trace(netd: &Netd, query: TraceQuery) -> Option<Trace> {
    let permit = Arc::clone(&netd.shared.onlookers).try_acquire_owned().ok()?;
    let places = Arc::clone(&netd.shared.places);
    let level = TraceLevel { packets: query.packets, frames: query.frames };
    let decisions = look_on(&netd.shared.mailbox, level, wanted(query, Arc::clone(&places)), permit);
    Some(Trace { decisions, places, clocks: netd.clocks() })
}

impl Trace {
    /// Waits for decisions, and returns those that have been made meanwhile, at least one; `None` when the data plane has ended.
    pub async fn next(&mut self) -> Option<Vec<TraceLine>> {
        let Batch { lost, decisions } = self.decisions.next().await?;
        let lost = (lost > 0).then(|| TraceLine {
            event: "lost",
            lost: Some(lost),
            why: format!("{lost} decisions were lost, because they were not taken fast enough"),
            ..TraceLine::of_nothing(Timestamp::now())
        });
        let told = decisions.iter().map(|decision| {
            // For each anew: the worker may want to ask them for a filter, and must not wait for all of this.
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            TraceLine::of(&decision.traced, &places, self.clocks.time(decision.at))
        });
        Some(lost.into_iter().chain(told).collect())
    }
}

fn wanted(query: TraceQuery, places: Arc<Mutex<Places>>) -> Wanted {
    let TraceQuery { service, pod, node, port, drops, .. } = query;
    let has_place = pod.is_some() || node.is_some();
    let fits_place = move |place: &Place| {
        pod.as_ref().is_none_or(|pod| pod.fits_pod(place)) && (node.is_none() || place.node == node)
    };
    Box::new(move |traced| {
        let tuple = traced.packet.and_then(|packet| packet.tuple);
        let endpoint = traced.flow.endpoint;
        let fits_port = |port: u16| {
            tuple.is_some_and(|tuple| tuple.src_port == port || tuple.dst_port == port)
                || endpoint.is_some_and(|endpoint| endpoint.port() == port)
        };
        let is_drop = matches!(traced.end, TraceEnd::Answered(_) | TraceEnd::Dropped(_));
        (!drops || is_drop)
            && port.is_none_or(fits_port)
            && service.as_ref().is_none_or(|name| traced.flow.service.as_ref().is_some_and(|id| name.fits_service(id)))
            && (!has_place || {
                let places = places.lock().unwrap_or_else(PoisonError::into_inner);
                [Some(traced.from), target(traced)]
                    .into_iter()
                    .flatten()
                    .filter_map(|port| places.get(port))
                    .any(&fits_place)
            })
    })
}

/// The port a packet went to.
fn target(traced: &Traced) -> Option<minisvc_translator::PortId> {
    match traced.end {
        TraceEnd::Forwarded(port) => Some(port),
        TraceEnd::Answered(_) | TraceEnd::Held | TraceEnd::Dropped(_) | TraceEnd::Made => None,
    }
}

impl TraceLine {
    /// A line that says nothing yet.
    #[must_use]
    pub fn of_nothing(time: Timestamp) -> Self {
        Self {
            time,
            event: "packet",
            lost: None,
            protocol: String::new(),
            from: None,
            source: None,
            destination: None,
            flags: String::new(),
            length: 0,
            service: None,
            frontend: None,
            chosen: None,
            endpoint: None,
            to: None,
            seen_as: None,
            is_reply: false,
            why: String::new(),
            reason: None,
            before: None,
            after: None,
        }
    }

    fn of(traced: &Traced, places: &Places, time: Timestamp) -> Self {
        let packet = traced.packet;
        let tuple = packet.and_then(|packet| packet.tuple);
        let ends = tuple.map(|tuple| (tuple.source().to_string(), tuple.destination().to_string()));
        let ends = ends.or_else(|| packet.map(|packet| (packet.src.to_string(), packet.dst.to_string())));
        let flow = &traced.flow;
        let client = tuple.map(|tuple| if flow.is_reply { tuple.destination() } else { tuple.source() });
        let outgoing = flow.outgoing.map(|outgoing| outgoing.source());
        let seen_as = outgoing.filter(|outgoing| !flow.is_reply && Some(*outgoing) != client);
        let (source, destination) = ends.unzip();
        Self {
            event: event(traced),
            protocol: match (tuple, packet) {
                (Some(tuple), _) => tuple.protocol.to_string(),
                (None, Some(packet)) if matches!(packet.protocol, 1 | 58) => "ICMP".to_owned(),
                (None, packet) => packet.map(|packet| packet.protocol.to_string()).unwrap_or_default(),
            },
            from: places.get(traced.from).cloned(),
            source,
            destination,
            flags: packet.map(|packet| flags(packet.tcp_flags)).unwrap_or_default(),
            length: traced.len,
            service: flow.service.as_ref().map(ToString::to_string),
            frontend: flow.frontend.map(|kind| format!("{kind:?}")),
            chosen: flow.choice.as_ref().filter(|_| flow.opened).map(chosen),
            endpoint: flow.endpoint,
            to: target(traced).and_then(|port| places.get(port)).cloned(),
            seen_as,
            is_reply: flow.is_reply,
            why: why(traced, seen_as),
            reason: match traced.end {
                TraceEnd::Dropped(reason) => Some(reason.as_str()),
                _ => None,
            },
            before: traced.frames.as_ref().map(|frames| frames.before.clone()),
            after: traced.frames.as_ref().map(|frames| frames.after.clone()),
            ..Self::of_nothing(time)
        }
    }
}

fn event(traced: &Traced) -> &'static str {
    match traced.end {
        TraceEnd::Answered(_) => "refused",
        TraceEnd::Dropped(_) => "dropped",
        TraceEnd::Made => "made",
        TraceEnd::Forwarded(_) | TraceEnd::Held if traced.flow.opened => "flow",
        TraceEnd::Forwarded(_) | TraceEnd::Held => "packet",
    }
}

fn flags(flags: u8) -> String {
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
    let set = (0..).zip(names).filter(|(bit, _)| flags & (1 << bit) != 0).map(|(_, name)| name);
    set.collect::<Vec<_>>().join(",")
}

fn chosen(choice: &Choice) -> Chosen {
    Chosen {
        by: if choice.by_affinity { "affinity" } else { "random" },
        scope: match choice.scope {
            Scope::All => "all",
            Scope::Local => "local",
            Scope::NearNode => "near-node",
            Scope::NearZone => "near-zone",
        },
        terminating: choice.terminating,
        candidates: choice.candidates,
        shown: choice.shown.clone(),
    }
}

/// What was decided and why, in words.
fn why(traced: &Traced, seen_as: Option<SocketAddr>) -> String {
    let mut why = match traced.end {
        TraceEnd::Answered(answer) => refusal(&traced.flow, answer),
        TraceEnd::Dropped(reason) => drop_reason(reason).to_owned(),
        TraceEnd::Made if traced.packet.is_some_and(|packet| packet.tcp_flags & 4 != 0) => {
            "the connection is ended, because its other end is gone or refuses".to_owned()
        }
        TraceEnd::Made => "a packet that had waited goes on".to_owned(),
        TraceEnd::Forwarded(_) | TraceEnd::Held => match &traced.flow {
            FlowNote { opened: true, choice: Some(choice), .. } => choice_in_words(choice),
            FlowNote { opened: true, .. } => "routed as it is".to_owned(),
            FlowNote { is_reply: true, service: Some(_), .. } => {
                "an answer, from the address that was asked".to_owned()
            }
            FlowNote { service: Some(_), .. } => "to the endpoint of its flow".to_owned(),
            _ => "routed as it is".to_owned(),
        },
    };
    if traced.end == TraceEnd::Held {
        why += if traced.flow.opened { "; waits until the outside has answered" } else { "; waits" };
    }
    if let Some(seen_as) = seen_as.filter(|_| traced.flow.opened) {
        // Writing to a String cannot fail.
        let _ = write!(why, "; seen as {seen_as}");
    }
    why
}

fn choice_in_words(choice: &Choice) -> String {
    let among = match (choice.scope, choice.candidates) {
        (Scope::All, 1) => "the only endpoint".to_owned(),
        (Scope::All, count) => format!("of {count} endpoints"),
        (Scope::Local, 1) => "the only endpoint on its node, by policy Local".to_owned(),
        (Scope::Local, count) => format!("of {count} endpoints on its node, by policy Local"),
        (Scope::NearNode, 1) => "the only endpoint meant for its node".to_owned(),
        (Scope::NearNode, count) => format!("of {count} endpoints meant for its node"),
        (Scope::NearZone, 1) => "the only endpoint meant for its zone".to_owned(),
        (Scope::NearZone, count) => format!("of {count} endpoints meant for its zone"),
    };
    let how = match (choice.by_affinity, choice.candidates) {
        (true, _) => "by session affinity, ",
        (false, 1) => "",
        (false, _) => "at random ",
    };
    let note = if choice.terminating { ", none ready: those that still serve while they end" } else { "" };
    format!("{how}{among}{note}")
}

fn refusal(flow: &FlowNote, answer: Answer) -> String {
    let told = match answer {
        Answer::Reset => "RST",
        Answer::NetUnreachable => "network unreachable",
        Answer::HostUnreachable => "host unreachable",
        Answer::PortUnreachable => "port unreachable",
        Answer::TimeExceeded => "time exceeded",
    };
    let because = match (flow, answer) {
        (FlowNote { choice: Some(choice), .. }, _) if choice.candidates == 0 => "no endpoint is ready",
        (FlowNote { choice: Some(_), .. }, Answer::HostUnreachable) => "the chosen endpoint's pod is gone",
        (FlowNote { service: Some(_), choice: None, endpoint: None, .. }, Answer::Reset) => {
            "the connection is not known, or no more"
        }
        (FlowNote { endpoint: Some(_), .. }, Answer::Reset | Answer::PortUnreachable) => "refused outside of the lab",
        (FlowNote { endpoint: Some(_), .. }, Answer::HostUnreachable) => "there is no way to it outside of the lab",
        (_, Answer::HostUnreachable) => "nobody has the address",
        (_, Answer::NetUnreachable) => "the address is not of the lab, and there is no way outside",
        (_, Answer::TimeExceeded) => "the packet has passed too many routers",
        (_, Answer::Reset | Answer::PortUnreachable) => "the Service has no such port",
    };
    format!("{because} ({told})")
}

fn drop_reason(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Malformed => "it is no whole IP packet",
        DropReason::TinyFragment => "its first fragment is too short for the ports",
        DropReason::Spoofed => "its source address is not its sender's",
        DropReason::LinkLocal => "it is for the link only",
        DropReason::Unroutable => "multicast, broadcast and loopback leave no host",
        DropReason::NoService => "no Service has the address",
        DropReason::NoLocalEndpoint => "policy Local, and no endpoint is on its node though there are others",
        DropReason::SourceRange => "its client is not in loadBalancerSourceRanges",
        DropReason::ServiceIcmp => "nobody answers a ping to a Service",
        DropReason::Unanswerable => "it would be refused, but must not be answered",
        DropReason::UnrelatedIcmp => "it is an error about nothing that is known",
        DropReason::IcmpLimit => "too many errors were sent lately",
        DropReason::FlowLimit => "the flow table is full",
        DropReason::RelayLimit => "too many flows wait for the outside",
        DropReason::NoFreePort => "every source port that was tried is taken",
        DropReason::FragmentLimit => "too many fragments wait for their first one",
        DropReason::FragmentRefused => "its first fragment was refused or dropped",
        DropReason::NoRoom => "its answer does not fit",
    }
}
