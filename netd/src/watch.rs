//! Keeps the records up to date from the API and publishes a new table after each change.

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use tokio_util::sync::CancellationToken;

use crate::publisher::Publisher;
use crate::records::{NodeRecord, ObjectKey, ServiceRecord, SliceRecord};
use crate::table::Inputs;

/// A change to the records, from whichever kind it came.
enum Change {
    Service(Box<Event<Service>>),
    Slice(Box<Event<EndpointSlice>>),
    Node(Box<Event<Node>>),
}

/// Follows Services, EndpointSlices and Nodes until `shutdown`. When the API goes away the last table stays (D-131),
/// and the watchers come back by themselves.
pub(crate) async fn follow(client: Client, publisher: Arc<Publisher>, shutdown: CancellationToken) {
    let mut changes = futures::stream::select_all([
        events(Api::<Service>::all(client.clone()), Change::Service),
        events(Api::<EndpointSlice>::all(client.clone()), Change::Slice),
        events(Api::<Node>::all(client), Change::Node),
    ])
    // What came in while the last table was built becomes one table: at most this many changes.
    .ready_chunks(1024);
    let mut relisting = Relisting::default();
    loop {
        let batch = tokio::select! {
            () = shutdown.cancelled() => return,
            batch = changes.next() => batch,
        };
        let Some(batch) = batch else { return };
        publisher.update(|inputs| {
            for change in batch {
                apply(change, inputs, &mut relisting);
            }
        });
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

/// What a watcher has listed again so far; it replaces the records when the list is complete, so that a relist never
/// makes a Service vanish in between.
#[derive(Default)]
struct Relisting {
    services: Vec<ServiceRecord>,
    slices: Vec<(ObjectKey, SliceRecord)>,
    nodes: Vec<NodeRecord>,
}

fn apply(change: Change, inputs: &mut Inputs, relisting: &mut Relisting) {
    match change {
        Change::Service(event) => match *event {
            Event::Init => relisting.services.clear(),
            Event::InitApply(object) => relisting.services.push(ServiceRecord::of(&object)),
            Event::InitDone => inputs.list_services(std::mem::take(&mut relisting.services)),
            Event::Apply(object) => inputs.put_service(ServiceRecord::of(&object)),
            Event::Delete(object) => inputs.remove_service(&key_of(&object.metadata)),
        },
        Change::Slice(event) => match *event {
            Event::Init => relisting.slices.clear(),
            Event::InitApply(object) => {
                let key = key_of(&object.metadata);
                relisting.slices.extend(SliceRecord::of(&object).map(|record| (key, record)));
            }
            Event::InitDone => inputs.list_slices(std::mem::take(&mut relisting.slices)),
            Event::Apply(object) => {
                let key = key_of(&object.metadata);
                match SliceRecord::of(&object) {
                    Some(record) => inputs.put_slice(key, record),
                    None => inputs.remove_slice(&key),
                }
            }
            Event::Delete(object) => inputs.remove_slice(&key_of(&object.metadata)),
        },
        Change::Node(event) => match *event {
            Event::Init => relisting.nodes.clear(),
            Event::InitApply(object) => relisting.nodes.push(NodeRecord::of(&object)),
            Event::InitDone => inputs.list_nodes(std::mem::take(&mut relisting.nodes)),
            Event::Apply(object) => inputs.put_node(NodeRecord::of(&object)),
            Event::Delete(object) => inputs.remove_node(object.metadata.name.as_deref().unwrap_or_default()),
        },
    }
}

fn key_of(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> ObjectKey {
    ObjectKey::new(metadata.namespace.as_deref(), metadata.name.as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str) -> Service {
        let object = json!({"metadata": {"namespace": "n", "name": name}, "spec": {"clusterIP": "10.96.0.9"}});
        serde_json::from_value(object).expect("a Service")
    }

    fn names(inputs: &Inputs) -> Vec<String> {
        let mut names: Vec<String> = inputs.services().keys().map(|key| key.name.to_string()).collect();
        names.sort();
        names
    }

    // D-131
    #[test]
    fn a_relist_replaces_the_records_only_when_it_is_complete() {
        let (mut inputs, mut relisting) = (Inputs::default(), Relisting::default());
        let mut feed = |event| apply(Change::Service(Box::new(event)), &mut inputs, &mut relisting);
        feed(Event::Init);
        feed(Event::InitApply(service("a")));
        feed(Event::InitDone);
        feed(Event::Apply(service("b")));
        feed(Event::Init);
        feed(Event::InitApply(service("b")));
        assert_eq!(names(&inputs), ["a", "b"], "nothing vanishes during the list");
        apply(Change::Service(Box::new(Event::InitDone)), &mut inputs, &mut relisting);
        assert_eq!(names(&inputs), ["b"]);
        apply(Change::Service(Box::new(Event::Delete(service("b")))), &mut inputs, &mut relisting);
        assert!(names(&inputs).is_empty());
    }
}
