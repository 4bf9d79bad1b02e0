//! Keeps the zone up to date from the API.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use minisvc_zone::{EndpointEntry, ServiceEntry, Zone, ZoneConfig, ZoneInput};
use tokio_util::sync::CancellationToken;

use crate::records;

/// Changes that become one zone when they come together.
const BATCH: usize = 1024;

/// How long unknown names are "not known yet" when the API does not answer at the start (N-006).
const START_WITHIN: Duration = Duration::from_secs(5);

/// Longest time that changes are gathered after a zone was built. An answer that is so much older than the API is still
/// within the second of N-031.
const GATHER: Duration = Duration::from_millis(200);

type Key = (String, String);

/// What has been read so far of one kind, and what a list under way has brought.
struct Kind<V> {
    known: HashMap<Key, V>,
    listing: HashMap<Key, V>,
    complete: bool,
}

impl<V> Default for Kind<V> {
    fn default() -> Self {
        Self { known: HashMap::new(), listing: HashMap::new(), complete: false }
    }
}

impl<V> Kind<V> {
    /// A list replaces what is known only when it is complete, so that nothing vanishes in between.
    fn apply<K: Resource>(&mut self, event: Event<K>, reduce: impl Fn(&K) -> V) {
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                self.listing.insert(key(&object), reduce(&object));
            }
            Event::InitDone => {
                self.known = std::mem::take(&mut self.listing);
                self.complete = true;
            }
            Event::Apply(object) => {
                self.known.insert(key(&object), reduce(&object));
            }
            Event::Delete(object) => {
                self.known.remove(&key(&object));
            }
        }
    }
}

#[derive(Default)]
struct Records {
    services: Kind<Option<ServiceEntry>>,
    slices: Kind<Vec<EndpointEntry>>,
    namespaces: Kind<()>,
}

enum Change {
    Service(Box<Event<Service>>),
    Slice(Box<Event<EndpointSlice>>),
    Namespace(Box<Event<Namespace>>),
}

impl Records {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Service(event) => self.services.apply(*event, records::service),
            Change::Slice(event) => self.slices.apply(*event, records::endpoints),
            Change::Namespace(event) => self.namespaces.apply(*event, |_| ()),
        }
    }

    fn input(&self, now: SystemTime, give_up_waiting: bool) -> ZoneInput {
        // In the order of their names, so that the same objects always give the same zone.
        let services: BTreeMap<_, _> = self.services.known.iter().collect();
        let slices: BTreeMap<_, _> = self.slices.known.iter().collect();
        let namespaces: BTreeSet<String> = self.namespaces.known.keys().map(|(_, name)| name.clone()).collect();
        let complete = self.services.complete && self.slices.complete && self.namespaces.complete;
        ZoneInput {
            namespaces,
            services: services.into_values().flatten().cloned().collect(),
            endpoints: slices.into_values().flatten().cloned().collect(),
            // A SOA serial has 32 bits and wraps (RFC 1982): the lower half of the time is what it is.
            changed: now
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| u32::try_from(time.as_secs() & u64::from(u32::MAX)).unwrap_or(0)),
            complete: complete || give_up_waiting,
        }
    }
}

/// Follows Services, EndpointSlices and Namespaces and publishes a zone after each change, until `shutdown`.
pub(crate) async fn follow(config: ZoneConfig, client: Client, zone: Arc<ArcSwap<Zone>>, shutdown: CancellationToken) {
    let mut changes = futures::stream::select_all([
        events(Api::<Service>::all(client.clone()), Change::Service),
        events(Api::<EndpointSlice>::all(client.clone()), Change::Slice),
        events(Api::<Namespace>::all(client), Change::Namespace),
    ])
    .ready_chunks(BATCH);
    let mut records = Records::default();
    let late = tokio::time::sleep(START_WITHIN);
    tokio::pin!(late);
    let mut give_up_waiting = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = &mut late, if !give_up_waiting => give_up_waiting = true,
            batch = changes.next() => match batch {
                Some(batch) => batch.into_iter().for_each(|change| records.apply(change)),
                None => return,
            },
        }
        let began = Instant::now();
        let input = records.input(SystemTime::now(), give_up_waiting);
        zone.store(Arc::new(Zone::build(config.clone(), input)));
        if let Some(pause) = pause_after(began.elapsed()) {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// What a large zone costs is not paid again at once: what changes in as much time becomes one zone, so that building takes
/// at most half of a processor. A small one costs nothing worth waiting for.
fn pause_after(took: Duration) -> Option<Duration> {
    (took > Duration::from_millis(5)).then(|| took.min(GATHER))
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
    use serde_json::json;

    use super::*;

    fn namespace(name: &str) -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": name}})).expect("a Namespace")
    }

    #[test]
    fn a_large_zone_is_not_built_all_the_time_and_a_small_one_at_once() {
        let after = |millis| pause_after(Duration::from_millis(millis)).map(|pause| pause.as_millis());
        assert_eq!([after(0), after(5), after(50), after(5000)], [None, None, Some(50), Some(200)]);
    }

    // N-006, N-007
    #[test]
    fn the_zone_is_complete_when_all_kinds_were_listed_once_and_a_relist_hides_nothing() {
        let mut records = Records::default();
        let names = |records: &Records| records.input(UNIX_EPOCH, false).namespaces.into_iter().collect::<Vec<_>>();
        for event in [Event::Init, Event::InitApply(namespace("a")), Event::InitDone] {
            records.apply(Change::Namespace(Box::new(event)));
        }
        assert!(!records.input(UNIX_EPOCH, false).complete, "Services are missing");
        assert!(records.input(UNIX_EPOCH, true).complete, "but not for ever");
        records.apply(Change::Service(Box::new(Event::InitDone)));
        records.apply(Change::Slice(Box::new(Event::InitDone)));
        assert!(records.input(UNIX_EPOCH, false).complete);
        records.apply(Change::Namespace(Box::new(Event::Init)));
        assert_eq!(names(&records), ["a"], "nothing vanishes during a list");
        records.apply(Change::Namespace(Box::new(Event::InitApply(namespace("b")))));
        records.apply(Change::Namespace(Box::new(Event::InitDone)));
        assert_eq!(names(&records), ["b"]);
    }
}
