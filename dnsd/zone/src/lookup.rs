//! The answer to a question.

use std::net::IpAddr;

use crate::answer::{Answer, Code, Outcome, Record, RecordData, RecordType};
use crate::build::{PortEntry, ServiceKind, Zone, dashed, service_name};
use crate::index::IndexedService;
use crate::name::Name;
use crate::reverse;

/// Version of the DNS specification that is followed (N-010).
const SPECIFICATION: &str = "1.1.0";
/// How long that may be remembered, in seconds (N-010).
const SPECIFICATION_TTL: u32 = 28_800;

/// Longest chain of ExternalName Services that is followed (N-050).
const MAX_LINKS: usize = 8;

/// Longest time that a "no" may be remembered, in seconds (N-012).
const MAX_NEGATIVE_TTL: u32 = 300;

/// What is at a name, before anybody asks for a type.
enum Found {
    /// The name exists and has these records, maybe none; the second list belongs to the additional section.
    Records(Vec<RecordData>, Vec<Record>),
    /// The name exists and stands for another one.
    Alias(Name),
    /// There is no such name.
    Nothing,
}

impl Zone {
    /// Answers a question of class IN.
    pub fn answer(&self, name: &Name, kind: RecordType) -> Outcome {
        if let Some(front) = name.relative_to(&self.config.domain) {
            if kind == RecordType::Any {
                return Outcome::Answer(self.refuse(Code::NotImplemented));
            }
            return match self.find(&Name::labels(&front), kind) {
                Found::Alias(target) => self.follow(name, target, kind),
                Found::Nothing => Outcome::Answer(self.no_such_name()),
                Found::Records(records, additional) => Outcome::Answer(self.select(name, kind, records, additional)),
            };
        }
        if let Some((_, addresses)) = self.config.hosts.iter().find(|(host, _)| host == name) {
            return Outcome::Answer(self.select(name, kind, as_records(addresses), Vec::new()));
        }
        self.answer_reverse(name, kind)
    }

    /// The start of authority, as asked for at the apex.
    fn soa(&self) -> RecordData {
        RecordData::Soa {
            mname: self.config.domain.under("ns.dns"),
            rname: self.config.domain.under("hostmaster"),
            serial: self.serial,
            refresh: 7200,
            retry: 1800,
            expire: 86_400,
            minimum: self.config.ttl,
        }
    }

    fn record(&self, name: &Name, data: RecordData) -> Record {
        Record { name: name.clone(), ttl: self.config.ttl, data }
    }

    /// An answer without records. Every "no" carries the SOA, with the time that it may be remembered (N-012).
    fn refuse(&self, code: Code) -> Answer {
        let ttl = self.config.ttl.min(MAX_NEGATIVE_TTL);
        let soa = Record { name: self.config.domain.clone(), ttl, data: self.soa() };
        let authority = if matches!(code, Code::NoError | Code::NxDomain) { vec![soa] } else { Vec::new() };
        Answer { code, answers: Vec::new(), authority, additional: Vec::new() }
    }

    fn no_such_name(&self) -> Answer {
        self.refuse(if self.complete { Code::NxDomain } else { Code::ServFail })
    }

    /// The records of the type that was asked for; the name exists, so without any it is NODATA.
    fn select(&self, name: &Name, kind: RecordType, records: Vec<RecordData>, additional: Vec<Record>) -> Answer {
        let answers: Vec<Record> = records
            .into_iter()
            .filter(|data| data.record_type() == kind)
            .map(|data| {
                let ttl = if kind == RecordType::Txt { SPECIFICATION_TTL } else { self.config.ttl };
                Record { ttl, ..self.record(name, data) }
            })
            .collect();
        if answers.is_empty() {
            return self.refuse(Code::NoError);
        }
        let additional = if matches!(kind, RecordType::Srv | RecordType::Ns) { additional } else { Vec::new() };
        Answer { code: Code::NoError, answers, authority: Vec::new(), additional }
    }

    /// What is under the cluster domain at these labels, read from the left.
    fn find(&self, labels: &[&str], kind: RecordType) -> Found {
        let empty = || Found::Records(Vec::new(), Vec::new());
        match *labels {
            [] => self.apex(),
            ["dns-version"] => Found::Records(vec![RecordData::Txt(SPECIFICATION.to_owned())], Vec::new()),
            ["ns", "dns"] => {
                Found::Records(self.config.servers.iter().copied().map(RecordData::address).collect(), Vec::new())
            }
            ["svc" | "pod"] => empty(),
            [namespace, "svc" | "pod"] => {
                if self.namespaces.contains_key(namespace) {
                    empty()
                } else {
                    Found::Nothing
                }
            }
            [address, namespace, "pod"] => self.pod(address, namespace),
            // Without a port in front it is all of them, unnamed ones too (N-024).
            [service, namespace, "svc"] if kind == RecordType::Srv => match self.service(namespace, service) {
                Found::Records(..) => self.ports(namespace, service, &|_| true),
                found => found,
            },
            [service, namespace, "svc"] => self.service(namespace, service),
            [endpoint, service, namespace, "svc"] => self.endpoint(namespace, service, endpoint),
            [port, protocol, service, namespace, "svc"] => self.named_port(namespace, service, port, protocol, kind),
            _ => Found::Nothing,
        }
    }

    /// SOA and NS. The server goes by its Service's name when it has one (N-013).
    fn apex(&self) -> Found {
        let own = self.config.servers.first().and_then(|address| self.vips.get(address)?.last());
        let server = own.cloned().unwrap_or_else(|| self.config.domain.under("ns.dns"));
        let glue = self.config.servers.iter().map(|&address| self.record(&server, RecordData::address(address)));
        let glue = glue.collect();
        Found::Records(vec![self.soa(), RecordData::Ns(server)], glue)
    }

    fn lookup(&self, namespace: &str, service: &str) -> Option<&IndexedService> {
        Some(self.services.get(namespace)?.get(service)?)
    }

    fn service(&self, namespace: &str, name: &str) -> Found {
        let Some(service) = self.lookup(namespace, name) else { return Found::Nothing };
        match &service.kind {
            ServiceKind::ClusterIp(addresses) => Found::Records(as_records(addresses), Vec::new()),
            // Without anything ready the name does not exist (N-035).
            ServiceKind::Headless if service.endpoints.is_empty() => Found::Nothing,
            ServiceKind::Headless => Found::Records(as_records(&service.addresses), Vec::new()),
            // What looks like an address is never one here (N-106).
            ServiceKind::ExternalName(target) if target.trim_end_matches('.').parse::<IpAddr>().is_ok() => {
                Found::Nothing
            }
            ServiceKind::ExternalName(target) => Found::Alias(Name::new(target)),
        }
    }

    fn endpoint(&self, namespace: &str, service: &str, label: &str) -> Found {
        let endpoint = self.lookup(namespace, service).and_then(|service| service.endpoints.get(label));
        endpoint.map_or(Found::Nothing, |endpoint| Found::Records(as_records(&endpoint.addresses), Vec::new()))
    }

    /// `_port._protocol.<service>`: SRV records of a named port (N-022, N-040).
    fn named_port(&self, namespace: &str, name: &str, port: &str, protocol: &str, kind: RecordType) -> Found {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
            return Found::Nothing;
        };
        let Some(service) = self.lookup(namespace, name) else { return Found::Nothing };
        if matches!(service.kind, ServiceKind::ExternalName(_)) {
            // The name exists for nobody but a CNAME: no ports (N-052).
            return if kind == RecordType::Srv { Found::Records(Vec::new(), Vec::new()) } else { Found::Nothing };
        }
        let found = self.ports(namespace, name, &|entry| {
            !port.is_empty() && entry.name.eq_ignore_ascii_case(port) && entry.protocol.eq_ignore_ascii_case(protocol)
        });
        match found {
            // A port that the Service does not have (N-063).
            Found::Records(records, _) if records.is_empty() => Found::Nothing,
            found => found,
        }
    }

    /// SRV records of the ports that are wanted, with the addresses of their hosts.
    fn ports(&self, namespace: &str, name: &str, is_wanted: &dyn Fn(&PortEntry) -> bool) -> Found {
        let Some(service) = self.lookup(namespace, name) else { return Found::Nothing };
        let parent = service_name(&self.config.domain, namespace, name);
        let wanted = |entry: &&PortEntry| is_wanted(entry);
        // Each host with its addresses and the ports that were asked for.
        let hosts: Vec<(Name, Vec<IpAddr>, Vec<u16>)> = match &service.kind {
            ServiceKind::ClusterIp(addresses) => {
                let ports = service.ports.iter().filter(wanted).map(|entry| entry.port).collect();
                vec![(parent, addresses.clone(), ports)]
            }
            ServiceKind::Headless => service
                .endpoints
                .iter()
                .map(|(label, endpoint)| {
                    let ports = endpoint.ports.iter().filter(wanted).map(|entry| entry.port).collect();
                    (parent.under(label), endpoint.addresses.iter().copied().collect(), ports)
                })
                .collect(),
            ServiceKind::ExternalName(_) => Vec::new(),
        };
        let behind: usize = hosts.iter().filter(|(_, _, ports)| !ports.is_empty()).map(|(_, a, _)| a.len()).sum();
        let weight = u16::try_from(100 / behind.max(1)).unwrap_or(1).max(1);
        let (mut records, mut additional) = (Vec::new(), Vec::new());
        for (host, addresses, ports) in hosts {
            for &port in &ports {
                records.push(RecordData::Srv { priority: 0, weight, port, target: host.clone() });
            }
            if !ports.is_empty() {
                additional
                    .extend(addresses.into_iter().map(|address| self.record(&host, RecordData::address(address))));
            }
        }
        Found::Records(records, additional)
    }

    /// `<a-b-c-d>.<namespace>.pod`: the address that the label spells, whoever has it (N-055, N-056 "insecure").
    fn pod(&self, label: &str, namespace: &str) -> Found {
        if !self.namespaces.contains_key(namespace) {
            return Found::Nothing;
        }
        let is_v4 = label.matches('-').count() == 3 && !label.contains("--");
        let text = label.replace('-', if is_v4 { "." } else { ":" });
        match text.parse::<IpAddr>() {
            // Two spellings of one address are two names, and only one of them is right.
            Ok(address) if dashed(address) == label || address.is_ipv6() => {
                Found::Records(vec![RecordData::address(address)], Vec::new())
            }
            _ => Found::Nothing,
        }
    }

    /// Follows an alias through the zone, and says where it leaves it (N-049 to N-051).
    fn follow(&self, name: &Name, target: Name, kind: RecordType) -> Outcome {
        let mut answer = Answer { authority: Vec::new(), ..self.refuse(Code::NoError) };
        if !matches!(kind, RecordType::A | RecordType::Aaaa | RecordType::Cname) {
            return Outcome::Answer(self.refuse(Code::NoError));
        }
        let (mut owner, mut target) = (name.clone(), target);
        let mut seen = vec![name.clone()];
        loop {
            // A link to a name that was passed already leads nowhere and is left out.
            if seen.contains(&target) || seen.len() > MAX_LINKS {
                break;
            }
            answer.answers.push(self.record(&owner, RecordData::Cname(target.clone())));
            if kind == RecordType::Cname {
                break;
            }
            seen.push(target.clone());
            let Some(front) = target.relative_to(&self.config.domain) else {
                return Outcome::Follow { answer, target };
            };
            match self.find(&Name::labels(&front), kind) {
                Found::Alias(next) => (owner, target) = (target, next),
                Found::Records(records, _) => {
                    let found = records.into_iter().filter(|data| data.record_type() == kind);
                    answer.answers.extend(found.map(|data| self.record(&target, data)));
                    break;
                }
                Found::Nothing => break,
            }
        }
        if answer.answers.is_empty() { Outcome::Answer(self.refuse(Code::NoError)) } else { Outcome::Answer(answer) }
    }

    /// A virtual address has one name; an endpoint one for each Service that lists it (N-026, N-042, N-043).
    fn answer_reverse(&self, name: &Name, kind: RecordType) -> Outcome {
        let Some(address) = reverse::address_of(name) else { return Outcome::NotOurs };
        if !self.config.reverse.iter().any(|range| range.contains(&address)) {
            return Outcome::NotOurs;
        }
        let names: Vec<Name> = match self.vips.get(&address).and_then(|services| services.last()) {
            Some(service) => vec![service.clone()],
            None => self.hosts.get(&address).map_or_else(Vec::new, |names| names.to_vec()),
        };
        if names.is_empty() {
            // What matches nothing here is the upstream's (N-004).
            let falls_through = self.config.reverse_falls_through;
            return if falls_through { Outcome::NotOurs } else { Outcome::Answer(self.no_such_name()) };
        }
        let records = names.into_iter().map(RecordData::Ptr).collect();
        Outcome::Answer(self.select(name, kind, records, Vec::new()))
    }
}

fn as_records<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> Vec<RecordData> {
    addresses.into_iter().copied().map(RecordData::address).collect()
}
