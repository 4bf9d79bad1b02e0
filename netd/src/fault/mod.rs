//! Faults: objects of the API that have packets between places come late, wrong or not at all, for a time.
//!
//! They are followed here and handed to the worker, which applies them between the translator and the devices. What
//! happens to a packet is decided in `core`; whom a Fault is for, in `record`.

mod apply;
mod core;
mod record;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, Preconditions,
};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(crate) use self::apply::{FaultyLinks, Outcome};
pub use self::core::FaultCounts;
pub(crate) use self::core::Rule;
use self::record::{FaultRecord, World};
use crate::observe::Clocks;
use crate::worker::Command;
use crate::{Netd, unpredictable};

/// How often places are looked up again while there is a Fault: pods come and go, and so do endpoints.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Faults at once; later ones have no effect, and their status says so.
const MAX_FAULTS: usize = 256;

/// Follows the Faults of the API until `shutdown`, and has the worker do what they say. One whose time is over is deleted.
pub(crate) async fn follow(netd: Netd, client: Client, shutdown: CancellationToken) {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("minisvc.dev", "v1", "Fault"));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let mut events = watcher(api.clone(), watcher::Config::default()).default_backoff().boxed();
    let mut follower = Follower { netd, api, client, faults: BTreeMap::new(), listing: None, installed: Vec::new() };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => match event {
                Some(Ok(event)) => follower.handle(event),
                Some(Err(error)) => {
                    tracing::debug!(%error, "the watch of faults broke off and is resumed");
                    continue;
                }
                None => return,
            },
            () = tokio::time::sleep(LOOK_AGAIN), if !follower.faults.is_empty() => {}
        }
        follower.end_those_that_are_over().await;
        follower.install().await;
    }
}

struct Follower {
    netd: Netd,
    api: Api<DynamicObject>,
    client: Client,
    /// By name.
    faults: BTreeMap<String, FaultRecord>,
    /// What a list that is being received has shown.
    listing: Option<BTreeMap<String, FaultRecord>>,
    installed: Vec<Rule>,
}

impl Follower {
    fn handle(&mut self, event: watcher::Event<DynamicObject>) {
        match event {
            watcher::Event::Init => self.listing = Some(BTreeMap::new()),
            watcher::Event::InitApply(object) => {
                let fault = self.read(&object);
                self.listing.get_or_insert_default().extend(fault);
            }
            watcher::Event::InitDone => self.faults = self.listing.take().unwrap_or_default(),
            watcher::Event::Apply(object) => match self.read(&object) {
                Some((name, fault)) => {
                    self.faults.insert(name, fault);
                }
                None => {
                    self.faults.remove(&object.name_any());
                }
            },
            watcher::Event::Delete(object) => {
                self.faults.remove(&object.name_any());
            }
        }
    }

    /// A Fault that is the same as before goes on with the same chance.
    fn read(&self, object: &DynamicObject) -> Option<(String, FaultRecord)> {
        let (name, mut fault) = reduce(object)?;
        if let Some(known) = self.faults.get(&name).filter(|known| known.id == fault.id) {
            fault.any_seed = known.any_seed;
        }
        Some((name, fault))
    }

    /// Deletes what is over, unless it was made anew meanwhile; its rule ends by itself.
    async fn end_those_that_are_over(&mut self) {
        let now = Timestamp::now();
        let is_over = |fault: &FaultRecord| fault.expires().is_some_and(|expires| expires <= now);
        let over: Vec<String> =
            self.faults.iter().filter(|(_, fault)| is_over(fault)).map(|(name, _)| name.clone()).collect();
        for name in over {
            let Some(fault) = self.faults.get(&name) else { continue };
            let uid = fault.id.split('/').next().map(str::to_owned);
            let same = DeleteParams::default().preconditions(Preconditions { uid, resource_version: None });
            match self.api.delete(&name, &same).await {
                // Somebody was faster, or has made it anew.
                Ok(_) | Err(kube::Error::Api(_)) => {
                    self.faults.remove(&name);
                }
                // It is tried again with the next look.
                Err(error) => tracing::debug!(%error, name, "a fault whose time is over is not deleted"),
            }
        }
    }

    async fn install(&mut self) {
        let labels = self.labels().await;
        let (places, table) = (self.netd.places(), self.netd.table());
        let world = World { places: &places, table: &table, labels: &labels, clocks: Clocks::read() };
        let rules: Vec<Rule> = self.faults.values().take(MAX_FAULTS).map(|fault| fault.rule(&world)).collect();
        if same(&rules, &self.installed) {
            return;
        }
        let known: Vec<Arc<str>> = self.installed.iter().map(|rule| Arc::clone(&rule.id)).collect();
        self.installed = rules.clone();
        self.netd.shared.mailbox.send(Command::Faults(rules));
        for (number, (name, fault)) in self.faults.iter().enumerate() {
            if !known.contains(&fault.id) {
                self.show(name, fault, number < MAX_FAULTS).await;
            }
        }
    }

    /// Labels of all pods, if somebody asks for them.
    async fn labels(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        if !self.faults.values().any(FaultRecord::asks_for_labels) {
            return BTreeMap::new();
        }
        let pods: Api<Pod> = Api::all(self.client.clone());
        let list = match pods.list_metadata(&ListParams::default()).await {
            Ok(list) => list.items,
            Err(error) => {
                tracing::debug!(%error, "pods cannot be listed for faults");
                Vec::new()
            }
        };
        let labels = |pod: kube::api::PartialObjectMeta<Pod>| {
            let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            (name, pod.metadata.labels.unwrap_or_default())
        };
        list.into_iter().map(labels).collect()
    }

    /// Says in a Fault's status that it works, and until when.
    async fn show(&self, name: &str, fault: &FaultRecord, works: bool) {
        let message = (!works).then(|| format!("more than {MAX_FAULTS} faults at once"));
        let status =
            json!({"phase": if works { "Active" } else { "Ignored" }, "expires": fault.expires(), "message": message});
        let patch = Patch::Merge(json!({"status": status}));
        if let Err(error) = self.api.patch_status(name, &PatchParams::default(), &patch).await {
            tracing::debug!(%error, name, "the status of a fault is not taken");
        }
    }
}

/// Whether two sets of rules do the same. The end of a rule is computed anew each time, and differs a little.
fn same(one: &[Rule], other: &[Rule]) -> bool {
    let without_end = |rule: &Rule| Rule { until: None, ..rule.clone() };
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| without_end(a) == without_end(b))
}

fn reduce(object: &DynamicObject) -> Option<(String, FaultRecord)> {
    let name = object.name_any();
    let spec = match serde_json::from_value(object.data["spec"].clone()) {
        Ok(spec) => spec,
        Err(error) => {
            // The API has checked it, so it is of another version of this program.
            tracing::warn!(%error, name, "a fault makes no sense and has no effect");
            return None;
        }
    };
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let id = format!("{uid}/{}", object.metadata.generation.unwrap_or_default()).into();
    let created = object.metadata.creation_timestamp.as_ref().map_or_else(Timestamp::now, |time| time.0);
    Some((name, FaultRecord { id, created, spec, any_seed: unpredictable() }))
}

#[cfg(test)]
pub(crate) fn between_all(effect: serde_json::Value) -> Vec<Rule> {
    let spec = serde_json::from_value(effect).expect("a spec");
    let fault = FaultRecord { id: "test/1".into(), created: Timestamp::now(), spec, any_seed: 1 };
    let (places, table, labels) = Default::default();
    vec![fault.rule(&World { places: &places, table: &table, labels: &labels, clocks: Clocks::read() })]
}
