//! What every backend must do, run against each of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod common;

use std::time::Duration;

use common::*;
use minisvc_store::{
    Backend, CommitError, EventKind, Expectation, FutureRevision, MemoryBackend, Revision, SledBackend, SledOptions,
    Store, TooOld, Txn, WatchClosed,
};

/// Opens the same records again and again.
trait Fixture {
    type Backend: Backend;
    fn new() -> Self;
    fn backend(&self) -> Self::Backend;
    fn open(&self) -> Store {
        Store::open(self.backend(), options()).unwrap()
    }
}

struct Memory(MemoryBackend);

impl Fixture for Memory {
    type Backend = MemoryBackend;
    fn new() -> Self {
        Self(MemoryBackend::new())
    }
    fn backend(&self) -> MemoryBackend {
        self.0.clone()
    }
}

struct Sled(tempfile::TempDir);

impl Fixture for Sled {
    type Backend = SledBackend;
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn backend(&self) -> SledBackend {
        SledBackend::open(self.0.path(), SledOptions::default()).unwrap()
    }
}

macro_rules! conformance {
    ($($(#[$comment:meta])* $name:ident)*) => {
        mod memory { $(#[tokio::test] async fn $name() { super::$name(<super::Memory as super::Fixture>::new()).await; })* }
        mod sled { $(#[tokio::test] async fn $name() { super::$name(<super::Sled as super::Fixture>::new()).await; })* }
    };
}

conformance! {
    a_fresh_store_is_empty_and_not_at_revision_zero
    an_object_is_stored_under_the_revision_it_carries
    a_transaction_happens_completely_or_not_at_all
    of_two_that_expect_the_same_one_wins
    deleting_what_is_not_there_is_a_conflict
    a_transaction_without_steps_checks_and_changes_nothing
    lists_are_sorted_and_limited_to_a_namespace
    what_a_resource_is_worth_is_told_without_reading_it
    a_watch_continues_a_list_without_gap
    a_watch_sees_one_resource_in_all_namespaces
    a_deletion_carries_the_last_state_and_its_own_revision
    forgotten_history_is_too_old
    history_is_limited_by_size_too
    a_watch_of_the_future_waits_for_it
    a_slow_watch_ends_and_holds_nobody_up
    progress_is_known_only_when_all_is_delivered
    waiting_for_a_revision
    closing_ends_watches_and_writes
    records_survive_and_revisions_grow
    volatile_records_do_not_survive_but_their_revisions_count
    volatile_records_are_bounded
    large_values_come_back_whole
    values_shrink_and_grow
    limits_and_misuse_are_refused
    a_panic_while_encoding_harms_only_its_transaction
    a_dropped_request_is_done_all_the_same
    many_writers_each_get_their_own_revision
}

async fn a_fresh_store_is_empty_and_not_at_revision_zero(fixture: impl Fixture) {
    let store = fixture.open();
    let (records, revision) = store.list("pods", None);
    assert!(records.is_empty());
    assert!(revision > Revision(0));
    assert_eq!(store.get(&pod("a")), None);
}

async fn an_object_is_stored_under_the_revision_it_carries(fixture: impl Fixture) {
    let store = fixture.open();
    let before = store.revision();
    let revision = create(&store, &pod("a"), "one").await.unwrap();
    assert!(revision > before);
    let record = store.get(&pod("a")).unwrap();
    assert_eq!((record.revision, text(&record.value)), (revision, format!("one@{revision}")));
    assert_eq!(record.head.uid(), "one");
    assert_eq!(store.revision(), revision);
}

async fn a_transaction_happens_completely_or_not_at_all(fixture: impl Fixture) {
    let store = fixture.open();
    let taken = key("+clusterips", "", "10.96.0.7");
    create(&store, &taken, "someone").await.unwrap();
    let service = key("services", "default", "web");
    let both = || txn(vec![Expectation::Absent(taken.clone())], vec![put(&service, "web"), put(&taken, "web")]);
    let refused = store.commit(both()).await;
    assert!(matches!(refused, Err(CommitError::Conflict(key)) if key == taken));
    assert_eq!(store.get(&service), None);

    remove(&store, &taken).await;
    let revision = store.commit(both()).await.unwrap();
    assert_eq!(store.get(&service).unwrap().revision, revision);
    assert_eq!(store.get(&taken).unwrap().revision, revision);
}

async fn of_two_that_expect_the_same_one_wins(fixture: impl Fixture) {
    let store = fixture.open();
    let at = create(&store, &pod("a"), "zero").await.unwrap();
    let update = |text| store.commit(txn(vec![Expectation::At(pod("a"), at)], vec![put(&pod("a"), text)]));
    // Both are queued before either is answered, so that they meet in one batch.
    let (one, two) = tokio::join!(update("one"), update("two"));
    let revision = one.unwrap();
    assert!(matches!(two, Err(CommitError::Conflict(key)) if key == pod("a")));
    assert_eq!(listing(&store, "pods", None), [format!("default/a=one@{revision}")]);

    let new = pod("b");
    let (one, two) = tokio::join!(create(&store, &new, "one"), create(&store, &new, "two"));
    assert!(one.is_ok() && matches!(two, Err(CommitError::Conflict(_))));
}

async fn deleting_what_is_not_there_is_a_conflict(fixture: impl Fixture) {
    let store = fixture.open();
    let result = store.commit(txn(vec![], vec![delete(&pod("a"), "a")])).await;
    assert!(matches!(result, Err(CommitError::Conflict(key)) if key == pod("a")));
}

async fn a_transaction_without_steps_checks_and_changes_nothing(fixture: impl Fixture) {
    let store = fixture.open();
    let at = create(&store, &pod("a"), "a").await.unwrap();
    assert_eq!(store.commit(txn(vec![Expectation::At(pod("a"), at)], vec![])).await.unwrap(), at);
    assert!(store.commit(txn(vec![Expectation::Absent(pod("a"))], vec![])).await.is_err());
    assert_eq!(store.revision(), at);
}

//
async fn lists_are_sorted_and_limited_to_a_namespace(fixture: impl Fixture) {
    let store = fixture.open();
    for (namespace, name) in [("b", "x"), ("a", "y"), ("b", "a"), ("a-b", "z"), ("a", "b")] {
        write(&store, &key("pods", namespace, name), "v").await;
    }
    write(&store, &key("podsets", "a", "other"), "v").await;
    let names = |namespace| -> Vec<String> {
        store.list("pods", namespace).0.iter().map(|r| format!("{}/{}", r.key.namespace, r.key.name)).collect()
    };
    assert_eq!(names(None), ["a/b", "a/y", "a-b/z", "b/a", "b/x"]);
    assert_eq!(names(Some("b")), ["b/a", "b/x"]);
    assert!(names(Some("c")).is_empty());
}

//
async fn a_watch_continues_a_list_without_gap(fixture: impl Fixture) {
    let store = fixture.open();
    // A writer that never pauses, and lists at arbitrary moments: list plus watch must give its every write.
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for number in 0..200 {
                write(&store, &pod(&format!("p{number:03}")), "v").await;
            }
        }
    });
    while !writer.is_finished() {
        let (records, revision) = store.list("pods", None);
        let mut watch = store.watch("pods", revision).unwrap();
        let mut names: Vec<String> = records.iter().map(|record| record.key.name.to_string()).collect();
        let mut newest = revision;
        for _ in 0..5.min(200 - names.len()) {
            let event = next(&mut watch).await;
            assert!(event.record.revision > newest);
            assert_eq!(event.kind, EventKind::Added);
            newest = event.record.revision;
            names.push(event.record.key.name.to_string());
        }
        let expected: Vec<String> = (0..names.len()).map(|number| format!("p{number:03}")).collect();
        assert_eq!(names, expected);
        tokio::task::yield_now().await;
    }
    within(writer).await.unwrap();
}

async fn a_watch_sees_one_resource_in_all_namespaces(fixture: impl Fixture) {
    let store = fixture.open();
    let mut watch = store.watch("pods", store.revision()).unwrap();
    let both = vec![put(&key("pods", "b", "two"), "v"), put(&key("services", "b", "no"), "v"), put(&pod("one"), "v")];
    let at = store.commit(txn(vec![], both)).await.unwrap();
    let last = write(&store, &key("pods", "a", "three"), "v").await;
    // Events of one transaction come in the order of its steps.
    assert_eq!(shown(&next(&mut watch).await), format!("ADDED two v@{at}"));
    assert_eq!(shown(&next(&mut watch).await), format!("ADDED one v@{at}"));
    assert_eq!(shown(&next(&mut watch).await), format!("ADDED three v@{last}"));
}

//
async fn a_deletion_carries_the_last_state_and_its_own_revision(fixture: impl Fixture) {
    let store = fixture.open();
    let start = store.revision();
    let added = create(&store, &pod("a"), "v1").await.unwrap();
    let modified = write(&store, &pod("a"), "v2").await;
    let deleted = remove(&store, &pod("a")).await;
    let again = create(&store, &pod("a"), "v3").await.unwrap();
    assert!(added < modified && modified < deleted && deleted < again);
    let mut watch = store.watch("pods", start).unwrap();
    let mut events = Vec::new();
    for _ in 0..4 {
        events.push(next(&mut watch).await);
    }
    assert_eq!(
        events.iter().map(shown).collect::<Vec<_>>(),
        [
            format!("ADDED a v1@{added}"),
            format!("MODIFIED a v2@{modified}"),
            format!("DELETED a last@{deleted}"),
            format!("ADDED a v3@{again}"),
        ]
    );
    let previous: Vec<_> = events.iter().map(|event| event.previous.as_ref().map(|old| old.revision)).collect();
    assert_eq!(previous, [None, Some(added), Some(modified), None]);
    assert_eq!(events[2].record.revision, deleted);
}

//
async fn forgotten_history_is_too_old(fixture: impl Fixture) {
    let store = Store::open(fixture.backend(), minisvc_store::Options { ring_events: 3, ..options() }).unwrap();
    let start = store.revision();
    let mut revisions = Vec::new();
    for number in 0..5 {
        revisions.push(write(&store, &pod(&number.to_string()), "v").await);
    }
    // The ring holds the last three; a watch may begin right before them and no earlier.
    let oldest = revisions[1];
    let refused = store.watch("pods", start).unwrap_err();
    assert_eq!(refused, TooOld { requested: start, oldest });
    assert_eq!(refused.to_string(), format!("too old resource version: {start} ({oldest})"));
    assert!(store.watch("pods", revisions[0]).is_err());
    let mut watch = store.watch("pods", oldest).unwrap();
    assert_eq!(next(&mut watch).await.record.revision, revisions[2]);
    // Another resource's history is its own.
    assert!(store.watch("services", start).is_ok());
}

async fn history_is_limited_by_size_too(fixture: impl Fixture) {
    let store = Store::open(fixture.backend(), minisvc_store::Options { ring_bytes: 10_000, ..options() }).unwrap();
    let start = store.revision();
    let first = write(&store, &pod("a"), &"x".repeat(6_000)).await;
    assert!(store.watch("pods", start).is_ok());
    let second = write(&store, &pod("b"), &"x".repeat(60_000)).await;
    assert!(store.watch("pods", start).is_err());
    // The newest event stays, however large.
    let mut watch = store.watch("pods", first).unwrap();
    assert_eq!(next(&mut watch).await.record.revision, second);
    // The state before a change is kept for its event, and counts too.
    write(&store, &pod("c"), &"x".repeat(4_000)).await;
    let start = store.revision();
    let changed = write(&store, &pod("c"), &"x".repeat(4_000)).await;
    assert!(store.watch("pods", start).is_ok());
    write(&store, &pod("d"), &"x".repeat(3_000)).await;
    assert!(store.watch("pods", start).is_err());
    assert!(store.watch("pods", changed).is_ok());
}

//
async fn a_watch_of_the_future_waits_for_it(fixture: impl Fixture) {
    let store = fixture.open();
    let start = store.revision();
    let from = Revision(start.0 + 2);
    let mut watch = store.watch("pods", from).unwrap();
    for name in ["one", "two", "three"] {
        write(&store, &pod(name), "v").await;
    }
    let event = next(&mut watch).await;
    assert_eq!((&*event.record.key.name, event.record.revision), ("three", from.next()));
}

//
async fn a_slow_watch_ends_and_holds_nobody_up(fixture: impl Fixture) {
    let store = Store::open(fixture.backend(), minisvc_store::Options { ring_events: 4, ..options() }).unwrap();
    let mut slow = store.watch("pods", store.revision()).unwrap();
    let mut prompt = store.watch("pods", store.revision()).unwrap();
    for number in 0..20 {
        let revision = within(write(&store, &pod(&number.to_string()), "v")).await;
        assert_eq!(next(&mut prompt).await.record.revision, revision);
    }
    assert_eq!(closed(&mut slow).await, WatchClosed::TooSlow);
    assert_eq!(closed(&mut slow).await, WatchClosed::TooSlow);
}

async fn progress_is_known_only_when_all_is_delivered(fixture: impl Fixture) {
    let store = fixture.open();
    let start = store.revision();
    let mut watch = store.watch("pods", start).unwrap();
    assert_eq!(watch.progress(), Some(start));
    write(&store, &pod("a"), "v").await;
    assert_eq!(watch.progress(), None);
    let seen = next(&mut watch).await.record.revision;
    assert_eq!(watch.progress(), Some(seen));
    // What happens to other resources is progress too, or an idle watch would fall out of the history.
    let other = write(&store, &key("services", "default", "s"), "v").await;
    assert_eq!(watch.progress(), Some(other));
}

async fn waiting_for_a_revision(fixture: impl Fixture) {
    let store = fixture.open();
    let start = store.revision();
    store.wait_for(start, Duration::ZERO).await.unwrap();
    let late = store.wait_for(start.next(), Duration::from_millis(20)).await;
    assert_eq!(late, Err(FutureRevision { requested: start.next(), current: start }));
    let new = pod("a");
    let (reached, written) = tokio::join!(store.wait_for(start.next(), DEADLINE), write(&store, &new, "v"));
    reached.unwrap();
    assert_eq!(written, start.next());
}

async fn closing_ends_watches_and_writes(fixture: impl Fixture) {
    let store = fixture.open();
    let mut watch = store.watch("pods", store.revision()).unwrap();
    write(&store, &pod("a"), "v").await;
    within(store.close()).await;
    // What was written before is still delivered.
    assert_eq!(&*next(&mut watch).await.record.key.name, "a");
    assert_eq!(closed(&mut watch).await, WatchClosed::StoreClosed);
    assert!(matches!(create(&store, &pod("b"), "v").await, Err(CommitError::Closed)));
    assert!(store.get(&pod("a")).is_some());
    within(store.close()).await;
}

async fn records_survive_and_revisions_grow(fixture: impl Fixture) {
    let store = fixture.open();
    write(&store, &pod("gone"), "v").await;
    let kept = write(&store, &pod("kept"), "v").await;
    write(&store, &key("nodes", "", "n"), "node").await;
    let last = remove(&store, &pod("gone")).await;
    let (nodes, pods) = (listing(&store, "nodes", None), listing(&store, "pods", None));
    within(store.close()).await;

    let store = fixture.open();
    assert_eq!((listing(&store, "nodes", None), listing(&store, "pods", None)), (nodes, pods));
    let record = store.get(&pod("kept")).unwrap();
    assert_eq!((record.revision, record.head.uid()), (kept, "v"));
    assert!(store.revision() > last);
    // The history before is gone, and whoever wants it is told.
    assert_eq!(store.watch("pods", last).unwrap_err().oldest, store.revision());
    assert!(write(&store, &pod("new"), "v").await > last);
}

async fn volatile_records_do_not_survive_but_their_revisions_count(fixture: impl Fixture) {
    let store = fixture.open();
    let kept = write(&store, &pod("kept"), "v").await;
    let mut last = kept;
    // More than the block of revisions that one durable mark covers.
    for number in 0..1500 {
        last = write(&store, &key("events", "default", &(number % 7).to_string()), "e").await;
    }
    assert_eq!(listing(&store, "events", None).len(), 7);
    within(store.close()).await;

    let store = fixture.open();
    assert!(listing(&store, "events", None).is_empty());
    assert_eq!(listing(&store, "pods", None), [format!("default/kept=v@{kept}")]);
    assert!(store.revision() > last);
}

async fn volatile_records_are_bounded(fixture: impl Fixture) {
    let store = Store::open(fixture.backend(), minisvc_store::Options { volatile_records: 3, ..options() }).unwrap();
    let event = |name: &str| key("events", "default", name);
    let mut watch = store.watch("events", store.revision()).unwrap();
    for name in ["a", "b", "c"] {
        write(&store, &event(name), name).await;
    }
    // Written again, so no longer the oldest.
    write(&store, &event("a"), "a").await;
    write(&store, &event("d"), "d").await;
    for _ in 0..5 {
        assert_ne!(next(&mut watch).await.kind, EventKind::Deleted);
    }
    let dropped = next(&mut watch).await;
    let revision = dropped.record.revision;
    assert_eq!(shown(&dropped), format!("DELETED b b@{revision}"));
    let names: Vec<_> = store.list("events", None).0.iter().map(|record| record.key.name.to_string()).collect();
    assert_eq!(names, ["a", "c", "d"]);
    // A deletion by the user makes room as well.
    remove(&store, &event("c")).await;
    write(&store, &event("e"), "e").await;
    assert!(write(&store, &pod("p"), "v").await > revision);
    assert_eq!(listing(&store, "events", None).len(), 3);
}

async fn large_values_come_back_whole(fixture: impl Fixture) {
    let store = fixture.open();
    let large = noise(1 << 20);
    let revision = write(&store, &pod("large"), &large).await;
    let edges: Vec<usize> = [16_384 - 11, 2 * 16_384 - 19].iter().flat_map(|edge| edge - 8..edge + 2).collect();
    for length in &edges {
        write(&store, &pod(&length.to_string()), &noise(*length)).await;
    }
    let before = listing(&store, "pods", None);
    within(store.close()).await;
    let store = fixture.open();
    assert_eq!(text(&store.get(&pod("large")).unwrap().value), format!("{large}@{revision}"));
    assert_eq!(listing(&store, "pods", None), before);
}

async fn values_shrink_and_grow(fixture: impl Fixture) {
    let store = fixture.open();
    for length in [100_000, 10, 50_000, 200_000, 20_000] {
        write(&store, &pod("a"), &noise(length)).await;
        write(&store, &pod("b"), &noise(length)).await;
    }
    remove(&store, &pod("b")).await;
    let before = listing(&store, "pods", None);
    within(store.close()).await;
    let store = fixture.open();
    assert_eq!(listing(&store, "pods", None), before);
    // Nothing of the removed one is left behind to be mixed into its successor.
    let revision = write(&store, &pod("b"), "short").await;
    within(store.close()).await;
    assert_eq!(text(&fixture.open().get(&pod("b")).unwrap().value), format!("short@{revision}"));
}

async fn limits_and_misuse_are_refused(fixture: impl Fixture) {
    let store = fixture.open();
    let start = store.revision();
    let twice = txn(vec![], vec![put(&pod("a"), "1"), put(&pod("a"), "2")]);
    assert!(matches!(store.commit(twice).await, Err(CommitError::Repeated(_))));
    let many = (0..=Txn::MAX_OPS).map(|number| put(&pod(&number.to_string()), "v")).collect();
    assert!(matches!(store.commit(txn(vec![], many)).await, Err(CommitError::TooManyOps(_))));
    let large = txn(vec![], vec![put(&pod("a"), &"x".repeat(Txn::MAX_VALUE))]);
    assert!(matches!(store.commit(large).await, Err(CommitError::TooLarge { .. })));
    let nul = txn(vec![], vec![put(&pod("a\0b"), "v")]);
    assert!(matches!(store.commit(nul).await, Err(CommitError::BadKey(_))));
    assert_eq!((store.revision(), listing(&store, "pods", None)), (start, vec![]));
}

async fn a_panic_while_encoding_harms_only_its_transaction(fixture: impl Fixture) {
    let store = fixture.open();
    let panics = minisvc_store::Op::put(pod("b"), |_| panic!("on purpose"));
    let result = store.commit(txn(vec![], vec![put(&pod("a"), "v"), panics])).await;
    assert!(matches!(result, Err(CommitError::Encode(key)) if key == pod("b")));
    assert_eq!(store.get(&pod("a")), None);
    create(&store, &pod("c"), "v").await.unwrap();
}

async fn a_dropped_request_is_done_all_the_same(fixture: impl Fixture) {
    let store = fixture.open();
    let mut watch = store.watch("pods", store.revision()).unwrap();
    let both = txn(vec![], vec![put(&pod("a"), "v"), put(&pod("b"), "v")]);
    // Polled once: queued, then abandoned.
    let abandoned =
        tokio::select! { biased; done = store.commit(both) => done.is_err(), () = std::future::ready(()) => true };
    assert!(abandoned);
    assert_eq!(&*next(&mut watch).await.record.key.name, "a");
    assert_eq!(&*next(&mut watch).await.record.key.name, "b");
}

async fn many_writers_each_get_their_own_revision(fixture: impl Fixture) {
    let store = fixture.open();
    let writers = (0..64).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { write(&store, &pod(&number.to_string()), "v").await })
    });
    let mut revisions = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        revisions.push(within(writer).await.unwrap());
    }
    revisions.sort();
    revisions.dedup();
    assert_eq!((revisions.len(), store.list("pods", None).0.len()), (64, 64));
}

async fn what_a_resource_is_worth_is_told_without_reading_it(fixture: impl Fixture) {
    let store = fixture.open();
    let before = store.changed_at(&["pods", "nodes"]);
    assert_eq!((before, store.commits()), (store.revision(), 0));
    let first = create(&store, &pod("a"), "a").await.unwrap();
    assert_eq!((store.changed_at(&["pods"]), store.changed_at(&["nodes", "pods"])), (first, first));
    create(&store, &key("leases", "default", "l"), "l").await.unwrap();
    assert_eq!((store.changed_at(&["pods"]), store.commits()), (first, 2));
    let watch = store.watch("pods", first).unwrap();
    let watchers = || store.watchers().into_iter().find(|(resource, _)| &**resource == "pods").unwrap().1;
    assert_eq!(watchers(), 1);
    drop(watch);
    assert_eq!(watchers(), 0);
    let gone = store.commit(txn(vec![], vec![delete(&pod("a"), "a")])).await.unwrap();
    assert_eq!(store.changed_at(&["pods"]), gone);
}
