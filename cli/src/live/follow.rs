//! Watches everything that is shown, and tells changes only.

use std::collections::HashMap;
use std::fmt::Debug;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::records::{Change, Key, Kind, Record, Shown};

/// Changes waiting for whoever shows them; a watch that is ahead waits.
const BACKLOG: usize = 4096;

/// Follows the objects of a lab until the receiver is dropped. First comes what is there.
pub(crate) fn follow(client: &Client) -> mpsc::Receiver<Change> {
    let (change_tx, changes) = mpsc::channel(BACKLOG);
    tokio::spawn(watch::<Node>(Api::all(client.clone()), Kind::Node, change_tx.clone()));
    tokio::spawn(watch::<Service>(Api::all(client.clone()), Kind::Service, change_tx.clone()));
    tokio::spawn(watch::<Pod>(Api::all(client.clone()), Kind::Pod, change_tx.clone()));
    tokio::spawn(watch::<EndpointSlice>(Api::all(client.clone()), Kind::Slice, change_tx));
    changes
}

async fn watch<K>(api: Api<K>, kind: Kind, change_tx: mpsc::Sender<Change>)
where
    K: Shown + Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut told = Told::new(kind);
    let mut events = watcher::watcher(api, watcher::Config::default()).default_backoff().boxed();
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            () = change_tx.closed() => return,
        };
        let changes = match event {
            Ok(Some(event)) => told.handle(event),
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, ?kind, "a watch broke off and is tried again");
                continue;
            }
        };
        for change in changes {
            if change_tx.send(change).await.is_err() {
                return;
            }
        }
    }
}

/// What was told about one kind, so that nothing is told twice and nothing that vanished unseen is forgotten.
struct Told {
    kind: Kind,
    known: HashMap<Key, Record>,
    /// What a list that is under way has shown so far.
    listed: HashMap<Key, Record>,
}

impl Told {
    fn new(kind: Kind) -> Self {
        Self { kind, known: HashMap::new(), listed: HashMap::new() }
    }

    fn handle<K: Shown>(&mut self, event: Event<K>) -> Vec<Change> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.extend(object.reduced());
                Vec::new()
            }
            Event::InitDone => self.settle(),
            Event::Apply(object) => {
                object.reduced().and_then(|(key, record)| self.put(key, record)).into_iter().collect()
            }
            Event::Delete(object) => {
                let known = object.reduced().filter(|(key, _)| self.known.remove(key).is_some());
                known.map(|(key, _)| Change::Delete(self.kind, key)).into_iter().collect()
            }
        }
    }

    fn put(&mut self, key: Key, record: Record) -> Option<Change> {
        if self.known.get(&key) == Some(&record) {
            return None;
        }
        self.known.insert(key.clone(), record.clone());
        Some(Change::Put(key, record))
    }

    /// A list is complete: what is not in it is gone.
    fn settle(&mut self) -> Vec<Change> {
        let listed = std::mem::take(&mut self.listed);
        let gone: Vec<Key> = self.known.keys().filter(|key| !listed.contains_key(*key)).cloned().collect();
        let mut changes: Vec<Change> = Vec::new();
        for key in gone {
            self.known.remove(&key);
            changes.push(Change::Delete(self.kind, key));
        }
        changes.extend(listed.into_iter().filter_map(|(key, record)| self.put(key, record)));
        changes
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn node(name: &str, ready: &str) -> Node {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        from_value(json!({"metadata": {"name": name}, "status": {"conditions": conditions}})).expect("a Node")
    }

    #[test]
    fn a_list_that_comes_again_tells_only_what_is_different() {
        let mut told = Told::new(Kind::Node);
        let list = |told: &mut Told, nodes: &[Node]| {
            told.handle(Event::<Node>::Init);
            for node in nodes {
                assert!(told.handle(Event::InitApply(node.clone())).is_empty());
            }
            told.handle(Event::<Node>::InitDone)
        };
        assert_eq!(list(&mut told, &[node("a", "True"), node("b", "True")]).len(), 2);
        assert!(told.handle(Event::Apply(node("a", "True"))).is_empty(), "nothing that is shown has changed");
        assert_eq!(told.handle(Event::Apply(node("a", "False"))).len(), 1);
        assert_eq!(list(&mut told, &[node("a", "False")]), [Change::Delete(Kind::Node, "b".into())]);
        assert_eq!(told.handle(Event::Delete(node("a", "False"))), [Change::Delete(Kind::Node, "a".into())]);
        assert!(told.handle(Event::Delete(node("a", "False"))).is_empty());
    }
}
