//! From a Fault object and what is where to a rule: pure.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use minisvc_translator::{PortId, ServiceTable};
use serde::Deserialize;

use super::core::{Effect, Rule, Side};
use crate::observe::{Clocks, NameMatch, Place, PlaceKind, Places};

/// `spec` of a Fault (docs/extension-api.md).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    from: Selector,
    to: Selector,
    one_way: bool,
    delay_milliseconds: u64,
    jitter_milliseconds: u64,
    loss_percent: f64,
    duplicate_percent: f64,
    reorder_percent: f64,
    corrupt_percent: f64,
    rate_kilobits_per_second: Option<u64>,
    refuse: bool,
    partition: bool,
    duration_seconds: Option<u64>,
    seed: Option<u64>,
}

/// A side of a Fault: everything that is said must fit.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    /// Of the pod, the Service or the labels; `default` if it is not said.
    namespace: Option<String>,
    pod: Option<String>,
    /// Of pods.
    match_labels: Option<BTreeMap<String, String>>,
    service: Option<String>,
    node: Option<String>,
    zone: Option<String>,
    workstation: bool,
    outside: bool,
}

/// A Fault as far as packets care.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FaultRecord {
    /// Its uid and generation.
    pub(crate) id: Arc<str>,
    pub(crate) created: Timestamp,
    pub(crate) spec: Spec,
    /// A number that differs between Faults without a seed of their own.
    pub(crate) any_seed: u64,
}

/// What selectors are held against.
pub(crate) struct World<'a> {
    pub(crate) places: &'a Places,
    pub(crate) table: &'a ServiceTable,
    /// Labels of pods by `namespace/name`; empty if no Fault asks for them.
    pub(crate) labels: &'a BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) clocks: Clocks,
}

impl FaultRecord {
    /// When its time is over, if it ever is.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        let seconds = i64::try_from(self.spec.duration_seconds?).ok()?;
        self.created.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// Whether labels of pods are needed.
    pub(crate) fn asks_for_labels(&self) -> bool {
        [&self.spec.from, &self.spec.to].iter().any(|side| side.match_labels.is_some())
    }

    /// The rule as things are now.
    pub(crate) fn rule(&self, world: &World<'_>) -> Rule {
        let spec = &self.spec;
        let share = |percent: f64| percent.clamp(0.0, 100.0) / 100.0;
        Rule {
            id: Arc::clone(&self.id),
            from: spec.from.side(world),
            to: spec.to.side(world),
            one_way: spec.one_way,
            effect: Effect {
                delay: Duration::from_millis(spec.delay_milliseconds),
                jitter: Duration::from_millis(spec.jitter_milliseconds),
                loss: share(spec.loss_percent),
                duplicate: share(spec.duplicate_percent),
                reorder: share(spec.reorder_percent),
                corrupt: share(spec.corrupt_percent),
                rate: spec.rate_kilobits_per_second.map(|rate| rate.saturating_mul(1000)),
                refuse: spec.refuse,
                partition: spec.partition,
            },
            until: self.expires().map(|expires| instant(expires, world.clocks)),
            seed: spec.seed.unwrap_or(self.any_seed),
        }
    }
}

/// A wall-clock time as the other clock will show it.
fn instant(time: Timestamp, clocks: Clocks) -> Instant {
    let ahead = time.duration_since(clocks.time(clocks.now()));
    let ahead = Duration::try_from(ahead).unwrap_or_default();
    clocks.now().checked_add(ahead).unwrap_or_else(|| clocks.now())
}

impl Selector {
    fn side(&self, world: &World<'_>) -> Side {
        let namespace = self.namespace.as_deref().unwrap_or("default");
        let named = |name: &String| NameMatch { namespace: Some(namespace.to_owned()), name: name.clone() };
        let pod = self.pod.as_ref().map(named);
        let service = self.service.as_ref().map(named);
        let is_said = pod.is_some()
            || self.match_labels.is_some()
            || self.node.is_some()
            || self.zone.is_some()
            || self.workstation
            || self.outside;
        let of_zone = self.zone.as_ref().map(|zone| nodes_of(world.table, zone));
        let fits = |place: &Place| {
            pod.as_ref().is_none_or(|pod| pod.fits_pod(place))
                && self.match_labels.as_ref().is_none_or(|labels| has_labels(world, place, namespace, labels))
                && (self.node.is_none() || place.node == self.node)
                && of_zone.as_ref().is_none_or(|nodes| place.node.as_ref().is_some_and(|node| nodes.contains(node)))
                && (!self.workstation || place.kind == PlaceKind::Workstation)
                && (!self.outside || place.kind == PlaceKind::Outside)
        };
        let links: HashSet<PortId> =
            world.places.iter().filter(|(_, place)| fits(place)).map(|(port, _)| port).collect();
        Side { links: is_said.then_some(links), sockets: service.map(|service| endpoints_of(world.table, &service)) }
    }
}

fn has_labels(world: &World<'_>, place: &Place, namespace: &str, wanted: &BTreeMap<String, String>) -> bool {
    let is_there = place.name.split_once('/').is_some_and(|(own, _)| own == namespace);
    let labels = world.labels.get(&place.name).filter(|_| is_there && place.kind == PlaceKind::Pod);
    labels.is_some_and(|labels| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

fn nodes_of(table: &ServiceTable, zone: &str) -> HashSet<String> {
    let nodes = table.routes().filter_map(|(_, route)| table.node(route.role.node()?));
    nodes.filter(|node| node.zone.as_deref() == Some(zone)).map(|node| node.name.to_string()).collect()
}

/// A Service is its endpoints: packets to and from them, however they were addressed.
fn endpoints_of(table: &ServiceTable, wanted: &NameMatch) -> HashSet<SocketAddr> {
    let ports = table.frontends().map(|(_, target)| &target.service).filter(|port| wanted.fits_service(port.id()));
    ports.flat_map(|port| port.endpoints()).map(|endpoint| SocketAddr::new(endpoint.addr, endpoint.port)).collect()
}

#[cfg(test)]
mod tests {
    use minisvc_translator::{
        Endpoint, Frontend, FrontendKind, Node, Policies, Protocol, Role, Route, ServicePort, ServicePortId,
    };
    use serde_json::json;

    use super::*;
    use crate::table::LinkRole;

    fn record(spec: serde_json::Value) -> FaultRecord {
        let spec = serde_json::from_value(spec).expect("a spec");
        FaultRecord { id: "u/1".into(), created: Timestamp::UNIX_EPOCH, spec, any_seed: 9 }
    }

    /// Two pods on two nodes in two zones, and a Service of the second one.
    fn with_world<T>(look: impl FnOnce(&World<'_>) -> T) -> T {
        let mut table = ServiceTable::new();
        let mut places = Places::default();
        for (number, name, zone) in [(1_u8, "node-1", "zone-a"), (2, "node-2", "zone-b")] {
            let node =
                table.add_node(Node { name: name.into(), addresses: vec![], zone: Some(zone.into()), balanced: true });
            let port = PortId(number.into());
            table.add_route([10, 244, number, 2].into(), Route { port, role: Role::Pod { node } });
            places.add(port, &format!("default/web-{number}"), &LinkRole::Pod { node: name.into() });
        }
        places.add(PortId(3), "workstation", &LinkRole::Workstation);
        let id = ServicePortId {
            namespace: "default".into(),
            service: "web".into(),
            port: "".into(),
            protocol: Protocol::Tcp,
        };
        let endpoint = Endpoint {
            addr: [10, 244, 2, 2].into(),
            port: 8080,
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            hints: None,
        };
        let frontend = Frontend { addr: [10, 96, 0, 9].into(), protocol: Protocol::Tcp, port: 80 };
        let port = Arc::new(ServicePort::new(id, Policies::default(), vec![endpoint]));
        table.add_frontend(frontend, FrontendKind::ClusterIp, port);
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let labels = BTreeMap::from([("default/web-2".to_owned(), labels)]);
        look(&World { places: &places, table: &table, labels: &labels, clocks: Clocks::read() })
    }

    #[test]
    fn selectors_become_links_and_sockets() {
        let links = |numbers: &[u32]| Some(numbers.iter().map(|&number| PortId(number)).collect::<HashSet<_>>());
        for (selector, expected) in [
            (json!({}), None),
            (json!({"pod": "web-1"}), links(&[1])),
            (json!({"pod": "web-1", "namespace": "other"}), links(&[])),
            (json!({"matchLabels": {"app": "web"}}), links(&[2])),
            (json!({"matchLabels": {"app": "web"}, "namespace": "other"}), links(&[])),
            (json!({"node": "node-2"}), links(&[2])),
            (json!({"zone": "zone-a"}), links(&[1])),
            (json!({"zone": "zone-a", "node": "node-2"}), links(&[])),
            (json!({"workstation": true}), links(&[3])),
            (json!({"outside": true}), links(&[])),
        ] {
            let rule = with_world(|world| record(json!({"from": selector})).rule(world));
            assert_eq!(rule.from.links, expected, "{selector}");
            assert_eq!((rule.from.sockets, rule.to), (None, Side::default()));
        }
        let rule = with_world(|world| record(json!({"to": {"service": "web"}})).rule(world));
        let socket: SocketAddr = "10.244.2.2:8080".parse().expect("an address");
        assert_eq!((rule.to.links, rule.to.sockets), (None, Some(HashSet::from([socket]))));
    }

    #[test]
    fn numbers_become_effects_and_a_time() {
        let rule = with_world(|world| {
            let spec = json!({"delayMilliseconds": 100, "lossPercent": 12.5, "rateKilobitsPerSecond": 8, "seed": 3,
                "oneWay": true, "durationSeconds": 5});
            record(spec).rule(world)
        });
        let effect = Effect { delay: Duration::from_millis(100), loss: 0.125, rate: Some(8000), ..Effect::default() };
        assert_eq!((rule.effect, rule.one_way, rule.seed), (effect, true, 3));
        assert!(rule.until.expect("it has an end") <= Instant::now(), "it began long ago");
        let endless = with_world(|world| record(json!({"refuse": true})).rule(world));
        assert_eq!((endless.until, endless.seed), (None, 9));
    }
}
