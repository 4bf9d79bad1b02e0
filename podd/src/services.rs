//! Follows the Services of the API, for the variables that announce them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::warn;

use crate::env::services::Announced;
use crate::shared::lock;

/// See the module.
pub(crate) struct Services {
    announced: Mutex<Announced>,
    listed: watch::Sender<bool>,
}

impl Services {
    /// Knows of none yet.
    pub(crate) fn new() -> Self {
        Self { announced: Mutex::default(), listed: watch::Sender::new(false) }
    }

    /// Keeps up to date for as long as it is polled.
    pub(crate) async fn follow(self: Arc<Self>, client: Client) {
        let events = watcher(Api::<Service>::all(client), watcher::Config::default()).default_backoff();
        let mut events = std::pin::pin!(events);
        // Takes the place of what is known when it is complete.
        let mut listing = Announced::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listing = Announced::default(),
                Ok(Event::InitApply(service)) => listing.put(&service),
                Ok(Event::InitDone) => {
                    *lock(&self.announced) = std::mem::take(&mut listing);
                    self.listed.send_replace(true);
                }
                Ok(Event::Apply(service)) => lock(&self.announced).put(&service),
                Ok(Event::Delete(service)) => lock(&self.announced).remove(&service),
                Err(error) => warn!(%error, "the list of services is not up to date"),
            }
        }
    }

    /// Resolves when all that there are have been listed once (P-069).
    pub(crate) async fn listed(&self) {
        // The sender lives in self, so the wait can only end with the condition.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// What a pod of this namespace is told of them ([`Announced::variables`]).
    pub(crate) fn variables(&self, namespace: &str, links: bool) -> BTreeMap<String, String> {
        lock(&self.announced).variables(namespace, links)
    }
}
