//! Keeps the zone up to date from the API.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use minisvc_zone::{EndpointEntry, Key, ServiceEntry, Zone, ZoneBuilder, ZoneConfig};
use tokio_util::sync::CancellationToken;

use crate::records;

/// Changes that become one zone when they come together.
const BATCH: usize = 1024;

/// How long unknown names are "not known yet" when the API does not answer at the start (N-006).
const START_WITHIN: Duration = Duration::from_secs(5);

/// What a list under way has brought of one kind: it replaces what is known only when it is complete, so that nothing vanishes
/// in between.
struct Listing<T> {
    items: Vec<T>,
    /// Whether there was a complete list.
    complete: bool,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { items: Vec::new(), complete: false }
    }
}

impl<T> Listing<T> {
    fn finish(&mut self) -> Vec<T> {
        self.complete = true;
        std::mem::take(&mut self.items)
    }
}

struct Records {
    builder: ZoneBuilder,
    services: Listing<ServiceEntry>,
    slices: Listing<(Key, Vec<EndpointEntry>)>,
    namespaces: Listing<String>,
    /// Whether what is not known by now is not waited for.
    give_up_waiting: bool,
    /// Whether the last zone was a complete one.
    was_complete: bool,
}

enum Change {
    Service(Box<Event<Service>>),
    Slice(Box<Event<EndpointSlice>>),
    Namespace(Box<Event<Namespace>>),
}

impl Records {
    fn new(config: ZoneConfig) -> Self {
        Self {
            builder: ZoneBuilder::new(config),
            services: Listing::default(),
            slices: Listing::default(),
            namespaces: Listing::default(),
            give_up_waiting: false,
            was_complete: false,
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Service(event) => self.apply_service(*event),
            Change::Slice(event) => self.apply_slice(*event),
            Change::Namespace(event) => self.apply_namespace(*event),
        }
    }

    fn apply_service(&mut self, event: Event<Service>) {
        match event {
            Event::Init => self.services.items.clear(),
            Event::InitApply(object) => self.services.items.extend(records::service(&object)),
            Event::InitDone => self.builder.list_services(self.services.finish()),
            Event::Apply(object) => match records::service(&object) {
                Some(service) => self.builder.put_service(service),
                None => self.builder.remove_service(&key(&object)),
            },
            Event::Delete(object) => self.builder.remove_service(&key(&object)),
        }
    }

    fn apply_slice(&mut self, event: Event<EndpointSlice>) {
        match event {
            Event::Init => self.slices.items.clear(),
            Event::InitApply(object) => self.slices.items.push((key(&object), records::endpoints(&object))),
            Event::InitDone => self.builder.list_slices(self.slices.finish()),
            Event::Apply(object) => self.builder.put_slice(key(&object), records::endpoints(&object)),
            Event::Delete(object) => self.builder.remove_slice(&key(&object)),
        }
    }

    fn apply_namespace(&mut self, event: Event<Namespace>) {
        match event {
            Event::Init => self.namespaces.items.clear(),
            Event::InitApply(object) => self.namespaces.items.push(object.name_any()),
            Event::InitDone => {
                let names: HashSet<String> = self.namespaces.finish().into_iter().collect();
                self.builder.list_namespaces(&names);
            }
            Event::Apply(object) => self.builder.put_namespace(&object.name_any()),
            Event::Delete(object) => self.builder.remove_namespace(&object.name_any()),
        }
    }

    /// The zone, if it is another one than before.
    fn zone(&mut self, now: SystemTime) -> Option<Zone> {
        let read = self.services.complete && self.slices.complete && self.namespaces.complete;
        let complete = read || self.give_up_waiting;
        let became_complete = complete != std::mem::replace(&mut self.was_complete, complete);
        if !self.builder.take_changed() && !became_complete {
            return None;
        }
        // A SOA serial has 32 bits and wraps (RFC 1982): the lower half of the time is what it is.
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Some(self.builder.zone(u32::try_from(seconds & u64::from(u32::MAX)).unwrap_or(0), complete))
    }
}

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Follows Services, EndpointSlices and Namespaces and publishes a zone after each change, until `shutdown`.
pub(crate) async fn follow(config: ZoneConfig, client: Client, zone: Arc<ArcSwap<Zone>>, shutdown: CancellationToken) {
    let mut changes = futures::stream::select_all([
        events(Api::<Service>::all(client.clone()), Change::Service),
        events(Api::<EndpointSlice>::all(client.clone()), Change::Slice),
        events(Api::<Namespace>::all(client), Change::Namespace),
    ])
    .ready_chunks(BATCH);
    let mut records = Records::new(config);
    let late = tokio::time::sleep(START_WITHIN);
    tokio::pin!(late);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = &mut late, if !records.give_up_waiting => records.give_up_waiting = true,
            batch = changes.next() => match batch {
                Some(batch) => batch.into_iter().for_each(|change| records.apply(change)),
                None => return,
            },
        }
        if let Some(new) = records.zone(SystemTime::now()) {
            zone.store(Arc::new(new));
        }
    }
}

fn events<K>(api: Api<K>, wrap: fn(Box<Event<K>>) -> Change) -> BoxStream<'static, Change>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    use kube::runtime::WatchStreamExt as _;
    watcher::watcher(api, watcher::Config::default())
        .default_backoff()
        .filter_map(move |event| async move {
            match event {
                Ok(event) => Some(wrap(Box::new(event))),
                Err(error) => {
                    tracing::debug!(%error, "a watch broke off and is resumed");
                    None
                }
            }
        })
        .boxed()
}

#[cfg(test)]
mod tests {
    use minisvc_zone::{Code, Name, Outcome, RecordType};
    use serde_json::json;

    use super::*;

    fn namespace(name: &str) -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": name}})).expect("a Namespace")
    }

    fn records() -> Records {
        let (reverse, servers, hosts) = (Vec::new(), Vec::new(), Vec::new());
        let domain = Name::new("cluster.local");
        Records::new(ZoneConfig { domain, ttl: 5, reverse, servers, hosts, reverse_falls_through: true })
    }

    /// How a zone answers for a namespace.
    fn code(zone: &Zone, namespace: &str) -> Code {
        match zone.answer(&Name::new(&format!("{namespace}.svc.cluster.local")), RecordType::A) {
            Outcome::Answer(answer) => answer.code,
            other => panic!("{other:?}"),
        }
    }

    // N-006, N-007
    #[test]
    fn the_zone_is_complete_when_all_kinds_were_listed_once_and_a_relist_hides_nothing() {
        let mut records = records();
        let mut take = |event| {
            records.apply(Change::Namespace(Box::new(event)));
            records.zone(UNIX_EPOCH)
        };
        assert!(take(Event::Init).is_none() && take(Event::InitApply(namespace("a"))).is_none(), "nothing has changed");
        let zone = take(Event::InitDone).expect("a zone");
        assert_eq!([code(&zone, "a"), code(&zone, "b")], [Code::NoError, Code::ServFail], "Services are missing");
        records.apply(Change::Service(Box::new(Event::InitDone)));
        assert!(records.zone(UNIX_EPOCH).is_none(), "no other answer is given");
        records.apply(Change::Slice(Box::new(Event::InitDone)));
        let zone = records.zone(UNIX_EPOCH).expect("a complete one");
        assert_eq!([code(&zone, "a"), code(&zone, "b")], [Code::NoError, Code::NxDomain]);
        let mut take = |event| {
            records.apply(Change::Namespace(Box::new(event)));
            records.zone(UNIX_EPOCH)
        };
        assert!(take(Event::Init).is_none() && take(Event::InitApply(namespace("b"))).is_none(), "not during a list");
        let zone = take(Event::InitDone).expect("another one");
        assert_eq!([code(&zone, "a"), code(&zone, "b")], [Code::NxDomain, Code::NoError]);
        assert!(take(Event::Apply(namespace("b"))).is_none(), "a namespace that was labelled, say");
    }

    // N-006
    #[test]
    fn a_zone_that_stays_incomplete_says_so_for_a_while_only() {
        let mut records = records();
        records.apply(Change::Namespace(Box::new(Event::Apply(namespace("a")))));
        assert_eq!(code(&records.zone(UNIX_EPOCH).expect("a zone"), "b"), Code::ServFail);
        records.give_up_waiting = true;
        assert_eq!(code(&records.zone(UNIX_EPOCH).expect("a zone"), "b"), Code::NxDomain);
    }
}
