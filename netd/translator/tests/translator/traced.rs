//! What is told to those who look on.

use minisvc_translator::{
    Answer, DropReason, FrontendKind, Policies, Scope, TraceEnd, TraceLevel, Traced, TrafficPolicy, Verdict,
};

use crate::lab::{
    A1, A2, ACK, B1, Ep, Lab, NODE_1, SYN, Svc, VIP, WORKSTATION, at, dns, draining, on, ready, real, seen, sock, tcp,
    udp, unready, web,
};

const FLOWS: TraceLevel = TraceLevel { packets: false, frames: false };

fn traced(lab: &mut Lab) -> Vec<Traced> {
    lab.translator.take_traced().0
}

/// What is told of a first packet from this client.
fn first(service: Svc, client: std::net::Ipv4Addr, to: &str) -> Traced {
    let mut lab = Lab::new(&[service]);
    lab.translator.set_trace(Some(FLOWS));
    lab.send(&tcp(on(client, 4000), at(to), SYN));
    let mut told = traced(&mut lab);
    assert_eq!(told.len(), 1, "{told:?}");
    told.remove(0)
}

#[test]
fn how_an_endpoint_was_chosen_is_told() {
    let hinted = |addr, node: &'static [&'static str], zone| Ep { hints: Some((node, zone)), ..ready(addr) };
    let node: &'static [&'static str] = &["node-1"];
    let east: &'static [&'static str] = &["east"];
    let local = Policies { internal: TrafficPolicy::Local, ..Policies::default() };
    type Row<'a> = (&'a str, Svc, Scope, bool, &'a [std::net::Ipv4Addr]);
    let rows: [Row<'_>; 5] = [
        ("all", web(&[ready(A1), ready(A2), unready(B1)]), Scope::All, false, &[A1, A2]),
        ("local", web(&[ready(A1), ready(A2)]).policies(local), Scope::Local, false, &[A1]),
        ("near node", web(&[hinted(A1, node, &[]), hinted(A2, &["node-2"], &[])]), Scope::NearNode, false, &[A1]),
        ("near zone", web(&[hinted(A1, &[], east), hinted(A2, &[], &["west"])]), Scope::NearZone, false, &[A1]),
        ("terminating", web(&[draining(A1), draining(A2)]), Scope::All, true, &[A1, A2]),
    ];
    for (name, service, scope, terminating, candidates) in rows {
        let told = first(service, B1, VIP);
        let choice = told.flow.choice.as_ref().expect("there was a choice");
        assert_eq!((choice.scope, choice.terminating, choice.by_affinity), (scope, terminating, false), "{name}");
        let shown: Vec<_> = candidates.iter().map(|&addr| sock(on(addr, 8080))).collect();
        assert_eq!((choice.candidates, &choice.shown), (shown.len(), &shown), "{name}");
        assert!(told.flow.opened && shown.contains(&told.flow.endpoint.expect("there is one")), "{name}");
        assert!(matches!(told.end, TraceEnd::Forwarded(_)), "{name}: {:?}", told.end);
        assert_eq!(told.flow.frontend, Some(FrontendKind::ClusterIp));
    }
}

#[test]
fn affinity_and_another_source_are_told() {
    let policies = Policies { affinity: Some(std::time::Duration::from_secs(60)), ..Policies::default() };
    let service = web(&[ready(A1), ready(A2)]).policies(policies).at(FrontendKind::NodePort, "10.95.0.11:30080");
    let mut lab = Lab::new(&[service]);
    lab.translator.set_trace(Some(FLOWS));
    for port in [4000, 4001] {
        lab.send(&tcp(on(WORKSTATION, port), at("10.95.0.11:30080"), SYN));
    }
    let told = traced(&mut lab);
    let by_affinity: Vec<bool> = told.iter().filter_map(|told| Some(told.flow.choice.as_ref()?.by_affinity)).collect();
    assert_eq!(by_affinity, [false, true]);
    let outgoing = told[1].flow.outgoing.expect("it went out");
    assert_eq!((outgoing.src, told[1].flow.endpoint), (real(NODE_1), told[0].flow.endpoint), "the node's address");
}

#[test]
fn refusals_say_whose_service_and_why() {
    let mut lab = Lab::new(&[web(&[unready(A1)]), dns(&[])]);
    lab.translator.set_trace(Some(FLOWS));
    let range = Policies { sources: vec![crate::wire::range("192.0.2.0/24")], ..Policies::default() };
    for (seg, end, service) in [
        (tcp(on(B1, 1), at(VIP), SYN), TraceEnd::Answered(Answer::Reset), Some("default/web")),
        (udp(on(B1, 2), at(VIP), b"?"), TraceEnd::Answered(Answer::PortUnreachable), Some("default/dns")),
        (tcp(on(B1, 3), at("10.96.9.9:80"), SYN), TraceEnd::Dropped(DropReason::NoService), None),
        (tcp(on(B1, 4), at("10.244.9.9:80"), SYN), TraceEnd::Answered(Answer::HostUnreachable), None),
        (tcp(on(B1, 5), at("192.0.2.1:80"), SYN), TraceEnd::Answered(Answer::NetUnreachable), None),
    ] {
        lab.send(&seg);
        let told = traced(&mut lab).remove(0);
        assert_eq!((told.end, told.flow.opened), (end, false), "{seg:?}");
        assert_eq!(told.flow.service.map(|id| id.to_string()).as_deref(), service, "{seg:?}");
        assert_eq!(told.packet.and_then(|packet| packet.tuple).map(|tuple| tuple.source()), Some(sock(seg.src)));
    }
    let lb = "10.95.1.7:80";
    let told = first(web(&[ready(A1)]).policies(range).at(FrontendKind::LoadBalancer, lb), WORKSTATION, lb);
    assert_eq!(told.end, TraceEnd::Dropped(DropReason::SourceRange));
    assert_eq!(told.flow.service.map(|id| id.to_string()).as_deref(), Some("default/web"));
}

#[test]
fn packets_are_told_with_their_frames_when_that_is_asked_for() {
    let mut lab = Lab::new(&[web(&[ready(A1)])]);
    lab.translator.set_trace(Some(FLOWS));
    lab.connect(on(B1, 4000), at(VIP));
    assert_eq!(traced(&mut lab).len(), 1, "the first packet of the flow, not the others");
    lab.translator.set_trace(Some(TraceLevel { packets: true, frames: true }));
    let ack = tcp(on(B1, 4000), at(VIP), ACK);
    let out = lab.send(&ack);
    let told = traced(&mut lab).remove(0);
    assert_eq!(told.flow.service.as_ref().map(ToString::to_string).as_deref(), Some("default/web"));
    assert!(!told.flow.opened && !told.flow.is_reply);
    let frames = told.frames.expect("asked for");
    assert_eq!(seen(&frames.before), ack);
    assert_eq!(frames.after, out.bytes);
    lab.send(&seen(&out.bytes).answer(ACK, b"yes"));
    assert!(traced(&mut lab).remove(0).flow.is_reply);

    let answered = lab.send(&tcp(on(B1, 4000), at("10.96.0.50:81"), SYN));
    let frames = traced(&mut lab).remove(0).frames.expect("asked for");
    assert_eq!((answered.verdict, frames.after), (Verdict::Reply, answered.bytes), "the answer is what left");

    lab.hosts.remove(&A1);
    lab.install();
    let made = traced(&mut lab).remove(0);
    assert_eq!((made.end, made.from), (TraceEnd::Made, lab.port_of(B1)), "the end of the connection is announced");
    lab.translator.set_trace(None);
    lab.send(&tcp(on(B1, 4001), at(VIP), SYN));
    assert_eq!(lab.translator.take_traced(), (vec![], 0));
}

#[test]
fn what_nobody_takes_is_lost_and_counted() {
    let mut lab = Lab::new(&[web(&[unready(A1)])]);
    lab.translator.set_trace(Some(FLOWS));
    for port in 0..5000 {
        lab.send(&tcp(on(B1, port), at(VIP), SYN));
    }
    let (told, lost) = lab.translator.take_traced();
    assert_eq!((told.len(), lost), (4096, 904));
    assert_eq!(lab.translator.take_traced(), (vec![], 0));
}
