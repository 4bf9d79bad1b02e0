//! The server on loopback sockets, asked over the wire.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as WireName, RData, RecordType};
use minisvc_zone::{EndpointEntry, Name, ServiceEntry, ServiceKind, Zone, ZoneConfig, ZoneInput};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::forward::Forwarder;
use crate::server::Server;
use crate::stats::{Count, Counters};

mod floods;

const PATIENCE: Duration = Duration::from_secs(20);

fn zone() -> Zone {
    let config = ZoneConfig {
        domain: Name::new("cluster.local"),
        ttl: 5,
        reverse: vec!["10.96.0.0/16".parse().expect("a range")],
        servers: vec![Ipv4Addr::new(10, 96, 0, 10).into()],
        hosts: vec![],
        reverse_falls_through: true,
    };
    let service =
        |name: &str, kind| ServiceEntry { namespace: "default".into(), name: name.into(), kind, ports: vec![] };
    let endpoints = (1..=200u8).map(|number| EndpointEntry {
        namespace: "default".into(),
        service: "many".into(),
        address: Ipv4Addr::new(10, 244, 0, number).into(),
        hostname: None,
        ports: vec![],
    });
    Zone::build(
        config,
        ZoneInput {
            namespaces: ["default".to_owned()].into(),
            services: vec![
                service("web", ServiceKind::ClusterIp(vec![Ipv4Addr::new(10, 96, 0, 9).into()])),
                service("many", ServiceKind::Headless),
                service("docs", ServiceKind::ExternalName("docs.example.com".into())),
            ],
            endpoints: endpoints.collect(),
            changed: 1,
            complete: true,
        },
    )
}

struct Running {
    address: SocketAddr,
    server: Arc<Server>,
    _shutdown: DropGuard,
}

impl Running {
    fn count(&self, count: Count) -> u64 {
        self.server.counters().of(count)
    }
}

async fn start(upstreams: Vec<SocketAddr>) -> Running {
    start_with(upstreams, vec![]).await
}

/// A port that is free for both transports.
async fn same_port() -> (TcpListener, UdpSocket, SocketAddr) {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        // Another test may have it for UDP.
        if let Ok(socket) = UdpSocket::bind(address).await {
            return (listener, socket, address);
        }
    }
    panic!("no port is free for TCP and UDP");
}

/// A server on loopback. Upstreams may be its own address, named by port 0.
async fn start_with(upstreams: Vec<SocketAddr>, stubs: Vec<(&str, SocketAddr)>) -> Running {
    let (listener, socket, address) = same_port().await;
    let own = |upstream: SocketAddr| if upstream.port() == 0 { address } else { upstream };
    let upstreams: Vec<SocketAddr> = upstreams.into_iter().map(own).collect();
    let stubs: Vec<_> = stubs.into_iter().map(|(domain, server)| (domain.to_owned(), vec![own(server)])).collect();
    let counters = Arc::new(Counters::default());
    let forwarder = Forwarder::new(&upstreams, &stubs, Arc::clone(&counters));
    let shutdown = CancellationToken::new();
    let server = Server::new(Arc::new(ArcSwap::from_pointee(zone())), forwarder, counters, shutdown.clone());
    tokio::spawn(Arc::clone(&server).run(vec![socket], vec![listener]));
    Running { address, server, _shutdown: shutdown.drop_guard() }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(WireName::from_ascii(name).expect("a legal name"), kind));
    message
}

async fn udp_bytes(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    socket.send_to(bytes, server).await.expect("sent");
    let mut answer = vec![0; 65_535];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await.expect("in time").expect("received");
    answer.truncate(length);
    answer
}

async fn udp(server: SocketAddr, question: &Message) -> Message {
    let bytes = udp_bytes(server, &question.to_vec().expect("encoded")).await;
    Message::from_vec(&bytes).expect("well formed")
}

async fn tcp(server: SocketAddr, questions: &[Message]) -> Vec<Message> {
    let mut stream = TcpStream::connect(server).await.expect("connected");
    let mut answers = Vec::new();
    for question in questions {
        let bytes = question.to_vec().expect("encoded");
        stream.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("sent");
        stream.write_all(&bytes).await.expect("sent");
    }
    for _ in questions {
        let length = tokio::time::timeout(PATIENCE, stream.read_u16()).await.expect("in time").expect("received");
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.expect("received");
        answers.push(Message::from_vec(&answer).expect("well formed"));
    }
    answers
}

fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let mut found: Vec<Ipv4Addr> = message
        .answers
        .iter()
        .filter_map(|record| if let RData::A(address) = &record.data { Some(address.0) } else { None })
        .collect();
    found.sort();
    found
}

// N-003, N-005, N-070
#[tokio::test]
async fn the_same_answers_come_over_udp_and_tcp_and_are_authoritative() {
    let server = start(vec![]).await;
    let web = question("web.default.svc.cluster.local.", RecordType::A);
    let over_udp = udp(server.address, &web).await;
    let over_tcp = tcp(server.address, &[web, question("x.cluster.local.", RecordType::A)]).await;
    for answer in [&over_udp, &over_tcp[0]] {
        assert_eq!(addresses(answer), [Ipv4Addr::new(10, 96, 0, 9)]);
        assert!(answer.metadata.authoritative);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    }
    assert_eq!(over_tcp[1].metadata.response_code, ResponseCode::NXDomain, "several questions over one connection");
    assert_eq!(over_tcp[1].authorities.len(), 1, "with the SOA");
}

// N-046, N-066, N-071
#[tokio::test]
async fn what_does_not_fit_is_truncated_and_comes_whole_over_tcp() {
    let server = start(vec![]).await;
    let many = question("many.default.svc.cluster.local.", RecordType::A);
    let short = udp(server.address, &many).await;
    assert!(short.metadata.truncation);
    assert!(!addresses(&short).is_empty() && addresses(&short).len() < 200, "a part of them");
    let bytes = udp_bytes(server.address, &many.to_vec().expect("encoded")).await;
    assert!(bytes.len() <= 512, "{} bytes without EDNS", bytes.len());
    let mut larger = many.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    larger.set_edns(edns);
    let long = udp_bytes(server.address, &larger.to_vec().expect("encoded")).await;
    assert!((513..=4096).contains(&long.len()), "{} bytes with EDNS", long.len());
    let whole = tcp(server.address, &[many]).await;
    assert_eq!(addresses(&whole[0]).len(), 200);
    assert!(!whole[0].metadata.truncation);
}

// N-067
#[tokio::test]
async fn edns_is_answered_only_to_those_who_ask_with_it() {
    let server = start(vec![]).await;
    let mut web = question("web.default.svc.cluster.local.", RecordType::A);
    assert!(udp(server.address, &web).await.edns.is_none());
    let mut edns = Edns::new();
    edns.set_version(1);
    web.set_edns(edns);
    let refused = udp(server.address, &web).await;
    // The library reads 16 as BADSIG, which shares the number but is only used in signed messages (RFC 6895).
    assert_eq!(u16::from(refused.metadata.response_code), u16::from(ResponseCode::BADVERS));
    assert!(refused.edns.is_some() && refused.answers.is_empty());
}

// N-014, N-068
#[tokio::test]
async fn what_is_no_question_is_told_so() {
    let server = start(vec![]).await;
    let mut notify = question("web.default.svc.cluster.local.", RecordType::A);
    notify.metadata.op_code = OpCode::Status;
    let mut chaos = question("web.default.svc.cluster.local.", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut two = question("web.default.svc.cluster.local.", RecordType::A);
    two.add_query(Query::query(WireName::root(), RecordType::A));
    for (message, code) in [
        (notify, ResponseCode::NotImp),
        (chaos, ResponseCode::Refused),
        (two, ResponseCode::FormErr),
        (question("cluster.local.", RecordType::AXFR), ResponseCode::Refused),
    ] {
        assert_eq!(udp(server.address, &message).await.metadata.response_code, code, "{message:?}");
    }
    let mut cut = question("web.default.svc.cluster.local.", RecordType::A).to_vec().expect("encoded");
    cut.truncate(20);
    // Names that point into the header, which is another one in the answer.
    let mut pointing = question(".", RecordType::A).to_vec().expect("encoded");
    pointing.splice(12..13, [0xc0, 0x0a]);
    let mut claiming = cut.clone();
    claiming[4..6].fill(0xff);
    for bytes in [cut, pointing, claiming] {
        let answer = Message::from_vec(&udp_bytes(server.address, &bytes).await).expect("well formed");
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr, "{bytes:02x?}");
    }
}

// N-015
#[tokio::test]
async fn addresses_come_in_another_order_each_time() {
    let server = start(vec![]).await;
    let many = question("many.default.svc.cluster.local.", RecordType::A);
    let mut orders = std::collections::HashSet::new();
    for answer in tcp(server.address, &vec![many; 5]).await {
        orders.insert(format!("{:?}", answer.answers.iter().map(|record| record.data.clone()).collect::<Vec<_>>()));
    }
    assert!(orders.len() > 1);
}

/// An upstream on loopback.
struct Upstream {
    address: SocketAddr,
    /// Questions that it was asked.
    asked: Arc<AtomicUsize>,
}

/// One that answers every question with this address; over UDP it leaves it out for names with `cut` in them.
async fn upstream_saying(answer: [u8; 4]) -> Upstream {
    let (listener, socket, address) = same_port().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let reply = move |bytes: &[u8], cut: bool| {
        let mut message = Message::from_vec(bytes).expect("a question");
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name().clone();
        if cut && name.to_ascii().contains("cut") {
            message.metadata.truncation = true;
        } else {
            let data = RData::A(hickory_proto::rr::rdata::A(answer.into()));
            message.add_answer(hickory_proto::rr::Record::from_rdata(name, 60, data));
        }
        message.to_vec().expect("encoded")
    };
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
            count.fetch_add(1, Ordering::Relaxed);
            socket.send_to(&reply(&bytes[..length], true), from).await.expect("sent");
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
            stream.read_exact(&mut bytes).await.expect("a question");
            let answer = reply(&bytes, false);
            stream.write_u16(u16::try_from(answer.len()).expect("short")).await.expect("sent");
            stream.write_all(&answer).await.expect("sent");
        }
    });
    Upstream { address, asked }
}

async fn upstream() -> SocketAddr {
    upstream_saying([192, 0, 2, 1]).await.address
}

// N-050, N-072
#[tokio::test]
async fn other_names_and_targets_of_aliases_are_asked_of_the_upstream() {
    let server = start(vec![upstream().await]).await;
    let other = udp(server.address, &question("www.example.com.", RecordType::A)).await;
    assert_eq!(addresses(&other), [Ipv4Addr::new(192, 0, 2, 1)]);
    assert!(!other.metadata.authoritative);
    let docs = udp(server.address, &question("docs.default.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(docs.answers[0].record_type(), RecordType::CNAME);
    assert_eq!(addresses(&docs), [Ipv4Addr::new(192, 0, 2, 1)]);
}

// N-051
#[tokio::test]
async fn without_an_upstream_other_names_are_refused_and_aliases_stand_alone() {
    let none = start(vec![]).await;
    let other = udp(none.address, &question("www.example.com.", RecordType::A)).await;
    assert_eq!(other.metadata.response_code, ResponseCode::Refused);
    let docs = udp(none.address, &question("docs.default.svc.cluster.local.", RecordType::A)).await;
    assert_eq!((docs.answers.len(), docs.metadata.response_code), (1, ResponseCode::NoError));
    // A port that nobody listens on refuses at once.
    let closed = UdpSocket::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let dead = start(vec![closed]).await;
    let other = udp(dead.address, &question("www.example.com.", RecordType::A)).await;
    assert_eq!(other.metadata.response_code, ResponseCode::ServFail);
    let both = start(vec![closed, upstream().await]).await;
    for _ in 0..8 {
        let other = udp(both.address, &question("www.example.com.", RecordType::A)).await;
        assert_eq!(other.metadata.response_code, ResponseCode::NoError, "the next one is tried");
    }
}

#[tokio::test]
async fn a_loop_is_noticed_instead_of_going_on_for_ever() {
    let server = start(vec!["127.0.0.1:0".parse().expect("an address")]).await;
    let asked = udp(server.address, &question("www.example.com.", RecordType::A)).await;
    assert_eq!(asked.metadata.response_code, ResponseCode::Refused);
    let again = udp(server.address, &question("www.example.org.", RecordType::A)).await;
    assert_eq!(again.metadata.response_code, ResponseCode::Refused);
    let own = udp(server.address, &question("web.default.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(own.metadata.response_code, ResponseCode::NoError, "the cluster's names go on");
}

#[tokio::test]
async fn a_loop_of_one_domain_leaves_the_others_alone() {
    let server = start_with(vec![upstream().await], vec![("corp", "127.0.0.1:0".parse().expect("an address"))]).await;
    for name in ["a.corp.", "b.corp."] {
        let answer = udp(server.address, &question(name, RecordType::A)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name}");
    }
    assert_eq!(server.count(Count::Loop), 1, "the second one was not passed on any more");
    let other = udp(server.address, &question("www.example.com.", RecordType::A)).await;
    assert_eq!(other.answers.len(), 1);
}

// N-078
#[tokio::test]
async fn names_of_a_stub_domain_are_asked_of_its_own_server() {
    let (all, corp, dev) = tokio::join!(upstream(), upstream_saying([192, 0, 2, 2]), upstream_saying([192, 0, 2, 3]));
    let server = start_with(vec![all], vec![("corp.example", corp.address), ("Dev.corp.example.", dev.address)]).await;
    for (name, last) in [
        ("www.example.", 1),
        ("corp.example.", 2),
        ("git.CORP.example.", 2),
        ("git.dev.corp.example.", 3),
        ("xcorp.example.", 1),
    ] {
        let answer = udp(server.address, &question(name, RecordType::A)).await;
        assert_eq!(addresses(&answer), [Ipv4Addr::new(192, 0, 2, last)], "{name}");
    }
    let alone = start_with(vec![], vec![("corp.example", corp.address)]).await;
    let other = udp(alone.address, &question("www.example.", RecordType::A)).await;
    assert_eq!(other.metadata.response_code, ResponseCode::Refused, "nobody to ask about others");
}

// N-074
#[tokio::test]
async fn what_an_upstream_cuts_off_is_passed_on_as_cut_off_and_comes_whole_over_tcp() {
    let upstream = upstream_saying([192, 0, 2, 1]).await;
    let server = start(vec![upstream.address]).await;
    let cut = question("cut.example.", RecordType::A);
    for _ in 0..2 {
        let short = udp(server.address, &cut).await;
        assert!(short.metadata.truncation && short.answers.is_empty(), "and it is not remembered");
    }
    assert_eq!(upstream.asked.load(Ordering::Relaxed), 2);
    let whole = tcp(server.address, &[cut]).await;
    assert_eq!((whole[0].metadata.truncation, whole[0].answers.len()), (false, 1));
}

// N-008, N-076
#[tokio::test]
async fn an_upstream_is_asked_once_for_what_is_asked_often() {
    let upstream = upstream_saying([192, 0, 2, 1]).await;
    let server = start(vec![upstream.address]).await;
    for name in ["www.example.com.", "WWW.example.com.", "www.Example.com."] {
        let answer = udp(server.address, &question(name, RecordType::A)).await;
        assert_eq!(answer.answers[0].name.to_ascii(), name);
        assert!(answer.answers[0].ttl <= 30, "{answer:?}");
    }
    tcp(server.address, &[question("www.example.com.", RecordType::A)]).await;
    assert_eq!(upstream.asked.load(Ordering::Relaxed), 1);
    assert_eq!((server.count(Count::CacheMiss), server.count(Count::CacheHit)), (1, 3));
    for _ in 0..2 {
        udp(server.address, &question("web.default.svc.cluster.local.", RecordType::A)).await;
    }
    assert_eq!(server.count(Count::CacheMiss), 1, "the cluster's own names are not the cache's");
}
