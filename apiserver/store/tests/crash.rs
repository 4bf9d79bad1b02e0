//! Kills a writing process at random moments, hundreds of times on one directory, and holds it to its acknowledgements.
//!
//! The child is this binary again. When it starts it reports everything it finds, then writes and reports each
//! transaction before and after. So every life is the check of the one before, and no life ends cleanly.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::*;
use minisvc_store::{CommitError, Expectation, Key, Op, Options, Revision, SledBackend, SledOptions, Store};

const CHILD: &str = "MINISVC_STORE_CRASH_CHILD";
const ROUNDS: u64 = 300;
const WRITERS: u64 = 4;
const KEYS: u64 = 12;

#[test]
fn acknowledged_writes_survive_being_killed() {
    if let Ok(directory) = env::var(CHILD) {
        live(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let mut random = Random(0x5eed);
    for round in 0..ROUNDS {
        let mut child = spawn(directory.path(), round);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Some lives end while they are still opening the store, most after some writes.
        let patience = if random.below(8) == 0 { 0 } else { model.acknowledged + random.below(25) };
        let mut life = Life::default();
        while model.acknowledged < patience {
            model.hear(&mut life, &lines.next().unwrap().unwrap());
        }
        thread::sleep(Duration::from_micros(random.below(4000)));
        kill(&mut child);
        for line in lines {
            model.hear(&mut life, &line.unwrap());
        }
    }
    let mut life = Life::default();
    let store = open(directory.path());
    report(&store, &mut |line| model.hear(&mut life, line));
    println!("{} acknowledged in {} lives, {} addresses", model.acknowledged, model.lives, model.allocated.len());
    assert!(model.acknowledged > ROUNDS * 5, "only {} writes were acknowledged", model.acknowledged);
    assert!(model.lives > ROUNDS / 2, "only {} lives got as far as opening", model.lives);
    assert!(!model.allocated.is_empty());
}

fn spawn(directory: &Path, round: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "acknowledged_writes_survive_being_killed", "--nocapture"])
        .env(CHILD, directory)
        .env("ROUND", round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// SIGKILL, and gone when this returns.
fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What the parent believes.
#[derive(Default)]
struct Model {
    /// The acknowledged content of every key.
    known: BTreeMap<String, String>,
    /// Transactions that were begun and not acknowledged when their process was killed.
    in_doubt: Vec<Begun>,
    /// Addresses given away.
    allocated: BTreeSet<String>,
    revisions: HashSet<u64>,
    newest: u64,
    acknowledged: u64,
    lives: u64,
}

/// A transaction as announced: the new content of each key, `-` for none.
type Begun = Vec<(String, String)>;

/// What the parent has heard in one life.
#[derive(Default)]
struct Life {
    opened_at: u64,
    found: BTreeMap<String, String>,
    ready: bool,
    begun: BTreeMap<String, Begun>,
}

impl Model {
    fn hear(&mut self, life: &mut Life, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["at", revision] => {
                life.opened_at = revision.parse().unwrap();
                // A revision was given out again if this is not greater than all that were acknowledged.
                assert!(
                    life.opened_at > self.newest || self.acknowledged == 0,
                    "{line}, but {} was given",
                    self.newest
                );
            }
            ["found", key, content] => {
                life.found.insert(key.to_owned(), content.to_owned());
            }
            ["ready"] => self.check(life),
            ["begin", writer, ref changes @ ..] => {
                assert!(life.ready);
                let changes = changes.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
                self.in_doubt.push(Vec::clone(&changes));
                life.begun.insert(writer.to_owned(), changes);
            }
            ["ack", writer, revision] => {
                let revision = revision.parse().unwrap();
                assert!(revision > life.opened_at && self.revisions.insert(revision), "{line}");
                self.newest = self.newest.max(revision);
                self.acknowledged += 1;
                let begun = life.begun.remove(writer).unwrap();
                self.in_doubt.retain(|doubt| *doubt != begun);
                self.settle(&begun);
            }
            ["refused", writer] => {
                let begun = life.begun.remove(writer).unwrap();
                self.in_doubt.retain(|doubt| *doubt != begun);
            }
            // The test harness of the child.
            _ => assert!(!line.contains("torn") && !line.contains("FAILED"), "{line}"),
        }
    }

    fn settle(&mut self, begun: &Begun) {
        for (key, content) in begun {
            if content == "-" {
                self.known.remove(key);
                continue;
            }
            if key.starts_with("+addresses/") {
                let fresh = self.allocated.insert(key.clone());
                assert!(fresh, "{key} was given away twice");
            }
            self.known.insert(key.clone(), content.clone());
        }
    }

    /// Compares what a new life found with what was acknowledged: each transaction in doubt has happened entirely
    /// or not at all, and there is nothing else.
    fn check(&mut self, life: &mut Life) {
        self.lives += 1;
        let happened = |begun: &Begun| {
            begun.iter().all(|(key, content)| life.found.get(key).map_or("-", String::as_str) == content)
        };
        let (done, undone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.in_doubt).into_iter().partition(happened);
        for begun in done {
            self.settle(&begun);
        }
        for begun in undone {
            let as_before = begun.iter().all(|(key, _)| life.found.get(key) == self.known.get(key));
            assert!(as_before, "half of {begun:?} happened: {:?}", life.found);
        }
        assert_eq!(life.found, self.known);
        life.ready = true;
    }
}

// The child.

fn options() -> Options {
    Options::new(parse_head, volatile)
}

fn open(directory: &Path) -> Store {
    Store::open(SledBackend::open(directory, SledOptions::default()).unwrap(), options()).unwrap()
}

/// Everything in the store, in words; content is named by its number, after it was checked byte for byte.
fn report(store: &Store, say: &mut dyn FnMut(&str)) {
    say(&format!("at {}", store.revision()));
    for resource in ["objects", "+addresses"] {
        for record in store.list(resource, None).0 {
            let id: u64 = text(&record.value).split(':').next().unwrap().parse().unwrap();
            let whole = record.value == content(id);
            say(&format!("{} {} {id}", if whole { "found" } else { "torn" }, path(&record.key)));
        }
    }
    say("ready");
}

fn path(key: &Key) -> String {
    format!("{}/{}", key.resource, key.name)
}

/// The content with this number: mostly small, sometimes of several chunks.
fn content(id: u64) -> String {
    let mut random = Random(id);
    let length = if random.below(12) == 0 { random.below(90_000) } else { random.below(1500) };
    let fill = char::from(b'a' + u8::try_from(random.below(26)).unwrap());
    let length = usize::try_from(length).unwrap();
    // Half of them are packed.
    let text = if id.is_multiple_of(2) { fill.to_string().repeat(length) } else { noise(length) };
    format!("{id}:{text}")
}

fn say(line: &str) {
    // One write per line, so that a kill leaves whole lines in the pipe.
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn live(directory: &Path) -> ! {
    let round: u64 = env::var("ROUND").unwrap().parse().unwrap();
    let store = open(directory);
    report(&store, &mut say);
    let next_id = std::sync::Arc::new(AtomicU64::new(round * 1_000_000 + 1));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let writers = (0..WRITERS).map(|writer| {
            let (store, next_id) = (store.clone(), std::sync::Arc::clone(&next_id));
            async move {
                let mut random = Random(round * WRITERS + writer + 1);
                loop {
                    step(&store, writer, &mut random, &next_id).await;
                }
            }
        });
        futures::future::join_all(writers).await;
    });
    unreachable!("writers write until they are killed")
}

/// One transaction of one writer, announced before and reported after.
async fn step(store: &Store, writer: u64, random: &mut Random, next_id: &AtomicU64) {
    // Every writer has objects of its own, so that at most one transaction of each object is in doubt.
    let object = |number: u64| key("objects", "", &format!("w{writer}-{number}"));
    let mut changes: Vec<(Key, Option<u64>)> = Vec::new();
    let mut expect = Vec::new();
    let fresh = || Some(next_id.fetch_add(1, Ordering::Relaxed));
    let first = random.below(KEYS);
    match random.below(10) {
        0 => {
            let event = key("events", "", &first.to_string());
            store.commit(txn(vec![], vec![put(&event, "e")])).await.unwrap();
            return;
        }
        1 | 2 if store.get(&object(first)).is_some() => changes.push((object(first), None)),
        3 | 4 => {
            // As the API server allocates: look for a free one, take it together with its owner, lose races gracefully.
            let (taken, _) = store.list("+addresses", None);
            let address = key("+addresses", "", &format!("{:06}", taken.len()));
            expect.push(Expectation::Absent(address.clone()));
            changes.extend([(address, fresh()), (object(first), fresh())]);
        }
        5 | 6 => changes.extend((0..3).map(|offset| (object((first + offset) % KEYS), fresh()))),
        _ => changes.push((object(first), fresh())),
    }
    let words: Vec<String> = changes
        .iter()
        .map(|(key, id)| format!(" {} {}", path(key), id.map_or_else(|| "-".to_owned(), |id| id.to_string())))
        .collect();
    say(&format!("begin {writer}{}", words.concat()));
    let ops = changes.into_iter().map(|(key, id)| match id {
        Some(id) => Op::put(key, move |_| content(id).into()),
        None => delete(&key, "gone"),
    });
    match store.commit(txn(expect, ops.collect())).await {
        Ok(Revision(revision)) => say(&format!("ack {writer} {revision}")),
        Err(CommitError::Conflict(_)) => say(&format!("refused {writer}")),
        Err(other) => panic!("{other}"),
    }
}

/// SplitMix64: random enough for a test, and the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
