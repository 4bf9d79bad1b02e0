//! Which kinds the API server serves, from its discovery.

use std::time::Duration;

use kube::core::{ApiResource, DynamicResourceScope};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client, Resource};
use tokio_util::sync::CancellationToken;

/// Between two attempts while the API server does not answer.
const RETRY: Duration = Duration::from_millis(500);

/// A kind whose objects can be listed, watched and deleted.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
}

impl Kind {
    /// Access to its objects: in `namespace` if the kind has one.
    pub(crate) fn api<K>(&self, client: &Client, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        if self.namespaced {
            Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }
}

/// Every such kind. Events are left out of their second group: they are the same objects.
pub(crate) async fn kinds(client: &Client) -> kube::Result<Vec<Kind>> {
    let discovery = Discovery::new(client.clone()).exclude(&["events.k8s.io"]).run().await?;
    let mut kinds = Vec::new();
    for group in discovery.groups_alphabetical() {
        for (resource, capabilities) in group.recommended_resources() {
            let usable =
                [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|verb| capabilities.supports_operation(verb));
            if usable {
                kinds.push(Kind { resource, namespaced: capabilities.scope == Scope::Namespaced });
            }
        }
    }
    Ok(kinds)
}

/// [`kinds`], repeated until the API server answers; `None` when `shutdown` came first.
pub(crate) async fn wait_for_kinds(client: &Client, shutdown: &CancellationToken) -> Option<Vec<Kind>> {
    loop {
        let attempt = tokio::select! {
            () = shutdown.cancelled() => return None,
            attempt = kinds(client) => attempt,
        };
        match attempt {
            Ok(kinds) => return Some(kinds),
            Err(error) => tracing::warn!(%error, "discovery failed, will be repeated"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Whether `K` is among `kinds`.
pub(crate) fn is_served<K: Resource<DynamicType = ()>>(kinds: &[Kind]) -> bool {
    kinds.iter().any(|kind| kind.resource.group == K::group(&()) && kind.resource.plural == K::plural(&()))
}
