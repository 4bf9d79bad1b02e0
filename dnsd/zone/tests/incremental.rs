//! A zone that is kept up to date answers like one that is made of all records at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use minisvc_zone::{
    EndpointEntry, Key, Name, Outcome, PortEntry, RecordType, ServiceEntry, ServiceKind, Zone, ZoneBuilder, ZoneConfig,
    ZoneInput,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const NAMESPACES: [&str; 2] = ["shop", "mail"];
const NAMES: [&str; 3] = ["web", "db", "queue"];
const ADDRESSES: [&str; 6] = ["10.96.0.1", "10.96.0.2", "10.244.0.1", "10.244.0.2", "fd00:96::1", "fd00:244::1"];
const TYPES: [RecordType; 6] =
    [RecordType::A, RecordType::Aaaa, RecordType::Srv, RecordType::Ptr, RecordType::Cname, RecordType::Ns];

/// What happens to the records.
#[derive(Clone, Debug)]
enum Step {
    PutService(ServiceEntry),
    RemoveService(Key),
    ListServices(Vec<ServiceEntry>),
    PutSlice(Key, Vec<EndpointEntry>),
    RemoveSlice(Key),
    ListSlices(Vec<(Key, Vec<EndpointEntry>)>),
    PutNamespace(&'static str),
    RemoveNamespace(&'static str),
    ListNamespaces(Vec<&'static str>),
}

/// The records themselves.
#[derive(Clone, Debug, Default)]
struct Model {
    services: BTreeMap<Key, ServiceEntry>,
    slices: BTreeMap<Key, Vec<EndpointEntry>>,
    namespaces: BTreeSet<String>,
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(&ADDRESSES[..]).prop_map(|text| text.parse().expect("an address"))
}

fn key() -> impl Strategy<Value = Key> {
    (select(&NAMESPACES[..]), select(&NAMES[..])).prop_map(|(namespace, name)| (namespace.into(), name.into()))
}

fn ports() -> impl Strategy<Value = Vec<PortEntry>> {
    let port = |(name, port): (&str, u16)| PortEntry { name: name.into(), protocol: "tcp".into(), port };
    vec((select(&["", "http"][..]), 80..82_u16).prop_map(port), 0..3)
}

fn service() -> impl Strategy<Value = ServiceEntry> {
    let kind = prop_oneof![
        3 => vec(address(), 1..3).prop_map(ServiceKind::ClusterIp),
        2 => Just(ServiceKind::Headless),
        1 => select(&["web.shop.svc.cluster.local", "example.com"][..]).prop_map(|to| ServiceKind::ExternalName(to.into())),
    ];
    (key(), kind, ports()).prop_map(|((namespace, name), kind, ports)| ServiceEntry { namespace, name, kind, ports })
}

/// A slice with its ready endpoints; it may become another Service's.
fn slice() -> impl Strategy<Value = (Key, Vec<EndpointEntry>)> {
    let hostname = prop_oneof![Just(None), select(&["web-0", "WEB-1"][..]).prop_map(|name| Some(name.to_owned()))];
    (0..5, key(), vec((address(), hostname, ports()), 0..4)).prop_map(|(number, (namespace, service), endpoints)| {
        let entry = |(address, hostname, ports)| {
            let (namespace, service) = (namespace.clone(), service.clone());
            EndpointEntry { namespace, service, address, hostname, ports }
        };
        (("any".to_owned(), format!("slice-{number}")), endpoints.into_iter().map(entry).collect())
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => service().prop_map(Step::PutService),
        3 => key().prop_map(Step::RemoveService),
        1 => vec(service(), 0..4).prop_map(Step::ListServices),
        8 => slice().prop_map(|(key, endpoints)| Step::PutSlice(key, endpoints)),
        3 => slice().prop_map(|(key, _)| Step::RemoveSlice(key)),
        1 => vec(slice(), 0..4).prop_map(Step::ListSlices),
        1 => select(&NAMESPACES[..]).prop_map(Step::PutNamespace),
        1 => select(&NAMESPACES[..]).prop_map(Step::RemoveNamespace),
        1 => vec(select(&NAMESPACES[..]), 0..3).prop_map(Step::ListNamespaces),
    ]
}

fn config() -> ZoneConfig {
    ZoneConfig {
        domain: Name::new("cluster.local"),
        ttl: 5,
        reverse: ["10.0.0.0/8", "fd00::/16"].map(|range| range.parse().expect("a range")).to_vec(),
        servers: vec![ADDRESSES[0].parse().expect("an address")],
        hosts: Vec::new(),
        reverse_falls_through: false,
    }
}

impl Model {
    fn take(&mut self, step: Step, builder: &mut ZoneBuilder) {
        let key_of = |service: &ServiceEntry| (service.namespace.clone(), service.name.clone());
        match step {
            Step::PutService(service) => {
                builder.put_service(service.clone());
                self.services.insert(key_of(&service), service);
            }
            Step::RemoveService(key) => {
                builder.remove_service(&key);
                self.services.remove(&key);
            }
            Step::ListServices(services) => {
                self.services = services.into_iter().map(|service| (key_of(&service), service)).collect();
                builder.list_services(self.services.values().cloned().collect());
            }
            Step::PutSlice(key, endpoints) => {
                builder.put_slice(key.clone(), endpoints.clone());
                self.slices.insert(key, endpoints);
            }
            Step::RemoveSlice(key) => {
                builder.remove_slice(&key);
                self.slices.remove(&key);
            }
            Step::ListSlices(slices) => {
                self.slices = slices.into_iter().collect();
                builder.list_slices(self.slices.clone().into_iter().collect());
            }
            Step::PutNamespace(name) => {
                builder.put_namespace(name);
                self.namespaces.insert(name.to_owned());
            }
            Step::RemoveNamespace(name) => {
                builder.remove_namespace(name);
                self.namespaces.remove(name);
            }
            Step::ListNamespaces(names) => {
                self.namespaces = names.into_iter().map(str::to_owned).collect();
                builder.list_namespaces(&self.namespaces.iter().cloned().collect());
            }
        }
    }

    fn zone(&self) -> Zone {
        let input = ZoneInput {
            namespaces: self.namespaces.clone(),
            services: self.services.values().cloned().collect(),
            endpoints: self.slices.values().flatten().cloned().collect(),
            changed: 1,
            complete: true,
        };
        Zone::build(config(), input)
    }
}

/// Everything that can be asked about these records.
fn answers(zone: &Zone) -> Vec<(String, Outcome)> {
    let mut names = vec!["cluster.local".to_owned()];
    for namespace in NAMESPACES {
        names.push(format!("{namespace}.svc.cluster.local"));
        for name in NAMES {
            let service = format!("{name}.{namespace}.svc.cluster.local");
            let labels = ["_http._tcp", "web-0", "web-1"].map(str::to_owned);
            let dashed = ADDRESSES.map(|address| address.replace(['.', ':'], "-"));
            names.extend(labels.iter().chain(&dashed).map(|label| format!("{label}.{service}")));
            names.push(service);
        }
    }
    for address in ADDRESSES {
        names.push(match address.parse().expect("an address") {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            IpAddr::V6(address) => {
                let digits: Vec<String> =
                    format!("{:032x}", address.to_bits()).chars().rev().map(String::from).collect();
                format!("{}.ip6.arpa", digits.join("."))
            }
        });
    }
    let ask = |name: String| TYPES.map(|kind| (format!("{name} {kind:?}"), zone.answer(&Name::new(&name), kind)));
    names.into_iter().flat_map(ask).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_zone_kept_up_to_date_is_like_one_made_at_once(steps in vec(step(), 1..40)) {
        let (mut model, mut builder) = (Model::default(), ZoneBuilder::new(config()));
        let mut before = builder.zone(1, true);
        let mut known = answers(&before);
        for step in steps {
            model.take(step, &mut builder);
            let (zone, full) = (builder.zone(1, true), answers(&model.zone()));
            prop_assert_eq!(&answers(&zone), &full);
            prop_assert_eq!(&answers(&before), &known, "a zone that is in use does not change");
            prop_assert!(builder.take_changed() || full == known, "a change is not overlooked");
            (before, known) = (zone, full);
        }
    }
}
