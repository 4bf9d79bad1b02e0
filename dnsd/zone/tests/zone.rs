//! The zone against the statements of `docs/behaviour/dns.md`.

use std::net::IpAddr;

use minisvc_zone::{
    Answer, Code, EndpointEntry, Name, Outcome, PortEntry, RecordData, RecordType, ServiceEntry, ServiceKind, Zone,
    ZoneConfig, ZoneInput,
};
use proptest::prelude::*;

const NS: &str = "shop";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn port(name: &str, protocol: &str, port: u16) -> PortEntry {
    PortEntry { name: name.into(), protocol: protocol.into(), port }
}

fn service(namespace: &str, name: &str, kind: ServiceKind, ports: Vec<PortEntry>) -> ServiceEntry {
    ServiceEntry { namespace: namespace.into(), name: name.into(), kind, ports }
}

fn endpoint(service: &str, address: &str, hostname: Option<&str>, ports: Vec<PortEntry>) -> EndpointEntry {
    EndpointEntry {
        namespace: NS.into(),
        service: service.into(),
        address: ip(address),
        hostname: hostname.map(str::to_owned),
        ports,
    }
}

fn external(name: &str, target: &str) -> ServiceEntry {
    service(NS, name, ServiceKind::ExternalName(target.into()), vec![port("http", "tcp", 80)])
}

fn zone_of(input: ZoneInput) -> Zone {
    let config = ZoneConfig {
        domain: Name::new("cluster.local"),
        ttl: 30,
        reverse: ["10.96.0.0/16", "10.244.0.0/16"].map(|range| range.parse().expect("a range")).to_vec(),
        servers: vec![ip("10.96.0.10")],
        hosts: vec![(Name::new("host.minisvc.internal"), vec![ip("10.95.0.254")])],
        reverse_falls_through: true,
    };
    Zone::build(config, input)
}

fn input() -> ZoneInput {
    let vip = |address: &str| ServiceKind::ClusterIp(vec![ip(address)]);
    let db = || vec![port("sql", "tcp", 5432), port("", "udp", 99)];
    ZoneInput {
        namespaces: ["default", "kube-system", NS].map(str::to_owned).into(),
        services: vec![
            service("default", "kubernetes", vip("10.96.0.1"), vec![port("https", "tcp", 443)]),
            service("kube-system", "kube-dns", vip("10.96.0.10"), vec![port("dns", "udp", 53)]),
            service(NS, "web", vip("10.96.0.9"), vec![port("http", "tcp", 80), port("dns", "udp", 53)]),
            service(NS, "plain", vip("10.96.0.8"), vec![port("", "tcp", 80)]),
            service(NS, "db", ServiceKind::Headless, vec![port("sql", "tcp", 1)]),
            service(NS, "idle", ServiceKind::Headless, vec![]),
            service(NS, "bare", ServiceKind::Headless, vec![]),
            external("docs", "Docs.example.com."),
            external("alias", "web.shop.svc.cluster.local"),
            external("loop1", "loop2.shop.svc.cluster.local"),
            external("loop2", "loop1.shop.svc.cluster.local"),
            external("quad", "192.0.2.7"),
            external("broken", "nobody.shop.svc.cluster.local"),
        ],
        endpoints: vec![
            endpoint("web", "10.244.0.5", None, vec![port("http", "tcp", 8080)]),
            endpoint("bare", "10.244.1.5", None, vec![]),
            endpoint("db", "10.244.0.5", None, db()),
            endpoint("db", "10.244.0.6", Some("db-0"), db()),
            endpoint("db", "10.244.0.6", Some("db-0"), db()),
            endpoint("db", "10.244.0.7", Some("twin"), db()),
            endpoint("db", "10.244.0.8", Some("twin"), db()),
        ],
        changed: 1_700_000_000,
        complete: true,
    }
}

fn ask(name: &str, kind: RecordType) -> Outcome {
    zone_of(input()).answer(&Name::new(name), kind)
}

fn answer(name: &str, kind: RecordType) -> Answer {
    match ask(name, kind) {
        Outcome::Answer(answer) => answer,
        other => panic!("{name}: {other:?}"),
    }
}

/// The answer in one line: code, then the records without owner and TTL.
fn brief(name: &str, kind: RecordType) -> String {
    let answer = answer(name, kind);
    let code = match answer.code {
        Code::NoError if answer.answers.is_empty() => "NODATA".to_owned(),
        Code::NoError => String::new(),
        other => format!("{other:?}"),
    };
    let records = answer.answers.iter().map(|record| show(&record.data));
    std::iter::once(code).filter(|code| !code.is_empty()).chain(records).collect::<Vec<_>>().join(" ")
}

fn show(data: &RecordData) -> String {
    match data {
        RecordData::A(address) => address.to_string(),
        RecordData::Aaaa(address) => address.to_string(),
        RecordData::Cname(name) => format!("CNAME {name}"),
        RecordData::Srv { weight, port, target, .. } => format!("{weight}/{port}/{target}"),
        RecordData::Ptr(name) => name.to_string(),
        RecordData::Ns(name) => format!("NS {name}"),
        RecordData::Txt(text) => text.clone(),
        RecordData::Soa { mname, .. } => format!("SOA {mname}"),
    }
}

#[test]
fn names_and_what_they_answer() {
    use RecordType::{A, Aaaa, Cname, Ns, Other, Ptr, Srv, Txt};
    let rows = [
        ("N-019", "web.shop.svc.cluster.local", A, "10.96.0.9"),
        ("N-021", "web.shop.svc.cluster.local", Aaaa, "NODATA"),
        ("N-020", "plain.shop.svc.cluster.local", A, "10.96.0.8"),
        ("N-029", "kubernetes.default.svc.cluster.local", A, "10.96.0.1"),
        ("N-010", "dns-version.cluster.local", Txt, "1.1.0"),
        ("N-013", "cluster.local", Ns, "NS kube-dns.kube-system.svc.cluster.local."),
        ("N-013", "ns.dns.cluster.local", A, "10.96.0.10"),
        ("N-013", "ns.dns.cluster.local", Txt, "NODATA"),
        ("N-016", "web.shop.svc.cluster.local", Other, "NODATA"),
        ("N-017", "web.shop.svc.cluster.local", RecordType::Any, "NotImplemented"),
        ("N-018", "*.shop.svc.cluster.local", A, "NxDomain"),
        ("N-018", "any.shop.svc.cluster.local", A, "NxDomain"),
        ("N-022", "_http._tcp.web.shop.svc.cluster.local", Srv, "100/80/web.shop.svc.cluster.local."),
        ("N-022", "_dns._udp.web.shop.svc.cluster.local", Srv, "100/53/web.shop.svc.cluster.local."),
        (
            "N-024",
            "web.shop.svc.cluster.local",
            Srv,
            "100/80/web.shop.svc.cluster.local. 100/53/web.shop.svc.cluster.local.",
        ),
        ("N-024", "plain.shop.svc.cluster.local", Srv, "100/80/plain.shop.svc.cluster.local."),
        ("N-035", "idle.shop.svc.cluster.local", Srv, "NxDomain"),
        ("N-041", "bare.shop.svc.cluster.local", Srv, "NODATA"),
        ("N-044", "10-244-0-5.web.shop.svc.cluster.local", A, "10.244.0.5"),
        ("N-023", "_._tcp.plain.shop.svc.cluster.local", Srv, "NxDomain"),
        ("N-063", "_grpc._tcp.web.shop.svc.cluster.local", Srv, "NxDomain"),
        ("N-063", "_http._udp.web.shop.svc.cluster.local", Srv, "NxDomain"),
        ("N-026", "9.0.96.10.in-addr.arpa", Ptr, "web.shop.svc.cluster.local."),
        ("N-033", "db.shop.svc.cluster.local", A, "10.244.0.5 10.244.0.6 10.244.0.7 10.244.0.8"),
        ("N-035", "idle.shop.svc.cluster.local", A, "NxDomain"),
        ("N-036", "db.shop.svc.cluster.local", Aaaa, "NODATA"),
        ("N-037", "db-0.db.shop.svc.cluster.local", A, "10.244.0.6"),
        ("N-037", "10-244-0-5.db.shop.svc.cluster.local", A, "10.244.0.5"),
        ("N-038", "twin.db.shop.svc.cluster.local", A, "10.244.0.7 10.244.0.8"),
        ("N-042", "6.0.244.10.in-addr.arpa", Ptr, "db-0.db.shop.svc.cluster.local."),
        (
            "N-043",
            "5.0.244.10.in-addr.arpa",
            Ptr,
            "10-244-0-5.db.shop.svc.cluster.local. 10-244-0-5.web.shop.svc.cluster.local.",
        ),
        ("N-050", "alias.shop.svc.cluster.local", A, "CNAME web.shop.svc.cluster.local. 10.96.0.9"),
        ("N-049", "alias.shop.svc.cluster.local", Cname, "CNAME web.shop.svc.cluster.local."),
        ("N-051", "broken.shop.svc.cluster.local", A, "CNAME nobody.shop.svc.cluster.local."),
        ("N-052", "_http._tcp.alias.shop.svc.cluster.local", Srv, "NODATA"),
        ("S-144", "_http._tcp.docs.shop.svc.cluster.local", Srv, "NODATA"),
        ("S-146", "alias.shop.svc.cluster.local", A, "CNAME web.shop.svc.cluster.local. 10.96.0.9"),
        ("S-147", "db.shop.svc.cluster.local", A, "10.244.0.5 10.244.0.6 10.244.0.7 10.244.0.8"),
        ("N-106", "quad.shop.svc.cluster.local", A, "NxDomain"),
        ("N-055", "10-244-0-77.shop.pod.cluster.local", A, "10.244.0.77"),
        ("N-055", "fd00--1.shop.pod.cluster.local", Aaaa, "fd00::1"),
        ("N-056", "10-244-0-77.nowhere.pod.cluster.local", A, "NxDomain"),
        ("N-057", "10-244-077.shop.pod.cluster.local", A, "NxDomain"),
        ("N-058", "pod.cluster.local", A, "NODATA"),
        ("N-058", "shop.pod.cluster.local", A, "NODATA"),
        ("N-058", "hello.shop.pod.cluster.local", A, "NxDomain"),
        ("N-061", "cluster.local", A, "NODATA"),
        ("N-061", "svc.cluster.local", A, "NODATA"),
        ("N-061", "shop.svc.cluster.local", A, "NODATA"),
        ("N-062", "nobody.shop.svc.cluster.local", A, "NxDomain"),
        ("N-062", "web.nowhere.svc.cluster.local", A, "NxDomain"),
        ("N-062", "nowhere.svc.cluster.local", A, "NxDomain"),
        ("N-062", "x.web.shop.svc.cluster.local", A, "NxDomain"),
        ("N-062", "a.b.c.d.e.f.svc.cluster.local", A, "NxDomain"),
        ("N-062", "foo.cluster.local", A, "NxDomain"),
        ("N-064", "web.shop.svc.cluster.local.svc.cluster.local", A, "NxDomain"),
    ];
    for (statement, name, kind, expected) in rows {
        assert_eq!(brief(name, kind), expected, "{statement}: {name} {kind:?}");
    }
}

// N-009, N-012
#[test]
fn every_no_carries_the_soa_and_every_record_the_ttl() {
    for name in ["nobody.shop.svc.cluster.local", "shop.svc.cluster.local"] {
        let no = answer(name, RecordType::A);
        assert_eq!(no.authority.len(), 1, "{name}");
        assert_eq!((no.authority[0].ttl, no.authority[0].name.to_string()), (30, "cluster.local.".to_owned()));
    }
    let yes = answer("web.shop.svc.cluster.local", RecordType::A);
    assert!(yes.authority.is_empty());
    assert_eq!(yes.answers[0].ttl, 30);
    let mut long = input();
    long.namespaces.clear();
    let config = ZoneConfig {
        domain: Name::new("cluster.local"),
        ttl: 3600,
        reverse: vec![],
        servers: vec![],
        hosts: vec![],
        reverse_falls_through: true,
    };
    let Outcome::Answer(no) = Zone::build(config, long).answer(&Name::new("x.cluster.local"), RecordType::A) else {
        panic!("ours")
    };
    assert_eq!(no.authority[0].ttl, 300, "at most five minutes");
}

#[test]
fn the_machine_has_a_name_outside_the_cluster_domain() {
    let found = answer("host.minisvc.internal", RecordType::A);
    assert_eq!(
        found.answers.iter().map(|r| r.data.clone()).collect::<Vec<_>>(),
        [RecordData::A([10, 95, 0, 254].into())]
    );
    let none = answer("host.minisvc.internal", RecordType::Aaaa);
    assert_eq!((none.code, none.answers.len()), (Code::NoError, 0), "it exists");
    for other in ["minisvc.internal", "x.host.minisvc.internal"] {
        assert!(matches!(ask(other, RecordType::A), Outcome::NotOurs), "{other}");
    }
}

// N-010, N-011
#[test]
fn the_apex_describes_the_zone() {
    let soa = answer("cluster.local", RecordType::Soa);
    let expected = RecordData::Soa {
        mname: Name::new("ns.dns.cluster.local"),
        rname: Name::new("hostmaster.cluster.local"),
        serial: 1_700_000_000,
        refresh: 7200,
        retry: 1800,
        expire: 86_400,
        minimum: 30,
    };
    assert_eq!(soa.answers[0].data, expected);
    assert_eq!(answer("dns-version.cluster.local", RecordType::Txt).answers[0].ttl, 28_800);
    let ns = answer("cluster.local", RecordType::Ns);
    assert_eq!(ns.additional.iter().map(|r| show(&r.data)).collect::<Vec<_>>(), ["10.96.0.10"]);
}

// N-022, N-040, S-151
#[test]
fn srv_records_bring_the_addresses_of_their_targets() {
    let web = answer("_http._tcp.web.shop.svc.cluster.local", RecordType::Srv);
    assert_eq!(web.additional.len(), 1);
    assert_eq!(web.additional[0].name, Name::new("web.shop.svc.cluster.local"));
    let db = answer("_sql._tcp.db.shop.svc.cluster.local", RecordType::Srv);
    let targets: Vec<String> = db.answers.iter().map(|record| show(&record.data)).collect();
    assert_eq!(
        targets,
        [
            "25/5432/10-244-0-5.db.shop.svc.cluster.local.",
            "25/5432/db-0.db.shop.svc.cluster.local.",
            "25/5432/twin.db.shop.svc.cluster.local.",
        ],
        "the endpoint's port, not the Service's; one record a host"
    );
    assert_eq!(db.additional.len(), 4);
}

// N-041, N-047
#[test]
fn a_headless_service_without_ports_has_addresses_only_and_each_once() {
    let mut input = input();
    for _ in 0..2 {
        input.endpoints.push(endpoint("idle", "10.244.0.9", None, vec![]));
    }
    let zone = zone_of(input);
    let ask = |name: &str, kind| match zone.answer(&Name::new(name), kind) {
        Outcome::Answer(answer) => answer,
        other => panic!("{other:?}"),
    };
    assert_eq!(ask("idle.shop.svc.cluster.local", RecordType::A).answers.len(), 1);
    assert_eq!(ask("_x._tcp.idle.shop.svc.cluster.local", RecordType::Srv).code, Code::NxDomain);
}

// N-008
#[test]
fn the_owner_repeats_the_case_of_the_question() {
    let answer = answer("WEB.shop.SVC.cluster.local", RecordType::A);
    assert_eq!(answer.answers[0].name.to_string(), "WEB.shop.SVC.cluster.local.");
}

// N-050, N-054
#[test]
fn an_external_name_leaves_the_zone_as_a_cname() {
    for kind in [RecordType::A, RecordType::Aaaa] {
        let Outcome::Follow { answer, target } = ask("docs.shop.svc.cluster.local", kind) else { panic!("followed") };
        assert_eq!(target, Name::new("docs.example.com"));
        assert_eq!(answer.answers.iter().map(|r| show(&r.data)).collect::<Vec<_>>(), ["CNAME Docs.example.com."]);
    }
    assert_eq!(brief("docs.shop.svc.cluster.local", RecordType::Cname), "CNAME Docs.example.com.");
    assert_eq!(brief("docs.shop.svc.cluster.local", RecordType::Txt), "NODATA");
}

// N-050
#[test]
fn a_chain_that_bites_its_tail_ends() {
    assert_eq!(brief("loop1.shop.svc.cluster.local", RecordType::A), "CNAME loop2.shop.svc.cluster.local.");
}

// N-053
#[test]
fn a_change_of_type_changes_the_answer() {
    let mut changed = input();
    changed.services.retain(|service| service.name != "docs");
    changed.services.push(service(NS, "docs", ServiceKind::ClusterIp(vec![ip("10.96.0.77")]), vec![]));
    let Outcome::Answer(answer) = zone_of(changed).answer(&Name::new("docs.shop.svc.cluster.local"), RecordType::A)
    else {
        panic!("in the zone")
    };
    assert_eq!(show(&answer.answers[0].data), "10.96.0.77");
}

// N-004
#[test]
fn names_outside_the_zone_are_somebody_elses() {
    for name in ["example.com", "local", "notcluster.local", "9.0.168.192.in-addr.arpa", "200.0.96.10.in-addr.arpa"] {
        assert_eq!(ask(name, RecordType::Ptr), Outcome::NotOurs, "{name}");
    }
}

#[test]
fn a_reverse_name_of_ours_may_be_answered_here_in_any_case() {
    let config = ZoneConfig {
        domain: Name::new("cluster.local"),
        ttl: 5,
        reverse: vec!["10.96.0.0/16".parse().expect("a range")],
        servers: vec![],
        hosts: vec![],
        reverse_falls_through: false,
    };
    let zone = Zone::build(config, input());
    let ask = |name: &str| zone.answer(&Name::new(name), RecordType::Ptr);
    assert!(matches!(ask("200.0.96.10.in-addr.arpa"), Outcome::Answer(answer) if answer.code == Code::NxDomain));
    assert_eq!(ask("200.0.168.192.in-addr.arpa"), Outcome::NotOurs, "but only of ours");
}

/// What musl does with a name: it asks for it under each search domain and then as it is, and takes the first answer
/// that is not NXDOMAIN, be it NODATA.
fn as_musl(zone: &Zone, namespace: &str, name: &str, kind: RecordType) -> String {
    let search = [format!(".{namespace}.svc.cluster.local"), ".svc.cluster.local".into(), ".cluster.local".into()];
    for suffix in search.iter().map(String::as_str).chain([""]) {
        match zone.answer(&Name::new(&format!("{name}{suffix}")), kind) {
            Outcome::Answer(answer) if answer.code == Code::NxDomain => {}
            Outcome::Answer(answer) => {
                return answer.answers.iter().map(|record| show(&record.data)).collect::<Vec<_>>().join(" ");
            }
            Outcome::Follow { .. } => return "an alias".into(),
            Outcome::NotOurs => return "the upstream".into(),
        }
    }
    "nothing".into()
}

// N-064, N-065
#[test]
fn a_resolver_that_stops_at_nodata_finds_what_it_should() {
    let zone = zone_of(input());
    for (namespace, name, kind, expected) in [
        (NS, "web", RecordType::A, "10.96.0.9"),
        ("default", "web.shop", RecordType::A, "10.96.0.9"),
        ("default", "web.shop.svc", RecordType::A, "10.96.0.9"),
        ("default", "web.shop.svc.cluster.local", RecordType::A, "10.96.0.9"),
        ("default", "db-0.db.shop", RecordType::A, "10.244.0.6"),
        ("default", "kubernetes", RecordType::A, "10.96.0.1"),
        // The family that it lacks: the name exists, so nothing else may be found under it.
        (NS, "web", RecordType::Aaaa, ""),
        (NS, "docs", RecordType::A, "an alias"),
        ("default", "www.example.com", RecordType::A, "the upstream"),
        (NS, "example", RecordType::A, "the upstream"),
        (NS, "idle", RecordType::A, "the upstream"),
    ] {
        assert_eq!(as_musl(&zone, namespace, name, kind), expected, "{name} from {namespace}, {kind:?}");
    }
}

// N-006
#[test]
fn an_unknown_name_is_no_lie_before_the_api_was_read() {
    let mut early = input();
    early.complete = false;
    let zone = zone_of(early);
    let code = |name: &str| match zone.answer(&Name::new(name), RecordType::A) {
        Outcome::Answer(answer) => answer.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code("nobody.shop.svc.cluster.local"), Code::ServFail);
    assert_eq!(code("web.shop.svc.cluster.local"), Code::NoError, "what is known is answered");
}

proptest! {
    /// Whatever is asked, there is an answer, and a positive one has only records of the type asked for and aliases.
    #[test]
    fn every_question_has_an_answer(labels in prop::collection::vec("[a-zA-Z0-9_*-]{1,12}|svc|pod|shop|web|db|_http|_tcp", 0..8)) {
        let name = format!("{}.cluster.local", labels.join("."));
        for kind in [RecordType::A, RecordType::Srv, RecordType::Ptr, RecordType::Other] {
            if let Outcome::Answer(answer) = ask(&name, kind) {
                for record in &answer.answers {
                    prop_assert!(record.data.record_type() == kind || record.data.record_type() == RecordType::Cname);
                }
                let is_no = answer.code == Code::NxDomain || answer.code == Code::NoError && answer.answers.is_empty();
                prop_assert_eq!(is_no, !answer.authority.is_empty());
            }
        }
    }
}
