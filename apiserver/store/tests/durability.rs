//! What is promised about the disk: locks, formats, damaged files, full disks, and the order of sync and answer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod common;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::*;
use minisvc_store::{
    Backend, BackendError, Batch, CommitError, FORMAT, Loaded, MemoryBackend, OpenError, SledBackend, SledOptions,
    Store,
};

fn open(directory: &Path) -> Result<Store, OpenError> {
    Store::open(SledBackend::open(directory, SledOptions::default())?, options())
}

fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn snapshots(directory: &Path) -> Vec<PathBuf> {
    let mut found = files(&directory.join("objects"));
    found.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snap."));
    found
}

#[tokio::test]
async fn a_second_instance_is_told_who_is_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let refused = open(directory.path()).unwrap_err();
    let OpenError::Locked { path, pid } = &refused else { panic!("{refused:?}") };
    assert_eq!((path.as_path(), *pid), (directory.path(), Some(std::process::id())));
    let sentence = refused.to_string();
    assert!(sentence.contains("in use by another minisvc (pid ") && sentence.contains("--state-dir"), "{sentence}");
    // The first one is unharmed, and the lock ends with it.
    write(&store, &pod("a"), "v").await;
    within(store.close()).await;
    assert_eq!(listing(&open(directory.path()).unwrap(), "pods", None).len(), 1);
}

#[tokio::test]
async fn another_format_is_refused_with_both_versions_and_a_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    write(&store, &pod("a"), "v").await;
    within(store.close()).await;
    let format = directory.path().join("format");
    assert_eq!(fs::read_to_string(&format).unwrap(), format!("{FORMAT}\n"));

    fs::write(&format, "7\n").unwrap();
    let sentence = open(directory.path()).unwrap_err().to_string();
    for part in ["format 7".to_owned(), format!("reads format {FORMAT}"), "--state-dir".to_owned()] {
        assert!(sentence.contains(&part), "{sentence}");
    }
    // Objects without a mark were never ours: refused as well, and not touched.
    fs::remove_file(&format).unwrap();
    assert!(matches!(open(directory.path()), Err(OpenError::Format { found, .. }) if found == "unknown"));
    fs::write(&format, format!("{FORMAT}\n")).unwrap();
    assert_eq!(listing(&open(directory.path()).unwrap(), "pods", None).len(), 1);
}

#[tokio::test]
async fn a_directory_of_the_earlier_format_is_read_and_becomes_one_of_this() {
    let directory = tempfile::tempdir().unwrap();
    let raw = || sled::Config::new().path(directory.path().join("objects")).segment_size(2 << 20).open().unwrap();
    // As version 1 wrote it: encoding, revision, number of chunks, and the object as it is.
    let db = raw();
    db.insert(b"pods\0default\0old\0\0\0", [&[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1][..], b"v@9"].concat()).unwrap();
    db.flush().unwrap();
    drop(db);
    fs::write(directory.path().join("format"), "1\n").unwrap();
    let store = open(directory.path()).unwrap();
    assert_eq!(listing(&store, "pods", None), ["default/old=v@9"]);
    assert_eq!(fs::read_to_string(directory.path().join("format")).unwrap(), format!("{FORMAT}\n"));
    // What is written now is packed where that is less.
    let long = "minisvc ".repeat(100);
    write(&store, &pod("new"), &long).await;
    within(store.close()).await;
    let db = raw();
    let packed = db.get(b"pods\0default\0new\0\0\0").unwrap().unwrap();
    assert!(packed[0] == 2 && packed.len() < 100, "{packed:?}");
    drop(db);
    let listed = listing(&open(directory.path()).unwrap(), "pods", None);
    assert!(listed[0].contains(&long) && listed[1].contains("v@9"), "{listed:?}");
}

#[tokio::test]
async fn a_record_of_an_unknown_encoding_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    write(&store, &pod("odd"), "v").await;
    within(store.close()).await;
    let db = sled::Config::new().path(directory.path().join("objects")).segment_size(2 << 20).open().unwrap();
    let key = b"pods\0default\0odd\0\0\0";
    let mut value = db.get(key).unwrap().unwrap().to_vec();
    value[0] = 9;
    db.insert(key, value).unwrap();
    db.flush().unwrap();
    drop(db);
    let OpenError::Backend(error) = open(directory.path()).unwrap_err() else { panic!("another error") };
    let sentence = error.to_string();
    assert!(sentence.contains("pods/default/odd") && sentence.contains("encoding 9"), "{sentence}");
}

#[tokio::test]
async fn a_damaged_snapshot_is_set_aside_and_nothing_is_lost() {
    for damage in ["emptied", "scribbled on", "cut"] {
        let directory = tempfile::tempdir().unwrap();
        let mut last = String::new();
        // Several lives, so that the snapshot that is damaged covers some of the log, and the log goes on after it.
        for life in 0..3 {
            let store = open(directory.path()).unwrap();
            for number in 0..100 {
                write(&store, &pod(&format!("{number}")), &format!("{life} {}", noise(number * 300))).await;
            }
            remove(&store, &pod(&life.to_string())).await;
            last = listing(&store, "pods", None).join("\n");
            within(store.close()).await;
        }
        let found = snapshots(directory.path());
        assert!(!found.is_empty(), "sled writes a snapshot when it opens a directory again");
        for snapshot in &found {
            let mut bytes = fs::read(snapshot).unwrap();
            match damage {
                "emptied" => bytes.clear(),
                "cut" => bytes.truncate(bytes.len() / 2),
                _ => bytes.iter_mut().step_by(3).for_each(|byte| *byte ^= 0x55),
            }
            fs::write(snapshot, bytes).unwrap();
        }
        let store = open(directory.path()).unwrap();
        assert_eq!(listing(&store, "pods", None).join("\n"), last, "{damage}");
        let aside = files(&directory.path().join("objects"));
        assert!(aside.iter().any(|path| path.to_string_lossy().contains("set-aside.snap.")), "{aside:?}");
        write(&store, &pod("after"), "v").await;
        within(store.close()).await;
        assert!(open(directory.path()).unwrap().get(&pod("after")).is_some());
    }
}

#[tokio::test]
async fn no_value_ever_lands_in_a_file_that_is_not_synced() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = || files(&directory.path().join("objects/blobs"));
    let mut expected = String::new();
    for _ in 0..3 {
        let store = open(directory.path()).unwrap();
        // Full chunks under the longest names, overwritten often: leaves at their fattest, rewritten as a whole.
        for round in 0..6 {
            for number in 0..24 {
                let long = key("pods", &"n".repeat(253), &format!("{}{number:03}", "p".repeat(250)));
                let length = (number * 7_000 + round * 16_000) % 90_000;
                write(&store, &long, &noise(length)).await;
            }
            write(&store, &pod("megabyte"), &noise(1 << 20)).await;
        }
        assert_eq!(blobs(), Vec::<PathBuf>::new());
        expected = listing(&store, "pods", None).join("\n");
        within(store.close()).await;
    }
    assert_eq!(blobs(), Vec::<PathBuf>::new());
    assert_eq!(listing(&open(directory.path()).unwrap(), "pods", None).join("\n"), expected);
}

#[tokio::test]
async fn the_sync_returns_before_the_answer_and_covers_the_write() {
    let directory = tempfile::tempdir().unwrap();
    let (began, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    // The store under test, so that the sync can look at what is visible while it runs.
    let slot: Arc<Mutex<Option<Store>>> = Arc::default();
    let sync = {
        let (began, done, slot) = (Arc::clone(&began), Arc::clone(&done), Arc::clone(&slot));
        move |file: &File| {
            let number = began.fetch_add(1, Ordering::SeqCst);
            let name = format!("p{number}");
            if let Some(store) = &*slot.lock().unwrap() {
                assert!(store.get(&pod(&name)).is_none(), "{name} is visible before it is durable");
            }
            file.sync_data()?;
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    };
    let backend = SledBackend::open(directory.path(), SledOptions { sync: Arc::new(sync), ..SledOptions::default() });
    let store = Store::open(backend.unwrap(), options()).unwrap();
    *slot.lock().unwrap() = Some(store.clone());
    for number in 0..50 {
        write(&store, &pod(&format!("p{number}")), "v").await;
        assert_eq!(done.load(Ordering::SeqCst), number + 1);
    }
    // Volatile writes within a block of revisions cost no sync.
    for number in 0..50 {
        write(&store, &key("events", "default", &number.to_string()), "e").await;
    }
    assert_eq!(began.load(Ordering::SeqCst), 50);
    slot.lock().unwrap().take();
}

#[tokio::test]
async fn waiting_writers_share_a_sync() {
    let directory = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicU64::new(0));
    let sync = {
        let syncs = Arc::clone(&syncs);
        move |file: &File| {
            syncs.fetch_add(1, Ordering::SeqCst);
            file.sync_data()
        }
    };
    let backend = SledBackend::open(directory.path(), SledOptions { sync: Arc::new(sync), ..SledOptions::default() });
    let store = Store::open(backend.unwrap(), options()).unwrap();
    let names: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let writes = names.iter().map(|name| {
        let store = store.clone();
        async move { write(&store, &pod(name), "v").await }
    });
    within(futures::future::join_all(writes)).await;
    assert_eq!(store.list("pods", None).0.len(), 200);
    assert!(syncs.load(Ordering::SeqCst) <= 100, "{syncs:?} syncs for 200 writes");
}

/// A backend that fails on demand, after or before the write took effect.
#[derive(Clone, Default)]
struct Flaky {
    inner: MemoryBackend,
    failing: Arc<AtomicBool>,
    half_done: Arc<AtomicBool>,
    panicking: Arc<AtomicBool>,
}

impl Backend for Flaky {
    fn load(&mut self) -> Result<Loaded, BackendError> {
        self.inner.load()
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), BackendError> {
        assert!(!self.panicking.load(Ordering::SeqCst), "on purpose");
        if self.half_done.load(Ordering::SeqCst) {
            self.inner.commit(batch)?;
        }
        if self.failing.load(Ordering::SeqCst) {
            let source = io::Error::from(io::ErrorKind::StorageFull);
            return Err(BackendError::Io { path: "db".into(), source });
        }
        if self.half_done.load(Ordering::SeqCst) { Ok(()) } else { self.inner.commit(batch) }
    }
}

#[tokio::test]
async fn what_could_not_be_kept_is_never_seen() {
    for half_done in [false, true] {
        let backend = Flaky::default();
        backend.half_done.store(half_done, Ordering::SeqCst);
        let store = Store::open(backend.clone(), options()).unwrap();
        let at = write(&store, &pod("a"), "old").await;
        write(&store, &pod("b"), "old").await;
        let start = store.revision();
        let mut watch = store.watch("pods", start).unwrap();
        let before = listing(&store, "pods", None);

        backend.failing.store(true, Ordering::SeqCst);
        let ops = || vec![put(&pod("a"), "new"), delete(&pod("b"), "b"), put(&pod("c"), "new")];
        for _ in 0..2 {
            let refused = store.commit(txn(vec![], ops())).await;
            assert!(matches!(refused, Err(CommitError::Backend(_))), "{refused:?}");
        }
        assert_eq!((listing(&store, "pods", None), store.revision()), (before.clone(), start));
        assert!(watch.try_next().unwrap().is_none());

        // The next write works, is the first that watchers see, and puts right what the failed ones left behind.
        backend.failing.store(false, Ordering::SeqCst);
        let after = write(&store, &pod("d"), "new").await;
        assert!(after > start);
        assert_eq!(shown(&next(&mut watch).await), format!("ADDED d new@{after}"));
        let expected = listing(&store, "pods", None);
        assert_eq!(store.get(&pod("a")).unwrap().revision, at);
        within(store.close()).await;
        let reopened = Store::open(backend, options()).unwrap();
        assert_eq!(listing(&reopened, "pods", None), expected, "half done: {half_done}");
    }
}

#[tokio::test]
async fn a_panic_in_the_backend_is_an_error_like_any_other() {
    let backend = Flaky::default();
    let store = Store::open(backend.clone(), options()).unwrap();
    backend.panicking.store(true, Ordering::SeqCst);
    let refused = create(&store, &pod("a"), "v").await;
    assert!(matches!(refused, Err(CommitError::Backend(error)) if matches!(*error, BackendError::Panicked)));
    backend.panicking.store(false, Ordering::SeqCst);
    create(&store, &pod("a"), "v").await.unwrap();
}

#[tokio::test]
async fn after_a_failed_sync_nothing_more_is_promised() {
    let directory = tempfile::tempdir().unwrap();
    let failing = Arc::new(AtomicBool::new(false));
    let sync = {
        let failing = Arc::clone(&failing);
        move |file: &File| {
            if failing.load(Ordering::SeqCst) { Err(io::Error::other("on purpose")) } else { file.sync_data() }
        }
    };
    let backend = SledBackend::open(directory.path(), SledOptions { sync: Arc::new(sync), ..SledOptions::default() });
    let store = Store::open(backend.unwrap(), options()).unwrap();
    write(&store, &pod("a"), "v").await;
    failing.store(true, Ordering::SeqCst);
    assert!(matches!(create(&store, &pod("b"), "v").await, Err(CommitError::Backend(_))));
    // The disk is well again, but what it dropped in between is not.
    failing.store(false, Ordering::SeqCst);
    let refused = create(&store, &pod("c"), "v").await;
    assert!(matches!(refused, Err(CommitError::Backend(error)) if matches!(*error, BackendError::Broken(_))));
    assert!(store.get(&pod("a")).is_some());
    within(store.close()).await;
    write(&open(directory.path()).unwrap(), &pod("c"), "v").await;
}
