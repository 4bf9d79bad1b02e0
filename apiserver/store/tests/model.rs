//! Random transactions against the store and against a model of it that is too simple to be wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::*;
use minisvc_store::{
    CommitError, EventKind, Expectation, Key, MemoryBackend, Op, Revision, SledBackend, SledOptions, Store,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::future::Future;

#[derive(Clone, Debug)]
enum Step {
    Commit { expect: Vec<(usize, Guess)>, ops: Vec<(usize, Option<u16>)> },
    Reopen,
}

/// What a transaction expects of a key.
#[derive(Clone, Copy, Debug)]
enum Guess {
    Absent,
    Current,
    Stale,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guess = prop_oneof![1 => Just(Guess::Absent), 3 => Just(Guess::Current), 1 => Just(Guess::Stale)];
    let value =
        prop_oneof![3 => (0..40u16).prop_map(Some), 1 => Just(Some(20_000)), 1 => Just(Some(50_000)), 2 => Just(None)];
    let commit = (vec((0..8usize, guess), 0..2), vec((0..8usize, value), 0..4))
        .prop_map(|(expect, ops)| Step::Commit { expect, ops });
    vec(prop_oneof![12 => commit, 1 => Just(Step::Reopen)], 1..40)
}

fn name(number: usize) -> Key {
    let resource = if number % 4 == 3 { "services" } else { "pods" };
    key(resource, ["a", "b"][number % 2], &number.to_string())
}

/// Where a key was last written, and with what.
type Model = BTreeMap<Key, (Revision, String)>;

enum Expected {
    Done(Model),
    Conflict,
    Repeated,
}

fn predict(model: &Model, expect: &[Expectation], ops: &[(Key, Option<u16>)], revision: Revision) -> Expected {
    if !expect.iter().all(|expectation| expectation.holds(model.get(expectation.key()).map(|(at, _)| *at))) {
        return Expected::Conflict;
    }
    let mut after = model.clone();
    for (index, (key, value)) in ops.iter().enumerate() {
        if ops[..index].iter().any(|(earlier, _)| earlier == key) {
            return Expected::Repeated;
        }
        let existed = match value {
            Some(length) => after.insert(key.clone(), (revision, contents(*length, revision))).is_some(),
            None => after.remove(key).is_some(),
        };
        if value.is_none() && !existed {
            return Expected::Conflict;
        }
    }
    Expected::Done(after)
}

fn contents(length: u16, revision: Revision) -> String {
    format!("{}@{revision}", "x".repeat(length.into()))
}

async fn run(open: impl Fn() -> Store, steps: Vec<Step>) {
    let mut store = open();
    let mut opened_at = store.revision();
    let mut model = Model::new();
    // What a reader knows who listed once per life and watched since.
    let mut mirror = Model::new();
    let mut watches = watch_all(&store);
    for step in steps {
        let Step::Commit { expect, ops } = step else {
            within(store.close()).await;
            let last = store.revision();
            store = open();
            assert!(store.revision() > last || (store.revision() == last && opened_at == last));
            opened_at = store.revision();
            watches = watch_all(&store);
            continue;
        };
        let ops: Vec<(Key, Option<u16>)> = ops.into_iter().map(|(number, value)| (name(number), value)).collect();
        let expect: Vec<Expectation> = expect
            .into_iter()
            .map(|(number, guess)| match (guess, model.get(&name(number))) {
                (Guess::Current, Some((at, _))) => Expectation::At(name(number), *at),
                (Guess::Stale, Some((at, _))) => Expectation::At(name(number), Revision(at.0 - 1)),
                (Guess::Stale, None) => Expectation::At(name(number), store.revision()),
                (Guess::Absent, _) | (Guess::Current, None) => Expectation::Absent(name(number)),
            })
            .collect();
        let before = store.revision();
        let revision = if ops.is_empty() { before } else { before.next() };
        let expected = predict(&model, &expect, &ops, revision);
        let ops = ops.into_iter().map(|(key, value)| match value {
            Some(length) => Op::put(key, move |revision| contents(length, revision).into()),
            None => delete(&key, "last"),
        });
        let result = store.commit(txn(expect, ops.collect())).await;
        match (expected, result) {
            (Expected::Done(after), Ok(at)) => {
                assert_eq!(at, revision);
                model = after;
            }
            (Expected::Conflict, Err(CommitError::Conflict(_)))
            | (Expected::Repeated, Err(CommitError::Repeated(_))) => {
                assert_eq!(store.revision(), before);
            }
            (_, result) => panic!("unexpected {result:?}"),
        }
        compare(&store, &model);
        follow(&mut watches, &mut mirror);
        assert_eq!(mirror, model);
    }
}

fn watch_all(store: &Store) -> Vec<minisvc_store::Watch> {
    ["pods", "services"].map(|resource| store.watch(resource, store.revision()).unwrap()).into()
}

fn follow(watches: &mut [minisvc_store::Watch], mirror: &mut Model) {
    for watch in watches {
        while let Some(event) = watch.try_next().unwrap() {
            let record = event.record;
            let state = (record.revision, text(&record.value));
            let old = match event.kind {
                EventKind::Deleted => mirror.remove(&record.key),
                EventKind::Added | EventKind::Modified => mirror.insert(record.key.clone(), state),
            };
            assert_eq!(old.as_ref().map(|(at, _)| *at), event.previous.map(|previous| previous.revision));
            assert_eq!(old.is_none(), event.kind == EventKind::Added);
        }
    }
}

fn compare(store: &Store, model: &Model) {
    let mut found = Model::new();
    for resource in ["pods", "services"] {
        let all = store.list(resource, None).0;
        let by_namespace: Vec<_> =
            ["a", "b"].iter().flat_map(|namespace| store.list(resource, Some(namespace)).0).collect();
        assert_eq!(all, by_namespace);
        found.extend(all.iter().map(|record| (record.key.clone(), (record.revision, text(&record.value)))));
    }
    assert_eq!(&found, model);
    for number in 0..8 {
        let at = store.get(&name(number)).map(|record| record.revision);
        assert_eq!(at, model.get(&name(number)).map(|(at, _)| *at));
    }
}

fn block_on(what: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(what);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn memory_behaves_like_the_model(steps in steps()) {
        let backend = MemoryBackend::new();
        block_on(run(|| Store::open(backend.clone(), options()).unwrap(), steps));
    }

    #[test]
    fn sled_behaves_like_the_model(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let backend = SledBackend::open(directory.path(), SledOptions::default()).unwrap();
            Store::open(backend, options()).unwrap()
        };
        block_on(run(open, steps));
    }
}
