//! What the test files of the store share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use minisvc_store::{
    CommitError, Event, EventKind, Expectation, Head, Key, Op, Options, Revision, Store, Txn, Watch, WatchClosed,
};

/// Far more than anything here takes on a slow machine: reaching it means that what was waited for never comes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Test values are `TEXT@REVISION`; the head's uid is the text.
pub(crate) fn parse_head(_: &Key, value: &[u8]) -> Head {
    let text = String::from_utf8_lossy(value);
    Head::new(text.split('@').next().unwrap_or_default(), [], [])
}

pub(crate) fn volatile(key: &Key) -> bool {
    &*key.resource == "events"
}

pub(crate) fn options() -> Options {
    Options {
        restamp: |record, revision| Bytes::from(format!("{}@{revision}", record.head.uid())),
        ..Options::new(parse_head, volatile)
    }
}

pub(crate) fn key(resource: &str, namespace: &str, name: &str) -> Key {
    Key::new(resource, namespace, name)
}

pub(crate) fn pod(name: &str) -> Key {
    key("pods", "default", name)
}

pub(crate) fn stamped(text: &str) -> impl FnOnce(Revision) -> Bytes + Send + 'static {
    let text = text.to_owned();
    move |revision| Bytes::from(format!("{text}@{revision}"))
}

pub(crate) fn put(key: &Key, text: &str) -> Op {
    Op::put(key.clone(), stamped(text))
}

pub(crate) fn delete(key: &Key, text: &str) -> Op {
    Op::delete(key.clone(), stamped(text))
}

pub(crate) fn txn(expect: Vec<Expectation>, ops: Vec<Op>) -> Txn {
    Txn { expect, ops }
}

pub(crate) async fn create(store: &Store, key: &Key, text: &str) -> Result<Revision, CommitError> {
    store.commit(txn(vec![Expectation::Absent(key.clone())], vec![put(key, text)])).await
}

pub(crate) async fn write(store: &Store, key: &Key, text: &str) -> Revision {
    store.commit(txn(vec![], vec![put(key, text)])).await.unwrap()
}

pub(crate) async fn remove(store: &Store, key: &Key) -> Revision {
    store.commit(txn(vec![], vec![delete(key, "last")])).await.unwrap()
}

/// What is stored, as `ns/name=value`.
pub(crate) fn listing(store: &Store, resource: &str, namespace: Option<&str>) -> Vec<String> {
    let (records, _) = store.list(resource, namespace);
    records
        .iter()
        .map(|record| format!("{}/{}={}", record.key.namespace, record.key.name, text(&record.value)))
        .collect()
}

/// Text of this length that cannot be packed, for tests about the room that records take.
pub(crate) fn noise(length: usize) -> String {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ u64::try_from(length).unwrap();
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + u8::try_from(state % 94).unwrap())
    };
    (0..length).map(|_| letter()).collect()
}

pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it did not happen in time")
}

pub(crate) async fn next(watch: &mut Watch) -> Event {
    within(watch.next()).await.unwrap()
}

pub(crate) async fn closed(watch: &mut Watch) -> WatchClosed {
    loop {
        if let Err(closed) = within(watch.next()).await {
            return closed;
        }
    }
}

pub(crate) fn shown(event: &Event) -> String {
    let kind = match event.kind {
        EventKind::Added => "ADDED",
        EventKind::Modified => "MODIFIED",
        EventKind::Deleted => "DELETED",
    };
    format!("{kind} {} {}", event.record.key.name, text(&event.record.value))
}
