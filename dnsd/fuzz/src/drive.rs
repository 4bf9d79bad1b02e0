//! Gives the server bytes of a stranger's choosing, and checks what must hold whatever they are.
//!
//! Used by the fuzz target, and by an ordinary test that replays the corpus.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::RecordType;
use minisvc_dnsd::{Protocol, answer_alone};
use minisvc_zone::{EndpointEntry, Name, PortEntry, ServiceEntry, ServiceKind, Zone, ZoneConfig, ZoneInput};

/// Bytes of a header: what is shorter has no answer.
const HEADER: usize = 12;

/// The third byte of an answer has this bit.
const RESPONSE: u8 = 0x80;

/// Runs one message: the first byte says how it comes, the rest is what comes.
///
/// # Panics
/// When the server does what it must never do.
pub fn message(data: &[u8]) {
    static ZONE: OnceLock<Zone> = OnceLock::new();
    let Some((&how, bytes)) = data.split_first() else { return };
    let transport = if how & 1 == 0 { Protocol::Udp } else { Protocol::Tcp };
    let answer = answer_alone(ZONE.get_or_init(zone), bytes, transport);
    if bytes.len() < HEADER || bytes[2] & RESPONSE != 0 {
        assert!(answer.is_none(), "no question, and yet an answer");
        return;
    }
    let answer = answer.expect("a whole header has an answer");
    let read = Message::from_vec(&answer).expect("an answer that can be read");
    assert_eq!(answer[..2], bytes[..2], "the identifier of the question");
    assert_eq!(read.metadata.message_type, MessageType::Response);
    let question = Message::from_vec(bytes).ok().filter(|question| question.queries.len() == 1);
    let room = match (transport, question.as_ref().and_then(|question| question.edns.as_ref())) {
        (Protocol::Udp, None) => 512,
        (Protocol::Udp, Some(edns)) => usize::from(edns.max_payload().clamp(512, 4096)),
        _ => usize::from(u16::MAX),
    };
    assert!(answer.len() <= room, "{} bytes for {room}", answer.len());
    let Some(question) = question else {
        assert!(
            matches!(read.metadata.response_code, ResponseCode::FormErr | ResponseCode::NotImp) || read.edns.is_some()
        );
        assert!(read.answers.is_empty());
        return;
    };
    let kind = question.queries[0].query_type();
    let fits = |found: RecordType| found == kind || found == RecordType::CNAME;
    assert!(read.answers.iter().all(|record| fits(record.record_type())), "{read:?}");
    if !read.answers.is_empty() {
        assert_eq!(read.queries, question.queries, "the question is repeated");
        assert_eq!(read.edns.is_some(), question.edns.is_some(), "EDNS for EDNS");
    }
}

/// Every kind of Service, one with more endpoints than fit in a datagram.
fn zone() -> Zone {
    let service = |name: &str, kind: ServiceKind| ServiceEntry {
        namespace: "default".into(),
        name: name.into(),
        kind,
        ports: vec![PortEntry { name: "http".into(), protocol: "tcp".into(), port: 80 }],
    };
    let endpoints = (0..=255).map(|number| EndpointEntry {
        namespace: "default".into(),
        service: "many".into(),
        address: Ipv4Addr::new(10, 244, 0, number).into(),
        hostname: None,
        ports: vec![PortEntry { name: "http".into(), protocol: "tcp".into(), port: 8080 }],
    });
    let both: Vec<IpAddr> =
        vec![Ipv4Addr::new(10, 96, 0, 9).into(), Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 9).into()];
    let config = ZoneConfig {
        domain: Name::new("cluster.local"),
        ttl: 5,
        reverse: vec!["10.96.0.0/16".parse().expect("a range"), "10.244.0.0/16".parse().expect("a range")],
        servers: vec![Ipv4Addr::new(10, 96, 0, 10).into()],
        hosts: vec![(Name::new("host.minisvc.internal"), vec![Ipv4Addr::new(10, 95, 0, 254).into()])],
        reverse_falls_through: true,
    };
    Zone::build(
        config,
        ZoneInput {
            namespaces: ["default".to_owned()].into(),
            services: vec![
                service("web", ServiceKind::ClusterIp(both)),
                service("many", ServiceKind::Headless),
                service("docs", ServiceKind::ExternalName("docs.example.com".into())),
                service("odd", ServiceKind::ExternalName("no name at all, but \\ what ..".into())),
                service("loop", ServiceKind::ExternalName("loop.default.svc.cluster.local".into())),
            ],
            endpoints: endpoints.collect(),
            changed: 1,
            complete: true,
        },
    )
}
